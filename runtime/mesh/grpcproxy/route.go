package grpcproxy

import (
	"errors"
	"slices"
	"sync/atomic"
)

// ErrLater is what Route returns, having called Headers.Later, when it cannot tell yet.
var ErrLater = errors.New("grpcproxy: the route is not known yet")

const maxTurns = 100 // times Route may say "later" and "now" in one breath

// route asks for an upstream and goes there. s.mu is held.
func (s *stream) route(h *Headers, b *batch) {
	c := s.h[0].c
	h.c, h.s, h.Conn, h.ConnTag, h.Tag, h.Timeout = c, s, c.nc, c.tag, s.out.Tag, s.timeout
	for turn := 0; ; turn++ {
		h.Attempt, h.Last, h.PerTry, h.later = s.out.Attempts, s.out.Upstream, 0, nil
		if h.Resumed {
			h.Attempt--
		} else {
			s.out.Attempts++
		}
		up, err := s.r.Route(h)
		if s.out.Tag = h.Tag; err == nil && h.Replay > 0 && s.out.Attempts == 1 {
			s.keepRequest(h.Fields, h.Replay)
			s.kept(s.h[1].pend[s.h[1].off:]) // came while the route was awaited
		}
		if err == nil {
			e := s.attempt(up, h, b)
			if e == nil {
				s.settle(b)
				return
			}
			s.tried(e, b)
			if h.Resumed = false; e.Flag == FlagConnectFailed && s.mayAgain(Failed{Flag: e.Flag}) {
				continue
			}
			err = e
		} else if err == ErrLater && turn < maxTurns {
			var now bool
			if now, err = s.park(h); now {
				h.Resumed = true
				continue
			} else if err == nil {
				return
			}
		}
		s.reply(asError(err, FlagNoRoute, grpcUnavailable, ReasonNoRoute), b)
		return
	}
}

// attempt sends s to up. s.mu is held.
func (s *stream) attempt(up *Upstream, h *Headers, b *batch) *Error {
	s.limit(h, b)
	s.out.Upstream, s.trying = up, true
	return up.assign(s, h.Fields, b)
}

// reroute is for a request of which nothing was sent, that waits for u.
func (s *stream) reroute(u *Upstream, e *Error, b *batch) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.finished.Load() || s.waitsFor != u {
		return
	}
	if !s.mayAgain(Failed{Flag: e.Flag}) {
		s.reply(e, b)
		return
	}
	s.again(e, b)
}

// again makes another attempt. s.mu is held.
func (s *stream) again(e *Error, b *batch) {
	s.tried(e, b)
	s.waitsFor = nil
	s.route(&Headers{Fields: s.head}, b)
}

// tried reports an attempt that another one, or an answer of ours, follows. s.mu is held.
func (s *stream) tried(e *Error, b *batch) {
	if s.trying && s.r.Attempted != nil {
		b.tried = append(b.tried, tried{s.r, s.out.Tag, s.out.Upstream, e})
	}
	s.trying = false
}

// parking is a request whose route is awaited.
type parking struct {
	s     *stream
	state atomic.Int32
}

const (
	parkAsking = iota // Route has not returned
	parkEarly         // and yet the route is known
	parkWaits
	parkOver
)

// Later is for Route: it returns a function that has Route asked again, with Resumed set, which does not count as an
// attempt. Route then returns ErrLater. The function may be called by any goroutine, at any time, more than once; if it
// never is, the request ends by its deadline or its client. MaxParked bounds how many wait.
func (h *Headers) Later() (resume func()) {
	if h.s == nil {
		return func() {}
	}
	if h.later == nil {
		h.later = &parking{s: h.s}
	}
	return h.later.resume
}

func (p *parking) resume() {
	if !p.state.CompareAndSwap(parkAsking, parkEarly) && p.state.CompareAndSwap(parkWaits, parkOver) {
		p.s.r.resume(p)
	}
}

// park lets s wait until it is resumed; now says that it has been. s.mu is held.
func (s *stream) park(h *Headers) (now bool, err error) {
	p := h.later
	if p == nil {
		return false, fault(FlagNoRoute, grpcInternal, ReasonInternal, "a route was promised by nobody")
	}
	if s.r.parked.Add(1) > int64(s.r.MaxParked) {
		s.r.parked.Add(-1)
		return false, fault(FlagLimited, grpcExhausted, ReasonOverloaded, "too many requests wait for a route")
	}
	s.head, s.parked = slices.Clone(h.Fields), p
	if !p.state.CompareAndSwap(parkAsking, parkWaits) {
		s.unpark()
		return true, nil
	}
	return false, nil
}

// unpark gives the place up. s.mu is held.
func (s *stream) unpark() {
	if s.parked != nil {
		s.parked = nil
		s.r.parked.Add(-1)
	}
}

// resume has p's route asked for by a goroutine of the relay's: whoever resumes may hold locks that Route takes.
func (r *Relay) resume(p *parking) {
	r.resuming.Lock()
	defer r.resuming.Unlock()
	r.resumed = append(r.resumed, p)
	if len(r.resumed) == 1 {
		r.tasks.Start(r.resumeAll)
	}
}

func (r *Relay) resumeAll() {
	b := newBatch()
	for done := 0; ; {
		r.resuming.Lock()
		ps := slices.Clone(r.resumed[done:])
		if len(ps) == 0 {
			r.resumed = nil
		}
		r.resuming.Unlock()
		if len(ps) == 0 {
			break
		}
		for _, p := range ps {
			p.s.goOn(p, b)
		}
		b.end()
		done += len(ps)
	}
}

func (s *stream) goOn(p *parking, b *batch) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.parked != p || s.finished.Load() {
		return
	}
	s.unpark()
	s.route(&Headers{Fields: s.head, Resumed: true}, b)
}
