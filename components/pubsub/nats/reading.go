package nats

import (
	"context"
	"errors"
	"fmt"
	"sync"

	"github.com/outrigger-mesh/outrigger/components/internal/backend"
	"github.com/outrigger-mesh/outrigger/components/pubsub"
	"github.com/outrigger-mesh/outrigger/components/pubsub/internal/parts"
)

// reading is the goroutine that reads a part for a group.
type reading struct {
	g      *group
	p      *parts.Part
	cancel context.CancelFunc

	mu    sync.Mutex
	gate  chan struct{} // closed when it may read on; nil: it may
	ended chan struct{}
}

// read begins to read.
func (g *group) read(p *parts.Part) {
	ctx, cancel := context.WithCancel(context.Background())
	r := &reading{g: g, p: p, cancel: cancel, ended: make(chan struct{})}
	p.Read(r)
	g.reading.Go(func() { r.run(ctx) })
}

// Stop implements parts.Reading.
func (r *reading) Stop() { r.cancel() }

// Pause implements parts.Reading.
func (r *reading) Pause(paused bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	switch {
	case paused && r.gate == nil:
		r.gate = make(chan struct{})
	case !paused && r.gate != nil:
		close(r.gate)
		r.gate = nil
	}
}

func (r *reading) ready(ctx context.Context) error {
	r.mu.Lock()
	gate := r.gate
	r.mu.Unlock()
	if gate == nil {
		return nil
	}
	select {
	case <-gate:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// run reads until it is stopped.
func (r *reading) run(ctx context.Context) {
	t := r.g.topic
	subjects := []string{fmt.Sprintf("%s.%d", t.subject, r.p.ID())}
	if r.p.ID() == 0 {
		subjects = append(subjects, t.subject)
	}
	f := &follower{c: r.g.d.conn, stream: t.stream, subjects: subjects, where: r.where, ready: r.ready, take: r.take}
	r.g.again(ctx, "a part cannot be read; it is tried again", f)
}

// again follows until ctx ends. That it fails several times in a row is said once.
func (g *group) again(ctx context.Context, complaint string, f *follower) {
	wait, failing := backend.Backoff{First: g.d.opts.Heartbeat / 5, Most: 2 * g.d.opts.Heartbeat}, 0
	for ctx.Err() == nil {
		err := f.follow(ctx, func() { failing = 0; wait.Reset() })
		if ctx.Err() != nil {
			return
		}
		if failing++; failing == 5 { // a leader that changes is no news
			g.log.Warn(complaint, "stream", f.stream, "err", err)
		}
		if wait.Wait(ctx) != nil {
			return
		}
	}
}

var errShorter = errors.New("the server has lost events that it had delivered")

// where is the next event, if the stream is still that of the group.
func (r *reading) where(ctx context.Context) (from uint64, last bool, err error) {
	info, err := r.g.d.conn.look(ctx, r.g.topic.stream)
	if err != nil {
		return 0, false, err
	}
	next := uint64(max(r.p.Next(), 1))
	if info.State.LastSeq+1 < next || info.Created.UnixNano() != r.g.born.Load() {
		r.g.doubted.Store(true)
		r.g.Stir()
		return 0, false, errShorter
	}
	return next, false, nil
}

func (r *reading) take(all []entry) {
	offsets, events := make([]int64, len(all)), make([]pubsub.Event, len(all))
	for i, e := range all {
		offsets[i], events[i] = int64(e.sequence), event(e.Msg, e.sequence, e.at)
	}
	r.p.Arrive(offsets, events)
}
