package kafka

import (
	"context"
	"log/slog"
	"time"

	"github.com/outrigger-mesh/outrigger/components/pubsub"
	"github.com/outrigger-mesh/outrigger/components/pubsub/internal/parts"
)

// group is this sidecar's part in a group of a topic, with the goroutine that is its member of Kafka's group.
type group struct {
	*parts.Group
	d        *driver
	log      *slog.Logger
	id       string // in Kafka
	topic    string // in Kafka
	earliest bool   // where it begins if it is new
	membership
	asks  chan *ask
	nudge chan struct{} // there may be something to say to the others
	gone  chan struct{} // closed when it has left
}

func newGroup(d *driver, id, topic string, earliest bool) *group {
	g := &group{d: d, log: d.log.With("group", id), id: id, topic: topic, earliest: earliest, asks: make(chan *ask), nudge: make(chan struct{}, 1),
		gone: make(chan struct{})}
	g.Group = parts.New(g, newMember(), int64(d.opts.Ahead))
	return g
}

// Stir implements parts.Keeper.
func (g *group) Stir() {
	select {
	case g.nudge <- struct{}{}:
	default:
	}
}

// Kept implements parts.Keeper.
func (g *group) Kept(ctx context.Context) error {
	return g.ask(&ask{ctx: ctx, done: make(chan error, 1)})
}

// Left implements parts.Keeper.
func (g *group) Left(ctx context.Context) error {
	return g.ask(&ask{ctx: ctx, leave: true, done: make(chan error, 1)})
}

// Subscribe implements pubsub.Driver.
func (d *driver) Subscribe(ctx context.Context, s pubsub.Subscription) (pubsub.Session, error) {
	topic := topicName(d.opts.Prefix, s.Topic)
	if _, err := d.conn.partitions(ctx, topic); err != nil {
		return nil, err
	}
	id := groupName(topic, s.Group)
	var g *group
	var one *parts.Session
	for one == nil {
		d.mu.Lock()
		g = d.groups[id]
		if g == nil {
			g = newGroup(d, id, topic, s.Earliest)
			d.groups[id] = g
			d.tasks.Go(g.run)
		}
		d.mu.Unlock()
		if one = g.Enter(); one != nil {
			break
		}
		select { // it is being left
		case <-g.gone:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
	limited, cancel := context.WithTimeout(ctx, d.opts.SessionTimeout+3*d.opts.Timeout)
	defer cancel()
	a := &ask{ctx: limited, join: true, done: make(chan error, 1)}
	if !s.ReplayFrom.IsZero() {
		a.move, a.to = true, milliseconds(s.ReplayFrom)
	}
	if err := g.ask(a); err != nil {
		closing, cancel := context.WithTimeout(context.WithoutCancel(ctx), d.opts.Timeout)
		defer cancel()
		_ = one.Close(closing)
		return nil, d.conn.failed(ctx, err)
	}
	return one, nil
}

// milliseconds are those of the first time that Kafka can tell and that is not before t.
func milliseconds(t time.Time) int64 {
	ms := max(t.UnixMilli(), 0)
	if t.After(time.UnixMilli(ms)) {
		ms++
	}
	return ms
}
