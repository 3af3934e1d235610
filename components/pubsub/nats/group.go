package nats

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/outrigger-mesh/outrigger/components"
	"github.com/outrigger-mesh/outrigger/components/internal/backend"
	"github.com/outrigger-mesh/outrigger/components/pubsub"
	"github.com/outrigger-mesh/outrigger/components/pubsub/internal/parts"
)

const (
	// keepEvery is the time between what is settled and its being written, which takes its own time.
	keepEvery = 100 * time.Millisecond
	// settleDown bounds how long a new session waits for its share.
	settleDown = 3 * time.Second
)

// group is this sidecar's part in a group of a topic, with the goroutine that speaks for it to the others.
type group struct {
	*parts.Group
	d        *driver
	log      *slog.Logger
	of       pubsub.Topic
	topic    *topic
	base     string // what its subjects begin with
	earliest bool   // where it begins if it is new
	membership

	view    view
	asks    chan *ask
	nudge   chan struct{} // there may be something to do
	gone    chan struct{} // closed when it has left
	reading sync.WaitGroup
	born    atomic.Int64 // of the stream that the group knows
	doubted atomic.Bool  // the stream is another one, or has lost events
	suspect atomic.Bool  // what was seen of the records may not be what there is
}

// ask is what a session wants of the group's goroutine: that it is in the group, or that all that was settled is kept, or to leave.
type ask struct {
	ctx         context.Context
	join, leave bool
	to          time.Time // that the group is moved to
	moved       int64     // how often it is then
	since       time.Time
	done        chan error
}

func newMember() string { return rand.Text()[:10] }

func (d *driver) newGroup(t *topic, base string, s pubsub.Subscription) *group {
	g := &group{d: d, log: d.log.With("topic", s.Topic.Name, "group", s.Group), of: s.Topic, topic: t, base: base, earliest: s.Earliest, asks: make(chan *ask),
		nudge: make(chan struct{}, 1), gone: make(chan struct{})}
	g.held, g.told, g.released = map[int32]*hold{}, map[int32]told{}, map[int32]uint64{}
	g.Group = parts.New(g, newMember(), int64(d.opts.Ahead))
	return g
}

// Subscribe implements pubsub.Driver.
func (d *driver) Subscribe(ctx context.Context, s pubsub.Subscription) (pubsub.Session, error) {
	t, err := d.conn.topic(ctx, s.Topic)
	if err != nil {
		return nil, err
	}
	base := groupSubject(d.opts.Prefix, s.Topic, s.Group)
	var g *group
	var one *parts.Session
	for one == nil {
		d.mu.Lock()
		if g = d.groups[base]; g == nil {
			g = d.newGroup(t, base, s)
			d.groups[base] = g
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
	limited, cancel := context.WithTimeout(ctx, settleDown+3*d.opts.Timeout)
	defer cancel()
	began := time.Now()
	if err := g.ask(&ask{ctx: limited, join: true, to: s.ReplayFrom, done: make(chan error, 1)}); err != nil {
		closing, cancel := context.WithTimeout(context.WithoutCancel(ctx), d.opts.Timeout)
		defer cancel()
		_ = one.Close(closing)
		return nil, d.conn.failed(ctx, began, err)
	}
	return one, nil
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

// ask waits for the answer.
func (g *group) ask(a *ask) error {
	a.since = time.Now()
	select {
	case g.asks <- a:
	case <-g.gone:
		return nil
	case <-a.ctx.Done():
		return a.ctx.Err()
	}
	select {
	case err := <-a.done:
		return err
	case <-a.ctx.Done():
		return a.ctx.Err()
	}
}

// run is the member's goroutine, until the last session has ended.
func (g *group) run() {
	ctx, cancel := context.WithCancel(context.Background())
	var watching sync.WaitGroup
	watching.Go(func() {
		g.again(ctx, "what the group keeps cannot be read; it is tried again", &follower{c: g.d.conn, stream: groupsName(g.d.opts.Prefix), subjects: []string{g.base + ".>"},
			where: g.whole, begun: func(n uint64) { g.view.begin(n); g.Stir() }, ready: g.trusted, take: func(all []entry) {
				g.view.take(g.base, all, func(name string, err error) {
					g.log.Error("what a group has kept cannot be read", "record", name, "err", err)
				})
				g.Stir()
			}})
	})
	tick := time.NewTicker(min(keepEvery, g.d.opts.Heartbeat))
	wait, failing, until := backend.Backoff{First: 50 * time.Millisecond, Most: time.Second}, 0, time.Time{}
	for {
		select {
		case <-tick.C:
		case <-g.nudge:
		case a := <-g.asks:
			g.waiting = append(g.waiting, a)
		}
		if _, abandoned := g.Leaving(); abandoned {
			break
		}
		if time.Now().Before(until) {
			continue
		}
		left, err := g.step(ctx)
		if left {
			break
		}
		if err == nil {
			failing = 0
			wait.Reset()
			continue
		}
		until = time.Now().Add(wait.Next())
		if failing++; failing == 5 {
			g.log.Warn("the group cannot be served; it is tried again", "err", err)
		}
		if detail := (*components.Detail)(nil); errors.Is(err, components.ErrPrecondition) || errors.As(err, &detail) && detail.Reason == backend.ReasonRefused {
			g.refuse(err)
		}
	}
	tick.Stop()
	g.Stop()
	cancel()
	watching.Wait()
	g.reading.Wait()
	g.d.mu.Lock()
	delete(g.d.groups, g.base)
	g.d.mu.Unlock()
	close(g.gone)
	for _, a := range g.waiting {
		a.done <- nil
	}
}

// refuse ends what cannot be.
func (g *group) refuse(err error) {
	for _, a := range g.waiting {
		a.done <- err
	}
	g.waiting = nil
	g.End(err)
}

var errSuspect = errors.New("it is not what was seen of it")

// trusted ends the watch of records that something speaks against: one that was purged, of which nobody hears.
func (g *group) trusted(context.Context) error {
	if g.suspect.Swap(false) {
		return errSuspect
	}
	return nil
}

// whole has all that the group keeps be read.
func (g *group) whole(ctx context.Context) (uint64, bool, error) {
	name := groupsName(g.d.opts.Prefix)
	info, err := g.d.conn.look(ctx, name)
	if errors.Is(err, jetstream.ErrStreamNotFound) {
		if err = g.d.conn.makeGroups(ctx); err == nil {
			info, err = g.d.conn.look(ctx, name)
		}
	}
	if err != nil {
		return 0, false, err
	}
	g.view.restart(info.State.LastSeq)
	return 0, true, nil
}

// first is the sequence of the first event at a time or later.
func (g *group) first(ctx context.Context, at time.Time) (sequence int64, err error) {
	err = g.d.conn.call(ctx, func(ctx context.Context) error {
		one, err := g.d.conn.js.CreateConsumer(ctx, g.topic.stream, jetstream.ConsumerConfig{AckPolicy: jetstream.AckNonePolicy, InactiveThreshold: time.Second, MemoryStorage: true,
			Replicas: 1, DeliverPolicy: jetstream.DeliverByStartTimePolicy, OptStartTime: &at})
		if err != nil {
			return err
		}
		sequence = int64(one.CachedInfo().Delivered.Stream) + 1
		return g.d.conn.js.DeleteConsumer(ctx, g.topic.stream, one.CachedInfo().Name)
	})
	if err != nil {
		return 0, fmt.Errorf("look for the first event since %s: %w", at, err)
	}
	return sequence, nil
}
