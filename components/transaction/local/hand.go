package local

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/outrigger-mesh/outrigger/components"
	"github.com/outrigger-mesh/outrigger/components/internal/store"
	"github.com/outrigger-mesh/outrigger/components/internal/store/db"
	"github.com/outrigger-mesh/outrigger/internal/failpoint"
)

const (
	handMost  = 64                     // transactions that are given away in one update
	handEvery = 250 * time.Millisecond // how often leases are looked at
	handAgain = time.Second            // after what failed
)

// session is the machine's end of a sidecar that drives. What is not constant is under machine.mu.
type session struct {
	id    uint64
	app   *app
	lease time.Duration
	has   map[string]*entry
	beat  db.Time
	queue []work
	wake  chan struct{} // there is something in the queue
	over  chan struct{} // closed when its lease has ended
}

func (s *session) push(w work) {
	s.queue = append(s.queue, w)
	select {
	case s.wake <- struct{}{}:
	default:
	}
}

// least is the session that has the fewest transactions.
func (a *app) least() (l *session) {
	for _, s := range a.sessions {
		if l == nil || len(s.has) < len(l.has) {
			l = s
		}
	}
	return l
}

// drive serves a session until its driver has gone or its lease is over.
func (m *machine) drive(ctx context.Context, peer store.Peer[driveIn, driveOut]) error {
	first, err := peer.Recv()
	if err != nil || first.Start == nil {
		return fmt.Errorf("%w: driving does not begin with its start: %w", components.ErrInvalid, err)
	}
	s := m.join(first.Start)
	defer m.leave(s)
	if err := peer.Send(driveOut{Session: s.id}); err != nil {
		return err
	}
	var writing sync.WaitGroup
	defer writing.Wait()
	hear := func(in driveIn) {
		m.mu.Lock()
		s.beat = m.space.Now()
		m.mu.Unlock()
		if in.Write != nil { // who is refused learns that from what is given to it instead, or from the end of the session
			writing.Go(func() { _, _ = m.write(m.ctx, *in.Write) })
		}
	}
	return store.Listen(ctx, peer, hear, func(ctx context.Context) error {
		for {
			select {
			case <-s.wake:
				if err := peer.Send(m.works(s)); err != nil {
					return err
				}
			case <-s.over:
				return errLease
			case <-ctx.Done():
				return context.Cause(ctx)
			}
		}
	})
}

func (m *machine) works(s *session) (out driveOut) {
	m.mu.Lock()
	defer m.mu.Unlock()
	out.Work, s.queue = s.queue, nil
	for i := range out.Work {
		out.Work[i].Now = m.space.Now()
	}
	return out
}

func (m *machine) join(in *driveStart) *session {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.named++
	s := &session{id: m.named, app: m.app(in.Application), lease: in.Lease, has: map[string]*entry{}, beat: m.space.Now(),
		wake: make(chan struct{}, 1), over: make(chan struct{})}
	m.sessions[s.id] = s
	s.app.sessions = append(s.app.sessions, s)
	m.stir()
	return s
}

// leave frees what the session drives.
func (m *machine) leave(s *session) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.part(s)
}

func (m *machine) part(s *session) {
	if m.sessions[s.id] == nil {
		return
	}
	delete(m.sessions, s.id)
	for i, o := range s.app.sessions {
		if o == s {
			s.app.sessions = append(s.app.sessions[:i:i], s.app.sessions[i+1:]...)
			break
		}
	}
	for _, e := range s.has {
		m.free(e)
	}
}

// hand gives what nobody drives to sessions, and takes from those whose leases are over what they have.
func (m *machine) hand() {
	tick := time.NewTicker(handEvery)
	defer tick.Stop()
	for {
		select {
		case <-m.ctx.Done():
			return
		case <-m.wake:
		case <-tick.C:
		}
		m.expire()
		for more := true; more && m.ctx.Err() == nil; {
			var err error
			if more, err = m.handSome(); err != nil {
				if m.ctx.Err() == nil && !errors.Is(err, db.ErrClosed) {
					m.log.Warn("transactions that nobody drives could not be given away", "err", err)
				}
				select {
				case <-time.After(handAgain):
				case <-m.ctx.Done():
				}
				break
			}
		}
	}
}

func (m *machine) expire() {
	m.mu.Lock()
	defer m.mu.Unlock()
	now := m.space.Now()
	for _, s := range m.sessions {
		if now.Sub(s.beat) > s.lease {
			m.part(s)
			close(s.over)
		}
	}
}

// waiting are some transactions that can be given away.
func (m *machine) waiting() (keys []string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, a := range m.apps {
		if len(a.sessions) == 0 {
			continue
		}
		for key := range a.free {
			if keys = append(keys, key); len(keys) == handMost {
				return keys
			}
		}
	}
	return keys
}

func (m *machine) handSome() (more bool, err error) {
	keys := m.waiting()
	if len(keys) == 0 {
		return false, nil
	}
	err = m.space.Update(m.ctx, db.OS, func(w *db.Tx) error {
		for _, key := range keys {
			if !m.waits(key) { // it was given away meanwhile
				continue
			}
			t, ok, err := find(w, key)
			if errors.Is(err, components.ErrDamaged) {
				m.log.Error("a transaction is not driven", "op", "drive", "gid", name(key), "err", err)
			} else if err != nil {
				return err
			}
			if err != nil || !ok || t.State.Final() {
				m.without(key)
				continue
			}
			if !m.fresh(key) {
				t.doubt()
			}
			if err := m.give(w, t, false, 0); err != nil {
				return err
			}
		}
		return nil
	})
	failpoint.Hit("local.owner", "handed")
	return err == nil && len(keys) == handMost, err
}

// waits tells whether a transaction is driven by nobody, and is not being given to somebody.
func (m *machine) waits(key string) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	e := m.app(key).free[key]
	return e != nil && m.moving[key] == 0
}

func (m *machine) fresh(key string) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	e := m.all[key]
	return e != nil && e.fresh
}

// without has a transaction wait no more.
func (m *machine) without(key string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if e := m.all[key]; e != nil {
		m.unplace(e)
	}
}

func componentOf(key string) string {
	for i := range len(key) {
		if key[i] == '/' {
			return key[:i]
		}
	}
	return key
}
