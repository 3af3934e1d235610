package schedule

import (
	"context"
	"time"
)

// Ack settles deliveries: they were handled. Ids that are settled, or of another stream, are passed over, as in all that
// follows.
func (s *Stream) Ack(ids ...string) { s.settle(ids, Settlement{Outcome: Done}) }

// Nack gives a delivery back, to come again no earlier than after the delay, which is cut to the component's longest. When the
// attempts are used up it is given up.
func (s *Stream) Nack(id string, delay time.Duration) {
	s.settle([]string{id}, Settlement{Outcome: Again, Delay: min(max(delay, 0), s.policy.MaxDelay)})
}

// Reject settles a delivery that will never be handled. The reason is logged.
func (s *Stream) Reject(id, reason string) {
	s.mu.Lock()
	over := s.expire()
	if f, ok := s.take(id); ok {
		over = append(over, s.giveUp(f, "rejected", "text", reason))
	}
	s.mu.Unlock()
	s.tell(over)
}

// Return gives deliveries back that the application was not given after all, since the stream has ended. They come again at once,
// and are no attempts.
func (s *Stream) Return(ids ...string) { s.settle(ids, Settlement{Outcome: Returned}) }

func idsOf(all []Delivery) []string {
	ids := make([]string, len(all))
	for i := range all {
		ids[i] = all[i].DeliveryID
	}
	return ids
}

// Extend gives a delivery its whole deadline again.
func (s *Stream) Extend(id string) {
	s.mu.Lock()
	over := s.expire()
	if f, ok := s.ledger.Extend(id, time.Now()); ok {
		over = append(over, Settlement{Position: f.Position, Outcome: Extended})
	}
	s.mu.Unlock()
	s.tell(over)
}

func (s *Stream) settle(ids []string, like Settlement) {
	s.mu.Lock()
	all := s.expire() // first: a process that was frozen must not settle what others have by now
	for _, id := range ids {
		if f, ok := s.take(id); ok {
			all = append(all, s.outcome(f, like))
		}
	}
	s.mu.Unlock()
	s.tell(all)
}

// take settles a delivery in the books. A stream that had no room because of what is unsettled may have some now.
func (s *Stream) take(id string) (f Firing, ok bool) {
	full := s.ledger.Room() == Room{}
	if f, ok = s.ledger.Take(id); ok && full {
		s.ledger.Changed()
	}
	return f, ok
}

// outcome is that of a firing: what comes again too often does not.
func (s *Stream) outcome(f Firing, like Settlement) Settlement {
	if like.Outcome == Again && f.Attempt >= s.policy.MaxAttempts {
		return s.giveUp(f, "attempts")
	}
	like.Position = f.Position
	return like
}

func (s *Stream) giveUp(f Firing, reason string, more ...any) Settlement {
	id := s.front.component.ID()
	s.front.log.Warn("a firing was given up", append([]any{"capability", id.Capability, "component", id.Name, "driver", id.Driver, "op", "watch",
		"job", f.Job.Name, "firing", f.ID, "attempts", f.Attempt, "reason", reason}, more...)...)
	return Settlement{Position: f.Position, Outcome: Done}
}

// expire takes the deliveries whose time is over from the application.
func (s *Stream) expire() (over []Settlement) {
	late, _ := s.ledger.Expire(time.Now())
	for _, f := range late {
		over = append(over, s.outcome(f, Settlement{Outcome: Again}))
	}
	return over
}

// tell passes outcomes on. If that fails the session is at its end, and its firings go to others.
func (s *Stream) tell(all []Settlement) {
	if len(all) == 0 {
		return
	}
	if err := s.session.Settle(context.WithoutCancel(s.ctx), all); err != nil {
		s.cancel(err)
	}
}

// watch looks after deadlines until the stream ends.
func (s *Stream) watch() {
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-s.ctx.Done():
			return
		case <-s.wake:
		case <-timer.C:
		}
		s.mu.Lock()
		over := s.expire()
		_, next := s.ledger.Expire(time.Time{})
		s.mu.Unlock()
		if s.tell(over); !next.IsZero() {
			timer.Reset(time.Until(next))
		}
	}
}
