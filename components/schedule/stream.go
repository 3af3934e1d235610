package schedule

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/outrigger-mesh/outrigger/components"
	"github.com/outrigger-mesh/outrigger/components/internal/delivery"
)

// closeTime bounds how long the end of a stream may take.
const closeTime = 5 * time.Second

// Delivery is a firing given to an application.
type Delivery struct {
	DeliveryID string // opaque; means nothing on another stream
	Firing
}

// Stream is an application's share of its firings. Next is called by one goroutine; the other methods by any.
type Stream struct {
	front  *Schedule
	call   components.Call[Driver]
	strip  int // bytes before the application's own names
	policy Policy

	ctx      context.Context
	cancel   context.CancelCauseFunc
	session  Session
	watching sync.WaitGroup
	wake     chan struct{} // of watch: there may be an earlier deadline

	mu     sync.Mutex
	ledger *delivery.Intake[Firing]
}

func newStream(ctx context.Context, front *Schedule, call components.Call[Driver], session Session, strip int, term time.Duration) *Stream {
	s := &Stream{front: front, call: call, strip: strip, policy: call.Driver.Policy(), session: session,
		ledger: delivery.NewIntake[Firing](term), wake: make(chan struct{}, 1)}
	s.ctx, s.cancel = context.WithCancelCause(ctx)
	s.watching.Go(s.watch)
	return s
}

// ErrDraining is what Next answers, once, after Drain.
var ErrDraining = errors.New("draining")

// Next waits for deliveries. After Drain it answers ErrDraining, and no more until the stream ends, with its error.
func (s *Stream) Next() ([]Delivery, error) {
	for {
		ctx, room, err := s.beginFetch()
		if err != nil {
			return nil, err
		}
		firings, err := s.fetch(ctx, room)
		interrupted := ctx.Err() != nil
		s.endFetch()
		deliveries := s.deliver(firings)
		switch cause := context.Cause(s.ctx); {
		case cause != nil:
			s.Return(idsOf(deliveries)...)
			return nil, s.front.Named(cause)
		case len(deliveries) > 0:
			return deliveries, nil
		case err != nil && !interrupted:
			return nil, s.front.Named(err)
		}
	}
}

func (s *Stream) fetch(ctx context.Context, room Room) ([]Firing, error) {
	if room == (Room{}) {
		<-ctx.Done()
		return nil, ctx.Err()
	}
	return s.session.Fetch(ctx, room)
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

// deliver makes deliveries of firings. What does not fit goes back; what was tried too often is given up.
func (s *Stream) deliver(firings []Firing) (out []Delivery) {
	var settled []Settlement
	s.mu.Lock()
	for _, f := range firings {
		if f.Attempt > s.policy.MaxAttempts {
			settled = append(settled, s.giveUp(f, "attempts"))
			continue
		}
		id, ok := s.ledger.Deliver(f, f.Job.Size(), time.Now())
		if !ok {
			settled = append(settled, Settlement{Position: f.Position, Outcome: Returned})
			continue
		}
		f.Job.Name = f.Job.Name[s.strip:]
		out = append(out, Delivery{DeliveryID: id, Firing: f})
	}
	s.mu.Unlock()
	s.stir()
	s.tell(settled)
	return out
}

// stir has watch look for deadlines again.
func (s *Stream) stir() {
	select {
	case s.wake <- struct{}{}:
	default:
	}
}

// Grant adds credit. Bytes of 0 with messages lift the bound on bytes, for as long as the stream lasts; neither means that nothing
// more comes until there is credit again.
func (s *Stream) Grant(messages, bytes int64) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.front.Named(s.ledger.Grant(messages, bytes))
}

// Drain ends delivery: Next says so, and what was delivered can be settled until Close.
func (s *Stream) Drain() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.ledger.Drain()
}

// Close gives back at once what is not settled.
func (s *Stream) Close() {
	s.cancel(context.Canceled)
	s.watching.Wait()
	ctx, cancel := context.WithTimeout(context.WithoutCancel(s.ctx), closeTime)
	defer cancel()
	err := s.session.Close(ctx)
	s.call.End(&err)
}
