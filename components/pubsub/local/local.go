// Package local keeps events in the local store: one durable folder that all sidecars of a machine with the same data folder
// share, and nothing else to install.
//
// # Records
//
// In the store's space "pubsub"; T is a topic's id, G a group's, numbers are big-endian of 8 bytes. A record begins with its
// format, 1; what follows is CBOR unless it says otherwise.
//
//	n COMPONENT NUL NAMESPACE NUL TOPIC   a topic: its id, what retention has removed, how long it retains events and groups, and up to where it was known to reach
//	e T SEQUENCE                          an event: when it was published (the store's time, the wall's), the bytes of the topic up to it, and the event
//	g T GROUP                             a group: its id, the sequence up to which all is settled, and when it had members
//	a G BLOCK                             which of the 4096 events of a block are settled: a bit each, the lowest first
//	r G SEQUENCE                          an event that was delivered and is not settled: its attempts, and not before when it comes again
//	i T IDEMPOTENCY-KEY                   a publication: its fingerprint, the event's id, when the record expires
//	x DEADLINE i T IDEMPOTENCY-KEY        an index of those, by when they expire; empty
package local

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/outrigger-mesh/outrigger/components"
	"github.com/outrigger-mesh/outrigger/components/internal/store"
	"github.com/outrigger-mesh/outrigger/components/internal/store/db"
	"github.com/outrigger-mesh/outrigger/components/pubsub"
)

func init() {
	components.Register(pubsub.Drivers, "local", Options{Durability: string(db.Disk), Delivery: pubsub.DefaultPolicy,
		Retention: 7 * 24 * time.Hour, RetentionBytes: 1 << 30, Groups: 30 * 24 * time.Hour, Idempotency: 24 * time.Hour}, Open)
}

// Options of the driver.
type Options struct {
	Durability     string          `yaml:"durability" doc:"when a publication is acknowledged: disk, once it is synced; os, once the system has it, which a loss of power may undo"`
	Delivery       pubsub.Policy   `yaml:"delivery"`
	Retention      time.Duration   `yaml:"retention" doc:"how long a topic keeps an event, handled or not"`
	RetentionBytes components.Size `yaml:"retention_bytes" doc:"how much a topic keeps; beyond it the oldest events go"`
	Groups         time.Duration   `yaml:"groups" doc:"how long a group keeps its place while nobody subscribes to it, if that is more than the retention; then it is forgotten"`
	Idempotency    time.Duration   `yaml:"idempotency" doc:"how long an idempotency key gives the first answer again"`
}

// Validate implements components.Validator.
func (o Options) Validate() error {
	faults := []error{store.CheckDurability(o.Durability)}
	for _, d := range []struct {
		name string
		is   time.Duration
	}{{"retention", o.Retention}, {"groups", o.Groups}, {"idempotency", o.Idempotency}} {
		if d.is <= 0 || d.is > pubsub.MaxSpan {
			faults = append(faults, fmt.Errorf("%s: %s is not above 0, and at most %s", d.name, d.is, pubsub.MaxSpan))
		}
	}
	if o.RetentionBytes <= 0 {
		faults = append(faults, fmt.Errorf("retention_bytes: %s is not above 0", o.RetentionBytes))
	}
	if err := o.Delivery.Validate(); err != nil {
		faults = append(faults, fmt.Errorf("delivery: %w", err))
	}
	return errors.Join(faults...)
}

// Guarantees implements components.Describer.
func (Options) Guarantees() string {
	return `- Shared by the sidecars of a machine that have the same data folder. One of them has the files open and serves the others; when it goes another takes over, and streams are to be opened again.
- A publication that was answered is on the disk, and survives the loss of power; with ` + "`durability: os`" + ` it survives the end of any process, but not that of the machine. ` + "`PublishMany`" + ` is one step.
- Each group gets each event at least once, while the topic retains it. What was settled is written down ten times a second, and always at an orderly end: after a crash the last of it comes again.
- Of the events with one ordering key a group has one unsettled at a time, whoever crashes. Their first deliveries come in the order of publication. A key stays with one of the group's streams while that has room, and none comes or goes.
- Attempts and delays are written down in the same way, and survive a crash but for the last of them.
- Retention removes events whether they were handled or not: a group that is not there holds nothing up. What a group has read before that, for a stream that has it or was to get it next, may still be delivered to it. One that nobody has subscribed to for ` + "`groups`" + ` is forgotten, and new when it comes again. So is a topic that has no event, group or idempotency key any more: topics may come and go. Both are looked for each 10 minutes, from the start of the store's owner on. Until then each takes about 1.5 KiB of the memory of the store's owner.
- A record that cannot be read, because it was damaged or a later version wrote it, is logged once, and who asks for its topic, its group or its idempotency key gets ` + "`DATA_LOSS`" + `; others go on. At an event that cannot be read a group's streams end so, once what is before it is settled; when retention has removed it, or the group was moved past it with ` + "`replay_from`" + `, they go on.
- When as many as a million events wait behind ordering keys that are held up, the group waits.
- Delays, deadlines and retention are counted on a clock that does not jump when the machine's time is set.`
}

// driver asks the machine of the store, wherever that is.
type driver struct {
	store.Client
	opts      Options
	component string
}

var (
	_ components.Closer  = (*driver)(nil)
	_ components.Checker = (*driver)(nil)
)

// Open joins the store. It must be closed, after its sessions.
func Open(ctx context.Context, env components.Env, o Options) (pubsub.Driver, error) {
	link, err := store.Join(ctx, env)
	if err != nil {
		return nil, err
	}
	return &driver{Client: store.Client{Link: link}, opts: o, component: env.ID.Name}, nil
}

// Policy implements pubsub.Driver.
func (d *driver) Policy() pubsub.Policy { return d.opts.Delivery }

func (d *driver) settings() settings {
	o := &d.opts
	return settings{Durability: o.Durability, Retention: o.Retention, RetentionBytes: int64(o.RetentionBytes), Groups: o.Groups, Idempotency: o.Idempotency}
}

// Publish implements pubsub.Driver.
func (d *driver) Publish(ctx context.Context, events []pubsub.Publication) ([]pubsub.Result, error) {
	in := publishIn{Component: d.component, Settings: d.settings(), Events: make([]publication, len(events))}
	for i := range events {
		e := &events[i]
		in.Events[i] = publication{Namespace: e.Topic.Namespace, Topic: e.Topic.Name, Event: toWire(&e.Event), Key: e.IdempotencyKey, Fingerprint: e.Fingerprint}
	}
	out, err := publishCall.Call(ctx, d.Link, in)
	if err != nil {
		return nil, err
	}
	results := make([]pubsub.Result, len(out.Results))
	for i, r := range out.Results {
		results[i] = pubsub.Result{ID: r.ID}
		switch r.Fault {
		case faultReused:
			results[i].Err = pubsub.Reused()
		case faultSkipped:
			results[i].Err = pubsub.Skipped()
		case faultDamaged:
			results[i].Err = fmt.Errorf("%w: the record of the idempotency key cannot be read", components.ErrDamaged)
		}
	}
	return results, nil
}
