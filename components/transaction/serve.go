package transaction

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/outrigger-mesh/outrigger/components"
	"github.com/outrigger-mesh/outrigger/components/internal/delivery"
)

// hub has the streams of branches that applications have open here, and the calls that are on their way to them. The zero value has none.
type hub struct {
	mu      sync.Mutex
	streams []*Stream // the one that is to be served next is the first
	waiting []*pending
}

// pending is a call that waits for its outcome.
type pending struct {
	who     components.Caller
	call    *Call
	outcome chan error // holds the first
	stream  *Stream    // that has it; nil: it waits for one
	over    bool       // nobody waits for it any more
}

func (p *pending) size() int64 { return int64(p.call.Target.size()) }

// settle answers a call.
func (p *pending) settle(err error) {
	select {
	case p.outcome <- err:
	default:
	}
}

var (
	errNacked = fmt.Errorf("%w: the branch was given back", components.ErrUnavailable)
	errLate   = fmt.Errorf("%w: the branch was not settled within its deadline", components.ErrUnavailable)
	errEnded  = fmt.Errorf("%w: the stream of the branch has ended", components.ErrUnavailable)
)

// call waits until a stream of the application has settled the call. If there is none it fails at once.
func (h *hub) call(ctx context.Context, who components.Caller, c *Call) error {
	p := &pending{who: who, call: c, outcome: make(chan error, 1)}
	if !h.enter(p) {
		return components.WithReason(fmt.Errorf("%w: the application has no stream for branches of method %.64q open here", components.ErrUnavailable, c.Target.Method),
			ReasonNobodyServes)
	}
	select {
	case err := <-p.outcome:
		return err
	case <-ctx.Done():
		h.drop(p)
		return context.Cause(ctx)
	}
}

func (h *hub) enter(p *pending) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	if !slices.ContainsFunc(h.streams, func(s *Stream) bool { return s.takes(p) }) {
		return false
	}
	h.waiting = append(h.waiting, p)
	h.wake(p)
	return true
}

// wake tells streams that may take a call.
func (h *hub) wake(p *pending) {
	for _, s := range h.streams {
		if s.takes(p) {
			s.stir()
		}
	}
}

func (h *hub) drop(p *pending) {
	h.mu.Lock()
	defer h.mu.Unlock()
	p.over = true
	h.waiting = slices.DeleteFunc(h.waiting, func(o *pending) bool { return o == p })
	if p.stream != nil {
		p.stream.withdraw(p)
	}
}

// ErrDraining is what Next answers, once, after Drain.
var ErrDraining = errors.New("draining")

// Served is a call of a branch that is given to an application.
type Served struct {
	DeliveryID string // opaque; means nothing on another stream
	Call
}

// Stream is one of an application's that takes branches. Next is called by one goroutine; the other methods by any.
type Stream struct {
	front   *Transactions
	who     components.Caller
	methods []string
	ctx     context.Context
	call    components.Call[Driver]
	woken   chan struct{}

	// Under hub.mu.
	ledger             *delivery.Ledger[*pending]
	ids                map[*pending]string
	drained, toldDrain bool
}

// Serve takes the calls of branches of the caller's transactions that go to a stream, of some methods (none: all), each to be settled within
// the deadline (0: 30 s). It ends with ctx, and when the component is replaced (ErrUnavailable, reason RELOADED); it must be closed.
func (t *Transactions) Serve(ctx context.Context, who components.Caller, methods []string, deadline time.Duration) (*Stream, error) {
	if deadline == 0 {
		deadline = 30 * time.Second
	}
	if deadline < 0 || deadline > 24*time.Hour {
		return nil, t.component.Named(Invalid("an ack deadline of %s is not above 0 and at most 24h", deadline))
	}
	call, ctx, err := t.component.Stream(ctx, "serve")
	if err != nil {
		return nil, err
	}
	s := &Stream{front: t, who: who, methods: methods, ctx: ctx, call: call, woken: make(chan struct{}, 1), ledger: delivery.NewLedger[*pending](deadline),
		ids: map[*pending]string{}}
	t.hub.mu.Lock()
	defer t.hub.mu.Unlock()
	t.hub.streams = append(t.hub.streams, s)
	return s, nil
}

func (s *Stream) takes(p *pending) bool {
	return !s.drained && s.who == p.who && (len(s.methods) == 0 || slices.Contains(s.methods, p.call.Target.Method))
}

func (s *Stream) stir() {
	select {
	case s.woken <- struct{}{}:
	default:
	}
}

