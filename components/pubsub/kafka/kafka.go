// Package kafka keeps events in Apache Kafka, or in a server that speaks its protocol.
//
// # Names
//
// An event of the topic "orders" in the namespace "shop" is in Kafka's topic PREFIXshop.orders, and the group "billing" of that topic is
// the consumer group PREFIXshop.orders:billing. Letters, digits, '-' and '.' stay as they are; other bytes, and a '.' before what
// would look like one of them, are '_' and two hex digits. Names that are too long for Kafka end with a hash instead.
//
// # Messages
//
// Events are in the binary mode of the CloudEvents binding: the attributes are headers (ce_id, ce_source, ..., content-type), the
// ordering key is the message's key, the data its value. Other producers' messages are delivered with what can be read of them.
//
// # What a group keeps, and where
//
// A partition's offset, as Kafka knows it for the group, is that of the first event that is not settled. What is settled beyond it, and
// attempts, delays and holders of what is not, stands in the metadata of that offset. Both are one commit, and one that the
// group's coordinator refuses to a sidecar which is not in the group any more: a side topic could not be that. What does not fit
// there (4 KiB by Kafka's default) is written to the compacted topic PREFIX_outrigger-progress, and the metadata says where.
//
// Partitions change hands at once, also those with deliveries under way: the metadata name the sidecar that has those, the
// new owner leaves them alone as long as that one is in the group, and is told how they end when the group is joined anew.
package kafka

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
	components.Register(pubsub.Drivers, "kafka", Options{Addresses: []string{"127.0.0.1:9092"}, Timeout: 3 * time.Second, Create: true, Delivery: pubsub.DefaultPolicy,
		SessionTimeout: 10 * time.Second, Heartbeat: 500 * time.Millisecond, Ahead: 32 << 20}, Open)
}

// Options of the driver.
type Options struct {
	Addresses      []string        `yaml:"addresses" doc:"HOST:PORT of some brokers, which know of the others"`
	TLS            backend.TLS     `yaml:"tls"`
	SASL           SASL            `yaml:"sasl"`
	Timeout        time.Duration   `yaml:"timeout" doc:"how long a broker may take to be dialled, and to answer; a publication may take three times as long, while brokers change roles"`
	Prefix         string          `yaml:"prefix" doc:"what the names of topics and groups in Kafka begin with"`
	Create         bool            `yaml:"create" doc:"make topics that are not there"`
	Partitions     int             `yaml:"partitions" doc:"of topics that are made; 0: as many as the broker says"`
	Replicas       int             `yaml:"replicas" doc:"of topics that are made; 0: as many as the broker says"`
	Retention      time.Duration   `yaml:"retention" doc:"how long topics that are made keep an event, handled or not; 0: as long as the broker says"`
	SessionTimeout time.Duration   `yaml:"session_timeout" doc:"after which a sidecar that is not heard of has left its groups, and others go on with its events; the broker bounds it"`
	Heartbeat      time.Duration   `yaml:"heartbeat" doc:"how often a sidecar tells that it is there, and learns that others come and go"`
	Ahead          components.Size `yaml:"ahead" doc:"how much a group holds in memory of events that are not settled; with more it reads on when there is less"`
	Delivery       pubsub.Policy   `yaml:"delivery"`
}

// Validate implements components.Validator.
func (o Options) Validate() error {
	faults := []error{backend.CheckAddresses("addresses", o.Addresses), o.TLS.Validate(), o.SASL.validate(), checkPrefix(o.Prefix)}
	if o.Timeout < 100*time.Millisecond {
		faults = append(faults, fmt.Errorf("timeout: %s is less than 100ms", o.Timeout))
	}
	if o.Partitions < 0 || o.Replicas < 0 || o.Retention < 0 {
		faults = append(faults, errors.New("partitions, replicas and retention are not below 0"))
	}
	if o.Heartbeat < 10*time.Millisecond || o.SessionTimeout < 3*o.Heartbeat {
		faults = append(faults, fmt.Errorf("session_timeout: %s is less than three heartbeats, or heartbeat, %s, is less than 10ms", o.SessionTimeout, o.Heartbeat))
	}
	if o.Ahead < 5<<20 {
		faults = append(faults, fmt.Errorf("ahead: %s is less than 5MiB, which the largest event needs", o.Ahead))
	}
	if err := o.Delivery.Validate(); err != nil {
		faults = append(faults, fmt.Errorf("delivery: %w", err))
	}
	return errors.Join(faults...)
}

