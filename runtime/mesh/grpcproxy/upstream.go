package grpcproxy

import (
	"context"
	"errors"
	"net"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/outrigger-mesh/outrigger/runtime/mesh/internal/upkeep"
)

// Upstream is one instance: an address and its connections. Make one with NewUpstream and keep it.
type Upstream struct {
	Name string
	r    *Relay
	dial func(context.Context) (net.Conn, error)
	max  int

	ctx    context.Context // of dialling
	cancel context.CancelFunc

	live atomic.Pointer[[]*conn]
	next atomic.Uint32

	mu       sync.Mutex
	waiting  []*stream
	sweepAt  int
	nwaiting atomic.Int32
	dialing  bool
	rest     upkeep.Backoff
	starting bool
	again    bool
	closed   bool
}

// NewUpstream makes the handle of one instance, which gets up to conns connections, opened as needed.
func (r *Relay) NewUpstream(name string, conns int, dial func(context.Context) (net.Conn, error)) *Upstream {
	r.init()
	u := &Upstream{Name: name, r: r, dial: dial, max: max(conns, 1)}
	u.ctx, u.cancel = context.WithCancel(r.ctx)
	return u
}

// Close lets running calls end and takes no new ones.
func (u *Upstream) Close() {
	u.mu.Lock()
	u.closed = true
	u.cancel()
	waiting := u.waiting
	u.waiting = nil
	u.counted(0)
	u.mu.Unlock()
	b := newBatch()
	for _, s := range waiting {
		s.reroute(u, u.gone(), b)
	}
	for _, c := range u.list() {
		c.mu.Lock()
		c.draining = true
		c.mu.Unlock()
		u.remove(c)
		b.touch(c)
	}
	b.end()
}

func (u *Upstream) list() []*conn {
	if p := u.live.Load(); p != nil {
		return *p
	}
	return nil
}

func (u *Upstream) remove(c *conn) {
	u.mu.Lock()
	if i := slices.Index(u.list(), c); i >= 0 {
		l := slices.Delete(slices.Clone(u.list()), i, i+1)
		u.live.Store(&l)
	}
	u.mu.Unlock()
}

// try opens s on a connection that has room. s.mu is held.
func (u *Upstream) try(s *stream, fields []Field, b *batch) bool {
	l := u.list()
	if len(l) == 0 {
		return false
	}
	at := u.next.Load()
	if len(l) > 1 {
		at = u.next.Add(1)
	}
	for i := range l {
		c := l[(int(at)+i)%len(l)]
		if ok, last := c.open(s, fields, b); ok {
			if last {
				u.remove(c)
			}
			s.head, s.waitsFor = nil, nil
			s.push(1, writeHigh, b)
			return true
		}
	}
	return false
}

// assign sends s on its way, or lets it wait. s.mu is held; fields are the reader's and copied if they must be kept.
func (u *Upstream) assign(s *stream, fields []Field, b *batch) *Error {
	if u.nwaiting.Load() == 0 && u.try(s, fields, b) {
		return nil
	}
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.closed {
		return u.gone()
	}
	if err := u.rest.Resting(); err != nil && len(u.list()) == 0 && !u.dialing {
		return u.unreachable(err)
	}
	if len(u.waiting) >= u.sweepAt { // those that gave up
		u.waiting = slices.DeleteFunc(u.waiting, func(s *stream) bool { return s.finished.Load() })
		u.sweepAt = max(64, 2*len(u.waiting))
	}
	if len(u.waiting) >= u.r.MaxWaiting {
		return fault(FlagLimited, grpcExhausted, ReasonOverloaded, "too many requests wait for "+u.Name)
	}
	s.head, s.retime, s.waitsFor = slices.Clone(fields), true, u
	u.waiting = append(u.waiting, s)
	u.counted(len(u.waiting))
	b.wake = append(b.wake, u) // a place may have become free meanwhile
	return nil
}

// start opens waiting streams while there is room, and another connection when there is none.
func (u *Upstream) start(b *batch) {
	u.mu.Lock()
	if u.starting {
		u.again = true
		u.mu.Unlock()
		return
	}
	u.starting = true
	for len(u.waiting) > 0 {
		s := u.waiting[0]
		u.waiting = u.waiting[1:]
		u.mu.Unlock()
		s.mu.Lock()
		ok := s.finished.Load() || s.waitsFor != u || u.try(s, s.head, b)
		if ok {
			s.settle(b)
		}
		s.mu.Unlock()
		u.mu.Lock()
		if ok {
			u.counted(len(u.waiting))
			continue
		}
		u.waiting = append([]*stream{s}, u.waiting...)
		if !u.again {
			break
		}
		u.again = false
	}
	u.starting, u.again = false, false
	var failed []*stream
	var err error
	if len(u.waiting) > 0 && !u.closed && !u.dialing && len(u.list()) < u.max {
		if err = u.rest.Resting(); err == nil {
			u.dialing = true
			u.r.tasks.Start(u.connect)
		} else if len(u.list()) == 0 { // nobody would come back to them
			failed, u.waiting = u.waiting, nil
			u.counted(0)
		}
	}
	u.mu.Unlock()
	for _, s := range failed {
		s.reroute(u, u.unreachable(err), b)
	}
}

func (u *Upstream) connect() {
	ctx, cancel := context.WithTimeout(u.ctx, u.r.DialTimeout)
	nc, err := u.dial(ctx)
	cancel()
	b := newBatch()
	var c *conn
	if err == nil {
		if c = newConn(u.r, nc, u); c == nil {
			err = errors.New("relay is closed")
		} else if nc.SetDeadline(time.Now().Add(u.r.DialTimeout)); true {
			if err = c.handshake(); err != nil {
				c.close(err, b)
				c = nil
			}
			nc.SetDeadline(time.Time{})
		}
	}
	u.mu.Lock()
	u.dialing = false
	if err != nil {
		u.rest.Failed(u.r.DialBackoff, u.r.MaxDialBackoff, err)
		u.r.count.dialFailed.Add(1)
	}
	if c != nil {
		u.rest.Succeeded()
		u.r.count.dialed.Add(1)
		if u.closed {
			c.mu.Lock()
			c.draining = true
			c.mu.Unlock()
			b.touch(c)
		} else {
			l := append(slices.Clone(u.list()), c)
			u.live.Store(&l)
		}
	}
	var failed []*stream
	if err != nil && len(u.list()) == 0 {
		failed, u.waiting = u.waiting, nil
		u.counted(0)
	}
	u.mu.Unlock()
	for _, s := range failed {
		s.reroute(u, u.unreachable(err), b)
	}
	if c != nil {
		u.r.tasks.Start(c.run)
		b.wake = append(b.wake, u)
	}
	b.end()
}

func (u *Upstream) gone() *Error {
	return fault(FlagClosed, grpcUnavailable, ReasonUpstreamClosed, "upstream "+u.Name+" is closed")
}

func (u *Upstream) unreachable(err error) *Error {
	e := fault(FlagConnectFailed, grpcUnavailable, ReasonConnectFailed, "cannot connect to "+u.Name+": "+err.Error())
	e.RetryDelay = u.r.DialBackoff // nothing was sent
	return e
}

// counted notes how many wait. u.mu is held.
func (u *Upstream) counted(n int) {
	u.r.count.waiting.Add(int64(n) - int64(u.nwaiting.Swap(int32(n))))
}
