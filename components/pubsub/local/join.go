package local

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"slices"

	"github.com/outrigger-mesh/outrigger/components"
	"github.com/outrigger-mesh/outrigger/components/internal/store"
	"github.com/outrigger-mesh/outrigger/components/internal/store/db"
)

// subscribe serves one session.
func (m *machine) subscribe(ctx context.Context, p store.Peer[up, down]) error {
	first, err := p.Recv()
	if err != nil {
		return err
	}
	if first.Start == nil {
		return fmt.Errorf("%w: a session begins with start", components.ErrInvalid)
	}
	ctx, end := context.WithCancelCause(ctx)
	defer end(nil)
	defer context.AfterFunc(m.ctx, func() { end(errGone) })()
	member, err := m.join(ctx, first.Start, end)
	if err != nil {
		return err
	}
	defer member.leave()
	if err := p.Send(down{}); err != nil {
		return err
	}
	return store.Listen(ctx, p, member.hear, func(ctx context.Context) error { return member.talk(ctx, p) })
}

// talk sends what is delivered. Once the session has said all it keeps what was settled.
func (m *member) talk(ctx context.Context, p store.Peer[up, down]) error {
	for {
		select {
		case <-m.ready:
			if out := m.take(); len(out) > 0 {
				if err := p.Send(down{out}); err != nil {
					return err
				}
			}
		case <-ctx.Done():
			if cause := context.Cause(ctx); !errors.Is(cause, io.EOF) {
				return cause
			}
			m.leave()
			return away("keep what was settled", m.g.keep(m.g.t.m.ctx))
		}
	}
}

var errGone = fmt.Errorf("%w: the store is being closed", components.ErrUnavailable)

func (m *member) hear(in up) {
	g := m.g
	now := g.t.m.space.Now()
	g.mu.Lock()
	if in.Pause {
		m.room.Messages, m.room.Bytes = 0, 0
	}
	m.room.Messages = min(m.room.Messages+in.Messages, math.MaxInt32)
	m.room.Bytes += in.Bytes
	g.expire(now) // first: what was over before this came is over
	for _, s := range in.Settled {
		m.settle(s, now)
	}
	if in.Last {
		m.received = in.Received
	}
	g.mu.Unlock()
	if len(in.Settled) > 0 {
		g.t.m.note(g)
	}
	nudge(g.wake)
}

// take answers what is to be sent, up to about a megabyte.
func (m *member) take() []message {
	m.g.mu.Lock()
	defer m.g.mu.Unlock()
	n, bytes := 0, 0
	for n < len(m.out) && bytes < maxReadBytes {
		bytes += len(m.out[n].Event.Data)
		n++
	}
	out := m.out[:n:n]
	if m.out = m.out[n:]; len(m.out) > 0 {
		nudge(m.ready)
	} else {
		m.out = nil
	}
	return out
}

// enter makes a member, whose session end ends.
func (g *group) enter(s *start, end context.CancelCauseFunc) *member {
	m := &member{g: g, deadline: s.AckDeadline, flying: map[uint64]*item{}, ready: make(chan struct{}, 1), received: math.MaxUint64, end: end}
	g.t.use()
	g.mu.Lock()
	defer g.mu.Unlock()
	g.durability = db.Durability(s.Settings.Durability)
	g.members = append(g.members, m)
	if !g.pumping {
		g.pumping = true
		g.mend()
		g.t.m.tasks.Go(g.pump)
	}
	return m
}

// leave gives back what is not settled. It may be called more than once.
func (m *member) leave() {
	g := m.g
	g.mu.Lock()
	i := slices.Index(g.members, m)
	if i < 0 {
		g.mu.Unlock()
		return
	}
	g.members = slices.Delete(g.members, i, i+1)
	if len(m.out) > 0 {
		m.received = min(m.received, m.out[0].Serial-1)
	}
	now := g.t.m.space.Now()
	for serial, it := range m.flying {
		if serial > m.received {
			it.attempts--
		}
		m.back(it, now, 0)
	}
	m.room.Messages = 0
	g.mu.Unlock()
	g.t.leave()
	g.t.m.note(g)
	nudge(g.wake)
}
