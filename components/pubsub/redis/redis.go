// Package redis keeps events in streams of Redis or of a compatible server that loses nothing: one, one with replicas and sentinels, or a
// cluster.
//
// # Keys
//
// All begin with PREFIX/pubsub/COMPONENT/, C in what follows; T is {NAMESPACE/TOPIC}, so that a cluster has all of a topic on one server.
//
//	C s/T             a stream of events: e the event in CBOR, z its size, k its ordering key if it has one
//	C i/T NUL KEY     an idempotency key: fingerprint, 32 bytes, and the id of the event
//	C g/T NUL GROUP   begins those of a group, which is a group of the stream, too: what its consumers have not settled is pending there,
//	                  and what waits is pending with a consumer by the name "-". Then follows
//	  /c              a sorted set of the consumers, by when they are given up
//	  /d              a sorted set of events to be delivered again, by when
//	  /a              a hash of the attempts of events that are not settled
//	  /l              a hash of the ordering keys that are held up, each with the event that does so
//	  /w              a hash of events that are not settled, with their ordering keys
//	  /k/KEY          a list of events that wait behind an ordering key
//	  /t              a hash of what each consumer was last given, for the case that it did not hear of that
//	  /m              how often the group was moved to a time
//	C n/T             a channel: it says that there is something for a group, or for all
//
// Each step is one script, with the clock of the server.
package redis

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/outrigger-mesh/outrigger/components"
	"github.com/outrigger-mesh/outrigger/components/internal/redisconn"
	"github.com/outrigger-mesh/outrigger/components/pubsub"
)

func init() {
	components.Register(pubsub.Drivers, "redis", Options{Redis: redisconn.Defaults(), Delivery: pubsub.DefaultPolicy, Retention: 7 * 24 * time.Hour,
		MaxEvents: 1_000_000, Idempotency: 24 * time.Hour, SessionTimeout: 10 * time.Second}, Open)
}

// Options of the driver.
type Options struct {
	Redis          redisconn.Options `yaml:"redis"`
	AllowLoss      bool              `yaml:"allow_loss" doc:"take a server that may forget what it has acknowledged"`
	Retention      time.Duration     `yaml:"retention" doc:"how long a topic keeps an event, handled or not"`
	MaxEvents      int               `yaml:"max_events" doc:"how many events a topic keeps, about; beyond it the oldest go"`
	Idempotency    time.Duration     `yaml:"idempotency" doc:"how long an idempotency key gives the first answer again"`
	SessionTimeout time.Duration     `yaml:"session_timeout" doc:"after which what a sidecar has that is not heard of is delivered elsewhere"`
	Delivery       pubsub.Policy     `yaml:"delivery"`
}

// Validate implements components.Validator.
func (o Options) Validate() error {
	faults := []error{o.Redis.Validate()}
	for name, d := range map[string]time.Duration{"retention": o.Retention, "idempotency": o.Idempotency} {
		if d < time.Millisecond {
			faults = append(faults, fmt.Errorf("%s: %s is less than 1ms", name, d))
		}
	}
	if o.SessionTimeout < 300*time.Millisecond {
		faults = append(faults, fmt.Errorf("session_timeout: %s is less than 300ms", o.SessionTimeout))
	}
	if o.MaxEvents < 1 {
		faults = append(faults, fmt.Errorf("max_events: %d is less than 1", o.MaxEvents))
	}
	if err := o.Delivery.Validate(); err != nil {
		faults = append(faults, fmt.Errorf("delivery: %w", err))
	}
	return errors.Join(faults...)
}

// Guarantees implements components.Describer.
func (Options) Guarantees() string {
	return `- Shared by all sidecars with the same component name and prefix. The user needs the keys and the channels that begin with these.
- A publication that was answered is on the server's disk. For that it needs ` + "`appendonly yes`, `appendfsync always`" + ` and, where there is a ` + "`maxmemory`, `maxmemory-policy noeviction`" + `; a server with other settings is refused, unless ` + "`allow_loss: true`" + ` says that it may forget what it has acknowledged when it crashes. It is looked at when the component starts: set all servers that may become primary alike.
- With sentinels, and in a cluster with replicas, it is on a replica, too (WAIT), and ` + "`min-replicas-to-write 1`" + ` is needed. **A fail-over can still lose acknowledged events**, when a replica is chosen that has not got them, and may have events come again that were settled a moment before, within a third of ` + "`session_timeout`" + `.
- Each group gets each event at least once, while the topic retains it. What was settled is told to the server at once, and always at an orderly end: after a crash of the sidecar what was under way comes again, and what was not told yet.
- Of the events with one ordering key a group has one unsettled at a time, in whatever sidecar. Their first deliveries come in the order of publication.
- Attempts and delays are in the server, and survive whatever it does. Delays, retention and the loss of sidecars go by the server's clock.
- What a sidecar has that is killed, frozen or cut off is delivered elsewhere after ` + "`session_timeout`" + `.
- ` + "`PublishMany`" + ` is one step for each topic. Events are kept in memory: ` + "`retention` and `max_events`" + ` bound a topic, when something is published to it. A group is kept until somebody destroys it.
- A server that has lost a group, because it lost its data, is told of it again: the group begins with the oldest event there is.`
}

type driver struct {
	*redisconn.Joined
	opts Options
	log  *slog.Logger
	bell *bell
}

var (
	_ components.Closer  = (*driver)(nil)
	_ components.Checker = (*driver)(nil)
)

// Open makes an instance. It must be closed, after its sessions.
func Open(ctx context.Context, env components.Env, o Options) (pubsub.Driver, error) {
	joined, err := redisconn.Join(ctx, env, o.Redis, "pubsub")
	if err != nil {
		return nil, err
	}
	if !o.AllowLoss {
		err = joined.Durable(ctx)
	}
	if err == nil { // scripts do it, and must not break off there
		err = joined.Err(ctx, redisconn.Read, joined.Redis().Publish(ctx, joined.Prefix+"n/", "").Err())
	}
	if err != nil {
		return nil, errors.Join(err, joined.Close(ctx))
	}
	return &driver{Joined: joined, opts: o, log: env.Logger, bell: newBell(joined.Redis())}, nil
}

// Policy implements pubsub.Driver.
func (d *driver) Policy() pubsub.Policy { return d.opts.Delivery }

// Close implements components.Closer.
func (d *driver) Close(ctx context.Context) error {
	d.bell.close()
	return d.Joined.Close(ctx)
}

func topicKey(t pubsub.Topic) string { return "{" + t.Namespace + "/" + t.Name + "}" }

func (d *driver) stream(t pubsub.Topic) string  { return d.Prefix + "s/" + topicKey(t) }
func (d *driver) channel(t pubsub.Topic) string { return d.Prefix + "n/" + topicKey(t) }
func (d *driver) group(t pubsub.Topic, group string) string {
	return d.Prefix + "g/" + topicKey(t) + "\x00" + group
}
