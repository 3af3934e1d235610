// Package rabbitmq keeps events in streams of RabbitMQ (3.9 or newer), one for each topic.
//
// # What is in the server
//
// H are the first 32 digits of the SHA-256 of a name, C is the component's name:
//
//	outrigger.C.topic.H        a stream of events, in CBOR
//	outrigger.C.group.H        a queue of tokens: who has one serves a part of the topic for the group; and an exchange that is there once the group is made
//	outrigger.C.group.H.N      a queue that keeps the last message alone: how far part N is
//	outrigger.C.group.H.seats  a queue of 8 messages, of which each sidecar that serves the group holds one: how many are left tells how many those are
//	outrigger.C.group.H.lock   a queue that there is while a group is made
//
// A topic has 8 parts for each group: an ordering key is always in the same one, events without a key are spread. A sidecar gets as many
// tokens as others do; what it has of a part that it gives up is handled first. With a connection the server takes its tokens, and gives
// them to the others.
package rabbitmq

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
	components.Register(pubsub.Drivers, "rabbitmq", Options{Addresses: []string{"127.0.0.1:5672"}, User: "guest", Vhost: "/", ConnectTimeout: 3 * time.Second,
		Heartbeat: 2 * time.Second, Retention: 7 * 24 * time.Hour, Delivery: pubsub.DefaultPolicy}, Open)
}

// Options of the driver.
type Options struct {
	Addresses      []string          `yaml:"addresses" doc:"HOST:PORT of the nodes; the first that answers is used, and when that is lost the next"`
	User           string            `yaml:"user" doc:"the user, who needs all rights on queues and exchanges that begin with outrigger."`
	Password       components.Secret `yaml:"password" doc:"its password; without TLS it goes over the network as it is"`
	Vhost          string            `yaml:"vhost" doc:"the virtual host"`
	TLS            backend.TLS       `yaml:"tls"`
	ConnectTimeout time.Duration     `yaml:"connect_timeout" doc:"how long one node may take to accept a connection"`
	Heartbeat      time.Duration     `yaml:"heartbeat" doc:"how often both sides say that they are there; after three times as long without, a connection is given up"`
	Retention      time.Duration     `yaml:"retention" doc:"how long a topic keeps an event, handled or not; of a topic that is there already it stays as it is"`
	Delivery       pubsub.Policy     `yaml:"delivery"`
}

// Validate implements components.Validator.
func (o Options) Validate() error {
	faults := []error{backend.CheckAddresses("addresses", o.Addresses), o.TLS.Validate()}
	if o.User == "" || o.Vhost == "" {
		faults = append(faults, errors.New("user, vhost: both are needed"))
	}
	if o.ConnectTimeout < 10*time.Millisecond {
		faults = append(faults, fmt.Errorf("connect_timeout: %s is less than 10ms", o.ConnectTimeout))
	}
	for name, d := range map[string]time.Duration{"heartbeat": o.Heartbeat, "retention": o.Retention} {
		if d < time.Second {
			faults = append(faults, fmt.Errorf("%s: %s is less than 1s", name, d))
		}
	}
	if err := o.Delivery.Validate(); err != nil {
		faults = append(faults, fmt.Errorf("delivery: %w", err))
	}
	return errors.Join(faults...)
}

