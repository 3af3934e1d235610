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
	if u := s.take(id); u != nil {
		s.bury(burial{message: u.message, attempts: u.message.Attempt, reason: reasonRejected, text: reason})
	}
	s.mu.Unlock()
	return s.tell(over)
}

// Extend gives a delivery its whole deadline again.
func (s *Stream) Extend(id string) error {
	s.mu.Lock()
	now := time.Now()
	all, _ := s.expire(now)
	if u := s.open[id]; u != nil {
		s.expect(id, u, now)
		all = append(all, Settlement{Position: u.message.Position, Outcome: Extended})
	}
	s.mu.Unlock()
	return s.tell(all)
}

// settle passes on what became of those that are open.
func (s *Stream) settle(count string, ids []string, like Settlement) error {
	s.mu.Lock()
	all, _ := s.expire(time.Now()) // first: a process that was frozen must not settle what others have by now
	n := 0
	for _, id := range ids {
		u := s.take(id)
		switch {
		case u == nil:
			continue
		case like.Outcome == Again && u.message.Attempt >= s.policy.MaxAttempts:
			s.bury(burial{message: u.message, attempts: u.message.Attempt, reason: reasonAttempts})
		default:
			s.release(u.size)
			like.Position = u.message.Position
			all = append(all, like)
		}
		n++
	}
	s.mu.Unlock()
	s.front.count(count, n)
	return s.tell(all)
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

// take removes a delivery from those that are open. It takes its place until it is released.
func (s *Stream) take(id string) *unsettled {
	u := s.open[id]
	delete(s.open, id)
	return u
}

func (s *Stream) release(size int64) {
	full := s.room() == Room{}
	s.held.Messages--
	s.held.Bytes -= size
	if full {
		s.changed()
	}
}

// expire takes the deliveries whose time is over from the application; what it answers is to be told. next is when the next
// one's time is, if there is one.
func (s *Stream) expire(now time.Time) (over []Settlement, next time.Time) {
	n := 0
	for ; n < len(s.deadlines); n++ {
		d := s.deadlines[n]
		u := s.open[d.id]
		if u == nil || !u.deadline.Equal(d.at) { // settled, or extended
			continue
		}
		if d.at.After(now) {
			next = d.at
			break
		}
		s.take(d.id)
		s.front.count(CountExpired, 1)
		if u.message.Attempt >= s.policy.MaxAttempts {
			s.bury(burial{message: u.message, attempts: u.message.Attempt, reason: reasonAttempts})
			continue
		}
		s.release(u.size)
		over = append(over, Settlement{Position: u.message.Position, Outcome: Again})
	}
	s.deadlines = s.deadlines[n:]
	return over, next
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
