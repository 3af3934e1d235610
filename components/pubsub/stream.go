package pubsub

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/outrigger-mesh/outrigger/components"
	"github.com/outrigger-mesh/outrigger/components/internal/delivery"
)

const (
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

	mu     sync.Mutex
	ledger *delivery.Intake[*Message]
	buried []burial      // to be done
	armed  bool          // watch wakes up for the first deadline
	wake   chan struct{} // of watch
}

func newStream(ctx context.Context, p *PubSub, caller components.Caller, call components.Call[Driver], session Session, sub Subscription) *Stream {
	s := &Stream{group: sub.Group, front: p, caller: caller, call: call, sub: sub, policy: call.Driver.Policy(), session: session,
		ledger: delivery.NewIntake[*Message](sub.AckDeadline), wake: make(chan struct{}, 1)}
	s.ctx, s.cancel = context.WithCancelCause(ctx)
	s.watching.Go(s.watch)
	return s
}

// Group is the one that was joined.
func (s *Stream) Group() string { return s.group }

// ErrDraining is what Next answers, once, after Drain.
var ErrDraining = errors.New("draining")

// Next waits for deliveries. After Drain it answers ErrDraining, and no more until the stream ends, with its error. What the caller
// cannot give to the application is to be returned.
func (s *Stream) Next() ([]Delivery, error) {
	for {
		ctx, room, err := s.beginFetch()
		if err != nil {
			return nil, err
		}
		messages, err := s.session.Fetch(ctx, room)
		interrupted := ctx.Err() != nil
		s.endFetch()
		if cause := context.Cause(s.ctx); cause != nil {
			_ = s.giveBack(messages) // if it cannot be told that, the session gives back by itself
			return nil, s.front.component.Named(cause)
		}
		deliveries, settleErr := s.deliver(messages)
		switch {
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
	ctx, room, more := s.ledger.Begin(s.ctx)
	if !more {
		return nil, room, ErrDraining
	}
	return ctx, room, nil
}

func (s *Stream) endFetch() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.ledger.End()
}

// deliver makes deliveries of messages. What does not fit goes back, and what was tried too often is given up.
func (s *Stream) deliver(messages []Message) (out []Delivery, err error) {
	if len(messages) == 0 {
		return nil, nil
	}
	out = make([]Delivery, 0, len(messages))
	var back []Message
	s.mu.Lock()
	now := time.Now()
	for i := range messages {
		if messages[i].Attempt > s.policy.MaxAttempts {
			s.bury(burial{message: messages[i], attempts: messages[i].Attempt - 1, reason: reasonAttempts})
			continue
		}
		m := new(Message) // of its own: one that stays does not keep those beside it
		*m = messages[i]
		id, ok := s.ledger.Deliver(m, m.Event.Size(), now)
		if !ok {
			back = append(back, *m)
			continue
		}
		out = append(out, Delivery{ID: id, Attempt: m.Attempt, Event: &m.Event})
	}
	if len(out) > 0 && !s.armed {
		s.armed = true
		s.stir()
	}
	s.mu.Unlock()
	if len(back) > 0 {
		time.AfterFunc(retryFit, s.retry)
		err = s.giveBack(back)
	}
	return out, err
}

// giveBack is for messages that are not delivered.
func (s *Stream) giveBack(messages []Message) error {
	back := make([]Settlement, len(messages))
	for i := range messages {
		back[i] = Settlement{Position: messages[i].Position, Outcome: Returned}
	}
	return s.tell(back)
}

// retry has what did not fit tried again: another stream may have taken it.
func (s *Stream) retry() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.ledger.Forget() {
		s.ledger.Changed()
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
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.front.component.Named(s.ledger.Grant(messages, bytes))
}

// Drain ends delivery: Next says so, and what was delivered can be settled until Close.
func (s *Stream) Drain() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.ledger.Drain()
}

// Close gives back at once what is not settled. What is said to the stream afterwards means nothing. Next must have returned.
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
	left := s.ledger.Held()
	s.ledger = delivery.NewIntake[*Message](0)
	s.mu.Unlock()
	s.front.count(CountEnded, left)
	s.call.End(&err)
}

func (p *PubSub) count(outcome string, n int) {
	if n > 0 {
		p.opts.Count(p.component.ID().Name, outcome, n)
	}
}