// Next waits for calls. After Drain it answers ErrDraining, and no more until the stream ends, with its error.
func (s *Stream) Next() ([]Served, error) {
	for {
		served, wait, err := s.some()
		if len(served) > 0 || err != nil {
			return served, err
		}
		var late <-chan time.Time
		if wait > 0 {
			late = time.After(wait)
		}
		select {
		case <-s.woken:
		case <-late:
		case <-s.ctx.Done():
			return nil, s.front.Named(context.Cause(s.ctx))
		}
	}
}

// some takes what there is room for, and says how long it is until the first deadline.
func (s *Stream) some() (served []Served, wait time.Duration, err error) {
	h := &s.front.hub
	h.mu.Lock()
	defer h.mu.Unlock()
	if s.drained && !s.toldDrain {
		s.toldDrain = true
		return nil, 0, ErrDraining
	}
	now := time.Now()
	s.expire(now)
	for i := 0; i < len(h.waiting); {
		p := h.waiting[i]
		if !s.takes(p) {
			i++
			continue
		}
		id, ok := s.ledger.Deliver(p, p.size(), now)
		if !ok { // a smaller one may have room
			s.ledger.Forget()
			i++
			continue
		}
		h.waiting = slices.Delete(h.waiting, i, i+1)
		p.stream, s.ids[p] = s, id
		served = append(served, Served{id, *p.call})
	}
	if len(served) > 0 { // the others' turn
		h.streams = append(slices.DeleteFunc(h.streams, func(o *Stream) bool { return o == s }), s)
	}
	if _, next := s.ledger.Expire(time.Time{}); !next.IsZero() {
		wait = max(next.Sub(now), time.Millisecond)
	}
	return served, wait, nil
}

// expire takes what was not settled in time from the application. hub.mu is held.
func (s *Stream) expire(now time.Time) {
	late, _ := s.ledger.Expire(now)
	for _, p := range late {
		delete(s.ids, p)
		p.settle(errLate)
	}
}

func (s *Stream) withdraw(p *pending) {
	if id, ok := s.ids[p]; ok {
		s.ledger.Take(id)
		delete(s.ids, p)
	}
}

// settle answers calls. Ids that are settled, or of another stream, are passed over.
func (s *Stream) settle(err error, ids ...string) {
	h := &s.front.hub
	h.mu.Lock()
	defer h.mu.Unlock()
	s.expire(time.Now())
	for _, id := range ids {
		if p, ok := s.ledger.Take(id); ok {
			delete(s.ids, p)
			p.settle(err)
		}
	}
	s.stir() // there may be room now
}

// Ack says that branches are done.
func (s *Stream) Ack(ids ...string) { s.settle(nil, ids...) }

// Nack leaves the outcome of a branch open; when it is called again is up to the transaction's policy.
func (s *Stream) Nack(id string, _ time.Duration) { s.settle(errNacked, id) }

// Reject says that a branch cannot be done.
func (s *Stream) Reject(id, reason string) { s.settle(Failed(errors.New(reason)), id) }

// Return gives back what the application was not sent.
func (s *Stream) Return(ids ...string) { s.settle(errEnded, ids...) }

// Extend gives a branch its whole deadline again.
func (s *Stream) Extend(id string) {
	s.front.hub.mu.Lock()
	defer s.front.hub.mu.Unlock()
	s.expire(time.Now())
	s.ledger.Extend(id, time.Now())
}

// Grant adds credit, as of all streams that deliver.
func (s *Stream) Grant(messages, bytes int64) error {
	s.front.hub.mu.Lock()
	defer s.front.hub.mu.Unlock()
	if s.drained {
		return nil
	}
	if err := s.ledger.Grant(messages, bytes); err != nil {
		return s.front.Named(err)
	}
	s.stir()
	return nil
}

// Drain ends delivery: Next says so, and what was delivered can be settled until Close.
func (s *Stream) Drain() {
	s.front.hub.mu.Lock()
	defer s.front.hub.mu.Unlock()
	s.drained = true
	s.ledger.Revoke()
	s.stir()
}

// Close leaves open what became of calls that are not settled.
func (s *Stream) Close() {
	h := &s.front.hub
	h.mu.Lock()
	h.streams = slices.DeleteFunc(h.streams, func(o *Stream) bool { return o == s })
	for p := range s.ids {
		p.settle(errEnded)
	}
	s.ids = nil
	left := h.waiting
	h.waiting = nil
	for _, p := range left { // what only this one would have taken
		if slices.ContainsFunc(h.streams, func(o *Stream) bool { return o.takes(p) }) {
			h.waiting = append(h.waiting, p)
		} else {
			p.settle(errEnded)
		}
	}
	h.mu.Unlock()
	err := error(nil)
	s.call.End(&err)
}
