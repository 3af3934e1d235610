// Package redis keeps state in Redis 6 or later, Valkey or a compatible server that loses nothing: one, one with replicas and
// sentinels, or a cluster.
//
// # Keys
//
// All begin with PREFIX/state/COMPONENT/, C in what follows. Those of an application have {NAMESPACE/APP} in them, so that a cluster has
// them on one server, unless the option spread is set: then it has each where the key or its own {tag} belongs.
//
//	C v/{NAMESPACE/APP}/KEY                an item, a string: a byte for the format; its version, of 16; how long the head is, in 4; the
//	                                       head, of content type and metadata; and the value
//	C x/{NAMESPACE/APP}                    a sorted set of all KEY, in the order of their bytes
//	C e/{NAMESPACE/APP}                    a sorted set of the KEY that expire, by when
//	C f/{NAMESPACE/APP}/LOCK NUL COMPONENT the newest token seen of a lock, in 20 digits
//	C b/{NAMESPACE/APP}/GID NUL BRANCH NUL OP  a call of a branch: who claimed it, itself or other
//	C i/{NAMESPACE/APP}/KEY                an idempotency key: digest, 32 bytes; outcome, a space, versions with commas
package redis

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/outrigger-mesh/outrigger/components"
	"github.com/outrigger-mesh/outrigger/components/internal/redisconn"
	"github.com/outrigger-mesh/outrigger/components/internal/redisconn/record"
	"github.com/outrigger-mesh/outrigger/components/state"
)

func init() {
	components.Register(state.Drivers, "redis", Options{Redis: redisconn.Defaults(), Idempotency: 24 * time.Hour, Barriers: 7 * 24 * time.Hour}, Open)
}

// Options of the driver.
type Options struct {
	Redis       redisconn.Options `yaml:"redis"`
	AllowLoss   bool              `yaml:"allow_loss" doc:"take a server that may forget what it has acknowledged"`
	Spread      bool              `yaml:"spread" doc:"in a cluster: spread the keys of an application over all servers; without lists, fences, barriers and idempotency keys, and transactions only of keys in one slot"`
	Idempotency time.Duration     `yaml:"idempotency" doc:"how long an idempotency key gives the first answer again"`
	Barriers    time.Duration     `yaml:"barriers" doc:"how long the calls of a transaction's branches are remembered"`
	Fences      time.Duration     `yaml:"fences" doc:"how long the newest token of a lock is remembered after its last write; 0: for ever"`
}

// Validate implements components.Validator.
func (o Options) Validate() error {
	faults := []error{o.Redis.Validate()}
	for name, d := range map[string]time.Duration{"idempotency": o.Idempotency, "barriers": o.Barriers} {
		if d < time.Millisecond || d > state.MaxTTL {
			faults = append(faults, fmt.Errorf("%s: %s is not a time that records can be kept for", name, d))
		}
	}
	if o.Fences < 0 || o.Fences > state.MaxTTL || o.Fences > 0 && o.Fences < time.Millisecond {
		faults = append(faults, fmt.Errorf("fences: %s is not a time that records can be kept for", o.Fences))
	}
	if o.Spread && o.Redis.Mode != redisconn.Cluster {
		faults = append(faults, errors.New("spread: only in a cluster"))
	}
	return errors.Join(faults...)
}

// Guarantees implements components.Describer.
func (Options) Guarantees() string {
	return `- Shared by all sidecars with the same component name and prefix; each application has its own keys.
- An acknowledged write is on the server's disk. For that it needs ` + "`appendonly yes`, `appendfsync always`" + ` and, where
  there is a ` + "`maxmemory`, `maxmemory-policy noeviction`" + `; a server with other settings is refused, unless
  ` + "`allow_loss: true`" + ` says that it may forget what it has acknowledged when it crashes. It is looked at when the component
  starts: set all servers that may become primary alike.
- With sentinels, and in a cluster with replicas, an acknowledged write is on a replica, too (WAIT; replicas that join a cluster later are noticed within
  10 s), and ` + "`min-replicas-to-write 1`" + ` is needed, so that a primary that is cut off stops: give each primary two replicas, since one whose only replica
  has taken over writes nothing before it has another. **A fail-over can still lose acknowledged writes**: when there are several replicas and one
  is chosen that has not got them (the most advanced one is preferred), or the replica itself crashes and returns without its disk. What
  others have read meanwhile may also go when it was not acknowledged yet.
- Each transaction is one script: it happens whole or not at all, for readers, for the disk and for replicas, fences, barriers and
  idempotency keys with it. Each page of a list and each ` + "`GetMany`" + ` are of one moment.
- In a cluster the keys of an application are on one server. With ` + "`spread: true`" + ` they are on all; then there are no lists, fences,
  barriers and idempotency keys, ` + "`GetMany`" + ` is of several moments, and a transaction whose keys are in different slots is
  ` + "`INVALID_ARGUMENT`" + `. Keys with the same ` + "`{tag}`" + ` are in one slot.
- A version never comes back. Times to live run by the server's clock, and shift with it when it is set. An item that is read and
  what is left of its time are asked for one after the other.
- A write whose answer is missing has the reason ` + "`BACKEND_OUTCOME_UNKNOWN`" + `; none is sent twice. Repeat it with an idempotency key.`
}

// Open makes an instance.
func Open(ctx context.Context, env components.Env, o Options) (state.Driver, error) {
	joined, err := redisconn.Join(ctx, env, o.Redis, "state")
	if err != nil {
		return nil, err
	}
	if !o.AllowLoss {
		err = joined.Durable(ctx)
	}
	if err != nil {
		return nil, errors.Join(err, joined.Close(ctx))
	}
	d := &driver{Joined: joined, options: o}
	if o.Spread {
		return spread{d}, nil
	}
	return whole{d}, nil
}

// driver is what both have in common.
type driver struct {
	*redisconn.Joined
	options Options
	getter  record.Getter
}

// whole has all keys of an application on one server.
type whole struct{ *driver }

// spread has them where a cluster puts them.
type spread struct{ *driver }

var (
	_ state.Driver       = whole{}
	_ state.ManyGetter   = whole{}
	_ state.Driver       = spread{}
	_ state.Restricted   = spread{}
	_ components.Closer  = (*driver)(nil)
	_ components.Checker = (*driver)(nil)
)

// Offers implements state.Restricted.
func (spread) Offers(f state.Feature) bool { return f == state.Many }

// List is not offered: no server knows all keys.
func (spread) List(context.Context, string, string, int, bool) ([]state.Entry, bool, error) {
	return nil, false, fmt.Errorf("%w: a state whose keys are spread over a cluster has no lists", components.ErrUnsupported)
}

// The kinds of keys.
const (
	items       = "v/"
	index       = "x/"
	expiry      = "e/"
	fences      = "f/"
	barriers    = "b/"
	idempotency = "i/"
)

// key is where something is kept: name begins with NAMESPACE/APP/, which is all of it for an index.
func (d *driver) key(kind, name string) string {
	if d.options.Spread {
		return d.Prefix + kind + name
	}
	app, rest := split(name)
	return d.Prefix + kind + "{" + app + "}" + rest
}

// split takes NAMESPACE/APP from the front of a name.
func split(name string) (app, rest string) {
	i := strings.IndexByte(name, '/')
	j := strings.IndexByte(name[i+1:], '/')
	if i < 0 || j < 0 {
		return name, ""
	}
	return name[:i+1+j], name[i+1+j:]
}