// Guarantees implements components.Describer.
func (Options) Guarantees() string {
	return `- Shared by all sidecars with the same server, virtual host and component name.
- A publication that was answered has been confirmed by the server: it survives the end of the server's process, and in a cluster that of a minority of the nodes
  that keep the stream. A stream is not synced to the disk before it is confirmed: a single node that loses power may forget the last events,
  and then groups that had seen them pass over as many that come next.
- A cluster of three nodes may lose one: streams and queues are kept on all nodes that the cluster has when they are made (queues on five at most), and a sidecar goes on
  with the next of its ` + "`addresses`" + `. Publications fail meanwhile: each takes 10 s at most, with all that it waits for, or until a connection that takes nothing more is given up. What was under way at a lost connection comes again, as it does
  when a sidecar crashes, and counts as an attempt. Where a majority is away nothing is published or delivered.
- A node that is frozen or cut off is missed by the others after Erlang's ` + "`net_ticktime`" + `, a minute unless set, and until then what it leads stands still. ` + "`heartbeat`" + ` must
  be well below a fifth of it, and ` + "`cluster_partition_handling = pause_minority`" + ` is needed: by default both sides of a cut go on by themselves, an ordering key may have an event unsettled on
  each, and RabbitMQ wants a restart then.
- Each group gets each event at least once, while the topic retains it. What was settled is told to the server ten times a second, and always at an orderly
  end: after a crash of a sidecar what was under way comes again, and what was not told yet. So it is after a connection was lost.
- Of the events with one ordering key a group has one unsettled at a time, in whatever sidecar. Their first deliveries come in the order of publication.
- Attempts and delays are told like what was settled.
- What a sidecar has that is killed or cut off is delivered elsewhere at once, and that of one that is frozen after three times ` + "`heartbeat`" + `.
- At most 8 sidecars have a share in a group; more wait. A sidecar holds at most 20,000 unsettled events of a group. It has two connections, and on the first
  up to 11 channels for each group.
- A handler may take 10 minutes. RabbitMQ takes away what is held for longer than its ` + "`consumer_timeout`" + `, 30 minutes unless set, and then what was under way comes again: so each
  part of a group is given back and had anew after 10 minutes when nothing of it is under way, and after 20 minutes gives out nothing more until that is so.
- A topic that somebody deletes is made anew by who publishes to it or subscribes, and all that was answered since is in it. But it is not told from the one before: groups pass over as many
  of its events as they had seen of that, also those that go on under running sidecars. Who deletes a topic deletes its groups' queues and exchanges as well, while no sidecar serves them.
- There are no idempotency keys, and no replay. A group is kept until somebody deletes its queues.`
}

type driver struct {
	opts    Options
	name    string // of the component
	log     *slog.Logger
	link    *link // for what groups hold and keep
	streams *link // for streams: what becomes of its connection takes nothing from groups
	publish publisher
	renew   time.Duration
	confirm time.Duration

	making sync.Mutex // while a group is made

	mu     sync.Mutex
	groups map[string]*member
}

var (
	_ components.Closer  = (*driver)(nil)
	_ components.Checker = (*driver)(nil)
	_ pubsub.Restricted  = (*driver)(nil)
)

// Open connects. The driver must be closed, after its sessions.
func Open(ctx context.Context, env components.Env, o Options) (pubsub.Driver, error) {
	l, err := newLink(o)
	if err != nil {
		return nil, err
	}
	streams, err := newLink(o)
	if err != nil {
		return nil, err
	}
	d := &driver{opts: o, name: env.ID.Name, log: env.Logger, link: l, streams: streams, renew: renewEvery, confirm: confirmTime, groups: map[string]*member{}}
	d.publish = publisher{d: d, turn: make(chan struct{}, 1), known: map[string]uint64{}}
	if err := d.Check(ctx); err != nil {
		l.close()
		return nil, err
	}
	return d, nil
}

// Policy implements pubsub.Driver.
func (d *driver) Policy() pubsub.Policy { return d.opts.Delivery }

// Offers implements pubsub.Restricted.
func (d *driver) Offers(pubsub.Feature) bool { return false }

// Check implements components.Checker.
func (d *driver) Check(ctx context.Context) error {
	ch, err := d.link.channel(ctx)
	if err != nil {
		return err
	}
	return d.link.said(ctx, within(ctx, ch.Close))
}

// Close implements components.Closer.
func (d *driver) Close(ctx context.Context) error {
	d.streams.close()
	d.link.close()
	return within(ctx, func() error { d.publish.aside.Wait(); return nil })
}