// Guarantees implements components.Describer.
func (Options) Guarantees() string {
	return `- A publication that was answered is in all replicas that are in sync (` + "`acks=all`" + `, idempotent producer). How many that are is for the topic to say: with three replicas and ` + "`min.insync.replicas=2`" + ` it survives the loss of any one broker; with one replica, or ` + "`min.insync.replicas=1`" + `, it may be lost with one. Kafka does not sync to the disk before it answers: what all replicas lose at once, such as power, may lose the last of it.
- Each group gets each event at least once, while the topic retains it. What was settled is committed ten times a second, and always at an orderly end: after a crash the last of it comes again, and what was under way.
- Of the events with one ordering key a group has one unsettled at a time. Their first deliveries come in the order of publication, unless the number of partitions is changed meanwhile. Events without a key have no order.
- Attempts and delays are committed in the same way, and survive a crash but for the last of them. Delays go by the clocks of the sidecars.
- Partitions are shared out among the sidecars by how many streams with room they have. There is no more than one sidecar for a partition; within a sidecar the streams of a group share all of its events. Sidecars that come and go lose nothing, and events under way are not repeated: how long they take does not matter.
- A sidecar that is frozen, or cut off, for longer than ` + "`session_timeout`" + ` has lost its events to the others: what it had under way comes again there.
- When ` + "`ahead`" + ` is full of events of a group that wait for their delay, or behind ordering keys that are held up, the group waits.
- A group that nobody has subscribed to is forgotten after the broker's ` + "`offsets.retention.minutes`" + ` (a week, by default), and new when it comes again.
- ` + "`replay_from`" + ` goes by the time that messages have in Kafka, to the millisecond. Retention is the topic's.
- There are no idempotency keys: Kafka has nothing to look them up by. A repetition by the sidecar itself is stored once.`
}

// SASL is how the sidecar proves to brokers who it is. The zero value is not at all.
type SASL struct {
	Mechanism string            `yaml:"mechanism" doc:"PLAIN, SCRAM-SHA-256 or SCRAM-SHA-512; empty: none"`
	User      string            `yaml:"user"      doc:"who the sidecar is"`
	Password  components.Secret `yaml:"password"  doc:"the user's"`
}

func (s SASL) validate() error {
	switch s.Mechanism {
	case "PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512":
		if s.User == "" || s.Password == "" {
			return errors.New("sasl: user and password are needed")
		}
	case "":
		if s != (SASL{}) {
			return errors.New("sasl: mechanism is needed")
		}
	default:
		return fmt.Errorf("sasl.mechanism: %q is not one of PLAIN, SCRAM-SHA-256, SCRAM-SHA-512", s.Mechanism)
	}
	return nil
}

type driver struct {
	opts    Options
	log     *slog.Logger
	conn    *conn
	release func()

	mu     sync.Mutex
	groups map[string]*group // by Kafka's name
	tasks  sync.WaitGroup
}

var (
	_ components.Closer  = (*driver)(nil)
	_ components.Checker = (*driver)(nil)
	_ pubsub.Restricted  = (*driver)(nil)
)

// Open dials the brokers. The driver must be closed, after its sessions.
func Open(ctx context.Context, env components.Env, o Options) (pubsub.Driver, error) {
	c, release, err := components.Share(ctx, env.Shared, o.key(), o.dial, (*conn).close)
	if err != nil {
		return nil, err
	}
	return &driver{opts: o, log: env.Logger, conn: c, release: release, groups: map[string]*group{}}, nil
}

// Policy implements pubsub.Driver.
func (d *driver) Policy() pubsub.Policy { return d.opts.Delivery }

// Offers implements pubsub.Restricted.
func (d *driver) Offers(f pubsub.Feature) bool { return f != pubsub.Idempotency }

// Check implements components.Checker.
func (d *driver) Check(ctx context.Context) error { return d.conn.check(ctx) }

// Close implements components.Closer.
func (d *driver) Close(ctx context.Context) error {
	_, err := backend.Within(ctx, func() (any, error) { d.tasks.Wait(); return nil, nil }, func(any) error { return nil })
	d.release()
	return err
}
