package pubsub

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"sync"
	"time"

	"github.com/outrigger-mesh/outrigger/components"
)

const (
	// maxUnsettled and maxUnsettledBytes bound what a stream holds, however much credit it has.
	maxUnsettled      = 16 << 10
	maxUnsettledBytes = 32 << 20
	// maxFetch is how many messages are asked for at once.
	maxFetch = 1 << 10
	// retryFit is how long a message that did not fit is not asked for.
	retryFit = time.Second
	// closeTime bounds how long the end of a stream may take.
	closeTime = 5 * time.Second
)

// Delivery is an event given to an application.
type Delivery struct {
	ID      string // opaque; means nothing on another stream
	Attempt int    // counts from 1
	Event   *Event // not to be changed
}

// Stream is an application's share in a group. Next is called by one goroutine; the other methods by any.
type Stream struct {
	group  string
	front  *PubSub
	caller components.Caller
	call   components.Call[Driver]
	sub    Subscription
	policy Policy

	ctx      context.Context
	cancel   context.CancelCauseFunc
	session  Session
	watching sync.WaitGroup

	telling sync.RWMutex // while something is told to the session
	ended   bool         // by Close: the session is to be told nothing

	mu        sync.Mutex
	credit    Room
	boundless bool // no bound for bytes
	drained   bool // nothing more is to be delivered
	toldDrain bool
	held      Room  // what is unsettled
	least     int64 // what the next message takes, if it did not fit
	open      map[string]*unsettled
	deadlines []deadline // in their order
	buried    []burial   // to be done
	prefix    string
	serial    uint64
	interrupt context.CancelFunc // of the fetch under way
	wake      chan struct{}      // of watch
}

// unsettled is a delivery that the application has.
type unsettled struct {
	message  Message
	size     int64
	deadline time.Time
}

// deadline is one that was set, and may have been set anew since.
type deadline struct {
	id string
	at time.Time
}

func newStream(ctx context.Context, p *PubSub, caller components.Caller, call components.Call[Driver], session Session, sub Subscription) *Stream {
	s := &Stream{group: sub.Group, front: p, caller: caller, call: call, sub: sub, policy: call.Driver.Policy(), session: session,
		open: map[string]*unsettled{}, prefix: rand.Text()[:8] + "-", wake: make(chan struct{}, 1)}
	s.ctx, s.cancel = context.WithCancelCause(ctx)
	s.watching.Go(s.watch)
	return s
}

// Group is the one that was joined.
func (s *Stream) Group() string { return s.group }

// ErrDraining is what Next answers, once, after Drain.
var ErrDraining = errors.New("draining")

// Next waits for deliveries. After Drain it answers ErrDraining, and no more until the stream ends, with its error.
func (s *Stream) Next() ([]Delivery, error) {
	for {
		ctx, room, err := s.beginFetch()
		if err != nil {
			return nil, err
		}
		messages, err := s.session.Fetch(ctx, room)
		interrupted := ctx.Err() != nil
		s.endFetch()
		deliveries, settleErr := s.deliver(messages)
		switch cause := context.Cause(s.ctx); {
		case cause != nil:
			return nil, s.front.component.Named(cause)
		case len(deliveries) > 0:
			s.front.count(CountDelivered, len(deliveries))
			return deliveries, nil
		case settleErr != nil:
			return nil, settleErr
		case err != nil && !interrupted:
			return nil, s.front.component.Named(err)
		}
	}
}

// beginFetch says how much to ask for. A change of that cuts the fetch short.
func (s *Stream) beginFetch() (context.Context, Room, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.drained && !s.toldDrain {
		s.toldDrain = true
		return nil, Room{}, ErrDraining
	}
	ctx, cancel := context.WithCancel(s.ctx)
	s.interrupt = cancel
	return ctx, s.room(), nil
}

func (s *Stream) endFetch() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.interrupt()
	s.interrupt = nil
}

// room is what may be fetched now: the credit, within what the stream may hold.
func (s *Stream) room() Room {
	r := Room{Messages: min(s.credit.Messages, maxUnsettled-s.held.Messages, maxFetch), Bytes: maxUnsettledBytes - s.held.Bytes}
	if !s.boundless {
		r.Bytes = min(r.Bytes, s.credit.Bytes)
	}
	if r.Messages <= 0 || r.Bytes < s.least {
		return Room{}
	}
	return r
}

// changed begins the fetch under way anew, if it asks for less than there is room for by now, or for more.
func (s *Stream) changed() {
	if s.interrupt != nil {
		s.interrupt()
	}
}

