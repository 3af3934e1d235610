// Package nats keeps events in streams of NATS JetStream (2.10 or newer), one for each topic.
//
// # What is in the server
//
// An event of the topic "orders" in the namespace "shop" is in the stream PREFIX_shop_orders under the subject PREFIX.shop.orders.N: N is the
// part of the topic that its ordering key belongs to, events without a key are spread. Letters, digits and '-' of a topic's name stay
// as they are; other bytes are '_' and two hex digits. What others publish to PREFIX.shop.orders belongs to part 0.
//
// Events are in the binary mode of the CloudEvents binding: attributes are headers (ce-id, ce-source, ..., content-type), whose bytes that no
// header may have are percent-encoded; the ordering key is the header outrigger-key, and the data the message's body. Other producers'
// messages are delivered with what can be read of them.
//
// What groups keep is in the stream PREFIX-groups, the last message of each subject. With H for the first 32 digits of the SHA-256 of topic
// and group, PREFIX-groups.H. begins those of one: g says where the group began, p.N how far part N is and which sidecar has it, m.SIDECAR that a
// sidecar is there, t.N.SIDECAR how deliveries of part N ended that it had when it gave the part up. Each part is written by the one
// that has it, against what it wrote last: one that has lost it unknowingly is refused.
package nats

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/outrigger-mesh/outrigger/components"
	"github.com/outrigger-mesh/outrigger/components/internal/backend"
	"github.com/outrigger-mesh/outrigger/components/pubsub"
)

func init() {
	components.Register(pubsub.Drivers, "nats", Options{Addresses: []string{"127.0.0.1:4222"}, Timeout: 3 * time.Second, Prefix: "outrigger", Parts: 8, Replicas: 3,
		Retention: 7 * 24 * time.Hour, Idempotency: 24 * time.Hour, SessionTimeout: 10 * time.Second, Heartbeat: 500 * time.Millisecond, Ahead: 32 << 20,
		Delivery: pubsub.DefaultPolicy}, Open)
}

// Options of the driver.
type Options struct {
	Addresses      []string          `yaml:"addresses" doc:"HOST:PORT of some servers, which know of the others"`
	TLS            backend.TLS       `yaml:"tls"`
	User           string            `yaml:"user" doc:"who the sidecar is; it needs PREFIX.>, PREFIX-groups.>, $JS.API.> and _INBOX.>"`
	Password       components.Secret `yaml:"password" doc:"the user's"`
	Token          components.Secret `yaml:"token" doc:"in place of a user"`
	NKey           string            `yaml:"nkey" doc:"file of the seed of an NKey, in place of a user"`
	Creds          string            `yaml:"creds" doc:"file of a JWT with its seed, in place of a user"`
	Timeout        time.Duration     `yaml:"timeout" doc:"how long a server may take to be dialled, and to answer; a publication may take three times as long, while leaders change"`
	Prefix         string            `yaml:"prefix" doc:"what the names of streams and subjects begin with"`
	Parts          int               `yaml:"parts" doc:"parts of a topic that is made: as many sidecars can share a group"`
	Replicas       int               `yaml:"replicas" doc:"copies of streams that are made, on so many servers; fewer than 3 need synced or allow_loss"`
	Synced         bool              `yaml:"synced" doc:"the servers have sync_interval: always, which they cannot be asked for"`
	AllowLoss      bool              `yaml:"allow_loss" doc:"take servers that may forget what they have acknowledged"`
	Retention      time.Duration     `yaml:"retention" doc:"how long topics that are made keep an event, handled or not"`
	Idempotency    time.Duration     `yaml:"idempotency" doc:"how long an idempotency key gives the first answer again; the server holds the keys of that time in memory"`
	SessionTimeout time.Duration     `yaml:"session_timeout" doc:"after which a sidecar that is not heard of has left its groups, and others go on with its events"`
	Heartbeat      time.Duration     `yaml:"heartbeat" doc:"how often a sidecar says that it is there, and a server that it has nothing to say"`
	Ahead          components.Size   `yaml:"ahead" doc:"how much a group holds in memory of events that are not settled; with more it reads on when there is less"`
	Delivery       pubsub.Policy     `yaml:"delivery"`
}

// maxParts is what a sidecar may have to read at once for a group.
const maxParts = 256

