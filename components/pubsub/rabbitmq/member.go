package rabbitmq

import (
	"container/heap"
	"context"
	"sync"
	"time"

	"github.com/outrigger-mesh/outrigger/components/internal/backend"
)

const (
	tickEvery  = 100 * time.Millisecond // progress is kept, and others are looked for
	prefetch   = 500                    // events on their way from the stream
	maxPending = 20_000                 // unsettled events of a group, of a sidecar
)

// member is this sidecar's part in a group, which its sessions share.
type member struct {
	d            *driver
	stream, base string
	stopping     context.Context
	stop         context.CancelFunc
	ended        chan struct{}     // closed when it has ended, with failure
	failure      error             // why what was settled last is not kept
	kick         chan struct{}     // holds an element if something has changed
	flushes      chan chan<- error // who wants progress to be kept now

	mu         sync.Mutex
	sessions   map[*session]bool
	parts      map[int]*part
	ready      ready
	pending    int
	target     int           // parts that it is to have; 0: that is not known yet
	generation int           // of its connection
	changed    chan struct{} // closed and replaced when there is more to give
}

func newMember(d *driver, stream, base string) *member {
	m := &member{d: d, stream: stream, base: base, ended: make(chan struct{}), kick: make(chan struct{}, 1), flushes: make(chan chan<- error),
		sessions: map[*session]bool{}, parts: map[int]*part{}, changed: make(chan struct{})}
	m.stopping, m.stop = context.WithCancel(context.Background())
	go m.run()
	return m
}

// run serves on one connection after the other.
func (m *member) run() {
	defer close(m.ended)
	pause := backend.Backoff{First: 50 * time.Millisecond, Most: time.Second}
	for m.stopping.Err() == nil {
		w := newWork(m)
		err := w.serve(pause.Reset)
		w.hangUp()
		m.failure = err
		if m.stopping.Err() != nil {
			return
		}
		m.d.log.Debug("a group is joined again", "err", err)
		_ = pause.Wait(m.stopping)
	}
}

// reset forgets what belonged to a connection, and answers it.
func (m *member) reset() (all []*part) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for number, p := range m.parts {
		all = append(all, p)
		m.drop(number)
	}
	m.target = 0
	m.generation++
	return all
}

// drop takes a part away. m.mu is held.
func (m *member) drop(number int) {
	p := m.parts[number]
	delete(m.parts, number)
	m.pending -= len(p.entries)
	for _, e := range p.entries {
		e.dropped = true
	}
}

// tell has those look again who wait for events. m.mu is held.
func (m *member) tell() {
	close(m.changed)
	m.changed = make(chan struct{})
}

// stir has the one look again who speaks to the server.
func (m *member) stir() {
	select {
	case m.kick <- struct{}{}:
	default:
	}
}

// offer gives an entry to whoever has room, once its time has come, if no other holds it up. m.mu is held.
func (m *member) offer(e *entry) {
	if e.dropped || e.queued || e.holder != nil || !e.part.first(e) {
		return
	}
	if wait := time.Until(e.due); !e.due.IsZero() && wait > 0 {
		time.AfterFunc(wait+time.Millisecond, func() {
			m.mu.Lock()
			defer m.mu.Unlock()
			m.offer(e)
		})
		return
	}
	e.queued = true
	heap.Push(&m.ready, e)
	m.tell()
}

// share waits until the sidecar has the parts that it is to have.
func (m *member) share(ctx context.Context) {
	for {
		m.mu.Lock()
		has, changed := m.target > 0 && len(m.parts) >= m.target, m.changed
		m.mu.Unlock()
		if has {
			return
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return
		}
	}
}

// leave ends a session. With the last one the member ends.
func (m *member) leave(ctx context.Context, s *session) error {
	m.d.mu.Lock()
	m.mu.Lock()
	delete(m.sessions, s)
	last := len(m.sessions) == 0
	m.mu.Unlock()
	if last && m.d.groups[m.base] == m {
		delete(m.d.groups, m.base)
	}
	m.d.mu.Unlock()
	m.stir()
	if last {
		m.stop()
		select {
		case <-m.ended:
			return m.failure
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	kept := make(chan error, 1)
	select {
	case m.flushes <- kept:
	case <-ctx.Done():
		return ctx.Err()
	}
	select {
	case err := <-kept:
		return err
	case <-ctx.Done():
		return ctx.Err()
	}
}