// deliver makes deliveries of messages. What does not fit goes back, and what was tried too often is given up.
func (s *Stream) deliver(messages []Message) ([]Delivery, error) {
	if len(messages) == 0 {
		return nil, nil
	}
	var out []Delivery
	var back []Settlement
	s.mu.Lock()
	now := time.Now()
	for i := range messages {
		m := &messages[i]
		size := m.Event.Size()
		if m.Attempt > s.policy.MaxAttempts {
			s.held = Room{s.held.Messages + 1, s.held.Bytes + size}
			s.bury(burial{message: *m, attempts: m.Attempt - 1, reason: reasonAttempts})
			continue
		}
		if room := s.room(); room.Messages == 0 || room.Bytes < size {
			back = append(back, Settlement{Position: m.Position, Outcome: Returned})
			if room.Messages > 0 {
				s.least = max(s.least, size)
				time.AfterFunc(retryFit, s.forgetLeast)
			}
			continue
		}
		s.least = 0
		out = append(out, s.hold(m, size, now))
	}
	s.mu.Unlock()
	if len(back) == 0 {
		return out, nil
	}
	return out, s.tell(back)
}

// forgetLeast has what did not fit tried for again: another stream may have taken it.
func (s *Stream) forgetLeast() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.least > 0 {
		s.least = 0
		s.changed()
	}
}

func (s *Stream) hold(m *Message, size int64, now time.Time) Delivery {
	s.serial++
	id := s.prefix + strconv.FormatUint(s.serial, 36)
	u := &unsettled{message: *m, size: size}
	s.open[id] = u
	s.credit.Messages--
	if !s.boundless {
		s.credit.Bytes -= size
	}
	s.held.Messages++
	s.held.Bytes += size
	s.expect(id, u, now)
	return Delivery{ID: id, Attempt: m.Attempt, Event: &u.message.Event}
}

// expect sets the deadline of a delivery. Those that are set later are later.
func (s *Stream) expect(id string, u *unsettled, now time.Time) {
	u.deadline = now.Add(s.sub.AckDeadline)
	if len(s.deadlines) > 2*len(s.open)+1<<10 { // many were settled behind one that was not
		s.deadlines = slices.DeleteFunc(s.deadlines, func(d deadline) bool {
			u := s.open[d.id]
			return u == nil || !u.deadline.Equal(d.at)
		})
	}
	s.deadlines = append(s.deadlines, deadline{id, u.deadline})
	if len(s.deadlines) == 1 {
		s.stir()
	}
}

// stir has watch look again.
func (s *Stream) stir() {
	select {
	case s.wake <- struct{}{}:
	default:
	}
}

// Grant adds credit. Bytes of 0 with messages lift the bound on bytes, for as long as the stream lasts. Nothing of either takes
// back what was granted and is not used: a pause.
func (s *Stream) Grant(messages, bytes int64) error {
	if messages < 0 || bytes < 0 {
		return s.front.component.Named(fmt.Errorf("%w: credit of %d messages and %d bytes is negative", components.ErrInvalid, messages, bytes))
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.drained {
		return nil
	}
	if messages == 0 && bytes == 0 {
		s.credit = Room{}
	}
	s.credit.Messages = int(min(int64(s.credit.Messages)+messages, 1<<40))
	s.credit.Bytes = min(s.credit.Bytes, 1<<60) + min(bytes, 1<<60)
	s.boundless = s.boundless || messages > 0 && bytes == 0
	s.changed()
	return nil
}

// Drain ends delivery: Next says so, and what was delivered can be settled until Close.
func (s *Stream) Drain() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.drained, s.credit = true, Room{}
	s.changed()
}

// Close gives back at once what is not settled. What is said to the stream afterwards means nothing. Next must have returned, or
// its context have ended.
func (s *Stream) Close() {
	s.cancel(context.Canceled)
	s.watching.Wait()
	ctx, cancel := context.WithTimeout(context.WithoutCancel(s.ctx), closeTime)
	defer cancel()
	s.burial(ctx)
	s.telling.Lock()
	s.ended = true
	s.telling.Unlock()
	err := s.session.Close(ctx)
	s.mu.Lock()
	left := len(s.open)
	s.open = map[string]*unsettled{}
	s.mu.Unlock()
	s.front.count(CountEnded, left)
	s.call.End(&err)
}

func (p *PubSub) count(outcome string, n int) {
	if n > 0 {
		p.opts.Count(p.component.ID().Name, outcome, n)
	}
}
