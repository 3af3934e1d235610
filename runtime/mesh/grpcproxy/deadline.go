package grpcproxy

import (
	"time"
)

// What a client that set a deadline hears, once it has passed, is its own timer: a code without a reason. So the sidecar beside
// it answers a moment earlier. That moment costs the call a little of its time, and must still cover the way of the answer to
// the client and the lateness of both sides' timers on a busy machine. Other relays on the way take nothing away.
const (
	marginShare = 20                    // one part in so many of the call's time
	marginLeast = time.Millisecond      // timers are not better than that
	marginMost  = 25 * time.Millisecond // what two busy processes need is the same for long calls
	marginTiny  = 4                     // the least is at most one part in so many, so that calls of a few milliseconds have a chance

	lateGrace  = 20 * time.Millisecond // in which both ends may end a call themselves, where nobody is waiting for our word
	sweepAgain = 50 * time.Millisecond // when what could not be ended is looked at once more
	sweepAhead = time.Millisecond      // what is due so soon is ended in the same sweep,
	sweepEach  = time.Microsecond      // and for each stream of the connection so much more: sweeping many costs little of the time
)

// Margin is how long before its deadline a call that may take timeout is answered by the sidecar of its caller.
func Margin(timeout time.Duration) time.Duration {
	return min(max(timeout/marginShare, marginLeast), marginMost, timeout/marginTiny)
}

// due is when the deadline of s passes, or that of its attempt; 0: never. s.mu or the lock of its downstream connection is held.
func (s *stream) due() int64 {
	if s.deadline == 0 || s.tryDeadline != 0 && s.tryDeadline < s.deadline {
		return s.tryDeadline
	}
	return s.deadline
}

// ends is when s, or its attempt, is ended here; 0: never. The same lock is held.
func (s *stream) ends() int64 {
	due := s.due()
	if due != 0 {
		due += int64(lateGrace)
	}
	if s.patience != 0 && (due == 0 || s.patience < due) {
		return s.patience
	}
	return due
}

// patient says until when a client waits for the answer to a request that may take timeout from born on; 0: that is not ours to keep.
func (r *Relay) patient(born int64, timeout time.Duration) int64 {
	if r.Margins == 0 || timeout == 0 {
		return 0
	}
	return born + int64(timeout-time.Duration(r.Margins)*Margin(timeout))
}

// watch sees to it that s is ended in time. There is one timer for a connection, which is set anew only for a stream that ends
// before all others; it goes off once in the time that calls may take, however many of them end well. c.mu is held.
func (c *conn) watch(s *stream) {
	if at := s.ends(); at != 0 && (c.sweepAt == 0 || at < c.sweepAt) {
		c.sweepBy(at)
	}
}

// sweepBy sets the timer. c.mu is held.
func (c *conn) sweepBy(at int64) {
	if c.closed {
		return
	}
	c.sweepAt = at
	in := max(time.Duration(at)-time.Since(epoch), 0)
	if c.sweep == nil {
		c.sweep = c.r.tasks.After(in, c.expire)
	} else {
		c.sweep.Reset(in)
	}
}

// expire ends the streams whose time is up.
func (c *conn) expire() {
	b := newBatch()
	var late []*stream
	c.mu.Lock()
	soon := b.now + int64(sweepAhead+time.Duration(len(c.streams))*sweepEach)
	c.sweepAt = 0
	for _, s := range c.streams {
		at := s.ends()
		if at == 0 {
			continue
		}
		if at <= soon {
			late = append(late, s)
			at = b.now + int64(sweepAgain)
		}
		if c.sweepAt == 0 || at < c.sweepAt {
			c.sweepAt = at
		}
	}
	if c.sweepAt != 0 {
		c.sweepBy(c.sweepAt)
	}
	c.mu.Unlock()
	for _, s := range late {
		s.expired(soon, b)
	}
	b.end()
}

// expired ends s, or an attempt of which nothing was sent yet, if it is to end by then.
func (s *stream) expired(by int64, b *batch) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if ends := s.ends(); s.finished.Load() || ends == 0 || ends > by {
		return
	}
	e := s.tooLate(by, b)
	if !s.over(by) {
		if s.waitsFor != nil && s.mayAgain(Failed{Flag: FlagTimeout}) {
			s.again(e, b)
			return
		}
		if s.waitsFor == nil && s.replay(Failed{Flag: FlagTimeout, Sent: true}, e, b) {
			return
		}
	}
	s.reply(e, b)
}

// over says that the time for the whole request is up by then, not only that for an attempt. s.mu is held, here and below.
func (s *stream) over(by int64) bool {
	return s.deadline != 0 && s.deadline <= by || s.patience != 0 && s.patience <= by
}

func (s *stream) overdue(b *batch) bool {
	return s.over(b.now) || s.tryDeadline != 0 && s.tryDeadline <= b.now
}

// tooLate is the answer to a request whose time, or that of its attempt, is up by then.
func (s *stream) tooLate(by int64, b *batch) *Error {
	waited := time.Duration(b.now - s.born)
	if unit := time.Millisecond; waited > 10*unit {
		waited = waited.Round(unit)
	}
	e := fault(FlagTimeout, grpcDeadline, ReasonTimeout, "deadline exceeded after "+waited.String()+": "+s.awaited())
	if !s.over(by) {
		e.Message, e.Metadata = "the attempt took too long: "+s.awaited(), map[string]string{"limit": "attempt"}
	}
	if e.Answered = s.began; s.r.Late != nil {
		s.r.Late(s.out.Tag, e)
	}
	return e
}

// awaited tells how far a request has come.
func (s *stream) awaited() string {
	up := &s.h[1]
	switch {
	case s.call != nil:
		return "the method has not finished"
	case s.parked != nil:
		return "still waiting for an instance to be known"
	case s.waitsFor != nil:
		return "still waiting for a place on a connection to " + s.waitsFor.Name
	case up.c == nil:
		return "no instance was reached"
	case s.began:
		return "connected to " + up.c.up.Name + ", whose answer has begun and not ended"
	case !up.done:
		return "connected to " + up.c.up.Name + ", the request was sent in part, no answer"
	}
	return "connected to " + up.c.up.Name + ", the request was sent, no answer"
}
