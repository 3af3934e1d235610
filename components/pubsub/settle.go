package pubsub

import (
	"context"
	"time"
)

// Ack settles deliveries: they were handled. Ids that are settled, or of another stream, are passed over, as in all that
// follows.
func (s *Stream) Ack(ids ...string) error {
	return s.settle(CountAcked, ids, Settlement{Outcome: Done})
}

// Nack gives a delivery back, to come again no earlier than after the delay, which is cut to the component's longest. When the attempts are used up it is given up.
func (s *Stream) Nack(id string, delay time.Duration) error {
	return s.settle(CountNacked, []string{id}, Settlement{Outcome: Again, Delay: s.policy.delay(delay)})
}

// Reject settles a delivery that will never be handled: it goes to the dead-letter topic, if there is one.
func (s *Stream) Reject(id, reason string) error {
	s.mu.Lock()
	over, _ := s.expire(time.Now())
	if m, ok := s.ledger.Take(id); ok {
		s.bury(burial{message: *m, attempts: m.Attempt, reason: reasonRejected, text: reason})
	}
	s.mu.Unlock()
	return s.tell(over)
}

// Return gives deliveries back that the application was not given after all. They come again at once, and are no attempts.
func (s *Stream) Return(ids ...string) error {
	return s.settle(CountEnded, ids, Settlement{Outcome: Returned})
}

// Extend gives a delivery its whole deadline again.
func (s *Stream) Extend(id string) error {
	s.mu.Lock()
	now := time.Now()
	all, _ := s.expire(now)
	if m, ok := s.ledger.Extend(id, now); ok {
		all = append(all, Settlement{Position: m.Position, Outcome: Extended})
	}
	s.mu.Unlock()
	return s.tell(all)
}

// settle passes on what became of those that are open.
func (s *Stream) settle(count string, ids []string, like Settlement) error {
	n := 0
	s.mu.Lock()
	all, _ := s.expire(time.Now()) // first: a process that was frozen must not settle what others have by now
	s.freeing(func() {
		for _, id := range ids {
			if m, ok := s.ledger.Take(id); ok {
				all = s.outcome(all, m, like)
				n++
			}
		}
	})
	s.mu.Unlock()
	s.front.count(count, n)
	return s.tell(all)
}

// freeing runs what may make room, and begins the fetch under way anew if there was none before.
func (s *Stream) freeing(settle func()) {
	full := s.ledger.Room() == Room{}
	if settle(); full && s.ledger.Room() != (Room{}) {
		s.ledger.Changed()
	}
}

// outcome adds that of a message which the application has no more: what comes again too often is given up.
func (s *Stream) outcome(all []Settlement, m *Message, like Settlement) []Settlement {
	if like.Outcome == Again && m.Attempt >= s.policy.MaxAttempts {
		s.bury(burial{message: *m, attempts: m.Attempt, reason: reasonAttempts})
		return all
	}
	like.Position = m.Position
	return append(all, like)
}

func (s *Stream) tell(all []Settlement) error {
	if len(all) == 0 {
		return nil
	}
	s.telling.RLock()
	defer s.telling.RUnlock()
	if s.ended {
		return nil
	}
	return s.front.component.Named(s.session.Settle(context.WithoutCancel(s.ctx), all))
}

// expire takes the deliveries whose time is over from the application; what it answers is to be told. next is when the next one's
// time is, if there is one.
func (s *Stream) expire(now time.Time) (all []Settlement, next time.Time) {
	s.freeing(func() {
		var over []*Message
		over, next = s.ledger.Expire(now)
		for _, m := range over {
			all = s.outcome(all, m, Settlement{Outcome: Again})
		}
		s.front.count(CountExpired, len(over))
	})
	return all, next
}

// watch looks after deadlines and burials until the stream ends.
func (s *Stream) watch() {
	timer := time.NewTimer(time.Hour)
	defer timer.Stop()
	for {
		select {
		case <-s.ctx.Done():
			return
		case <-s.wake:
		case <-timer.C:
		}
		s.mu.Lock()
		over, next := s.expire(time.Now())
		s.armed = !next.IsZero()
		s.mu.Unlock()
		if err := s.tell(over); err != nil {
			s.cancel(err)
		}
		timer.Reset(time.Hour)
		if !next.IsZero() {
			timer.Reset(time.Until(next))
		}
		s.burial(s.ctx)
	}
}