// Validate implements components.Validator.
func (o Options) Validate() error {
	faults := []error{backend.CheckAddresses("addresses", o.Addresses), o.TLS.Validate(), checkPrefix(o.Prefix)}
	fault := func(wrong bool, format string, args ...any) {
		if wrong {
			faults = append(faults, fmt.Errorf(format, args...))
		}
	}
	ways := 0
	for _, one := range []bool{o.User != "", o.Token != "", o.NKey != "", o.Creds != ""} {
		if one {
			ways++
		}
	}
	fault(ways > 1, "user, token, nkey, creds: only one of them says who the sidecar is")
	fault((o.User == "") != (o.Password == ""), "user, password: they go together")
	fault(o.Timeout < 100*time.Millisecond, "timeout: %s is less than 100ms", o.Timeout)
	fault(o.Parts < 1 || o.Parts > maxParts, "parts: %d is not from 1 to %d", o.Parts, maxParts)
	fault(o.Replicas < 1 || o.Replicas > 5, "replicas: %d is not from 1 to 5", o.Replicas)
	fault(o.Replicas < 3 && !o.Synced && !o.AllowLoss, "replicas: with fewer than 3 a server that loses its power may forget events that it has acknowledged, unless it has "+
		"sync_interval: always in its jetstream settings, which it cannot be asked for: say synced: true if so, or take the loss with allow_loss: true")
	fault(o.Retention < time.Second, "retention: %s is less than 1s", o.Retention)
	fault(o.Idempotency < 100*time.Millisecond || o.Idempotency > o.Retention, "idempotency: %s is less than 100ms, or longer than retention, %s", o.Idempotency, o.Retention)
	fault(o.Heartbeat < 10*time.Millisecond || o.SessionTimeout < 3*o.Heartbeat, "session_timeout: %s is less than three heartbeats, or heartbeat, %s, is less than 10ms", o.SessionTimeout, o.Heartbeat)
	fault(o.Ahead < 5<<20, "ahead: %s is less than 5MiB, which the largest event needs", o.Ahead)
	if err := o.Delivery.Validate(); err != nil {
		faults = append(faults, fmt.Errorf("delivery: %w", err))
	}
	return errors.Join(faults...)
}

// Guarantees implements components.Describer.
func (Options) Guarantees() string {
	return `- Shared by all sidecars with the same servers, account and ` + "`prefix`" + `.
- A publication that was answered has been written to a file by a majority of the servers that keep the stream: it survives the end of processes, and with ` + "`replicas: 3`" + ` the loss of any one server. JetStream writes to the disk later (` + "`sync_interval`" + `, two minutes by default): a single server that loses its power may forget as much, and of three one that does so and comes back may help to outvote the one that knows better. With ` + "`sync_interval: always`" + ` nothing is lost; fewer than three copies are taken only with ` + "`synced: true`" + `, which says that this is set, or ` + "`allow_loss: true`" + `.
- Streams that are there already are used as they are, unless they are in memory or take events away once they are acknowledged: those are refused.
- Each group gets each event at least once, while the topic retains it. What was settled is written ten times a second, and always at an orderly end: after a crash the last of it comes again, and what was under way.
- Of the events with one ordering key a group has one unsettled at a time. Their first deliveries come in the order of publication. Events without a key have no order.
- Attempts and delays are written in the same way, and survive a crash but for the last of them. Delays go by the clocks of the sidecars.
- Parts are shared out among the sidecars by how many streams with room they have; more sidecars than ` + "`parts`" + ` wait. Within a sidecar the streams of a group share all of its events. Sidecars that come and go lose nothing, and events under way are not repeated: how long they take does not matter.
- A sidecar that is frozen, killed or cut off for longer than ` + "`session_timeout`" + ` has lost its events to the others: what it had under way comes again there.
- When ` + "`ahead`" + ` is full of events of a group that wait for their delay, or behind ordering keys that are held up, the group waits.
- Idempotency keys are the stream's message ids: a topic that is there already with a shorter ` + "`duplicate_window`" + ` refuses them. After the loss of the stream they are forgotten with it.
- A server takes messages up to its ` + "`max_payload`" + `, 1 MiB by default; 5MB are needed for the largest events. Larger ones are refused with EVENT_TOO_LARGE.
- A stream or a group that the server has lost is made again, and the group begins with the oldest event. A group is kept until somebody purges its subjects.
- ` + "`replay_from`" + ` goes by the time that the server has received events.`
}

type driver struct {
	opts    Options
	log     *slog.Logger
	conn    *conn
	release func()

	mu     sync.Mutex
	groups map[string]*group // by their subject
	tasks  sync.WaitGroup
}

var (
	_ components.Closer  = (*driver)(nil)
	_ components.Checker = (*driver)(nil)
)

// Open connects. The driver must be closed, after its sessions.
func Open(ctx context.Context, env components.Env, o Options) (pubsub.Driver, error) {
	c, release, err := components.Share(ctx, env.Shared, o.key(), o.connect, (*conn).close)
	if err != nil {
		return nil, err
	}
	if most := c.out.MaxPayload(); most < pubsub.MaxEvent {
		env.Logger.Warn("the server takes no large events: its max_payload is less than 5MB", "bytes", most)
	}
	return &driver{opts: o, log: env.Logger, conn: c, release: release, groups: map[string]*group{}}, nil
}

// Policy implements pubsub.Driver.
func (d *driver) Policy() pubsub.Policy { return d.opts.Delivery }

// Check implements components.Checker.
func (d *driver) Check(ctx context.Context) error {
	return d.conn.call(ctx, func(ctx context.Context) error { _, err := d.conn.js.AccountInfo(ctx); return err })
}

// Close implements components.Closer.
func (d *driver) Close(ctx context.Context) error {
	_, err := backend.Within(ctx, func() (any, error) { d.tasks.Wait(); return nil, nil }, func(any) error { return nil })
	d.release()
	return err
}
