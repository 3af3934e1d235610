package grpcproxy

import (
	"strconv"
	"strings"
	"time"
)

// parseTimeout reads a grpc-timeout; 0: there is none, or none that makes sense.
func parseTimeout(s string) time.Duration {
	if len(s) < 2 || len(s) > 9 {
		return 0
	}
	n, err := strconv.ParseUint(s[:len(s)-1], 10, 32)
	i := strings.IndexByte("numSMH", s[len(s)-1])
	if err != nil || i < 0 {
		return 0
	}
	unit := [...]time.Duration{1, time.Microsecond, time.Millisecond, time.Second, time.Minute, time.Hour}[i]
	if time.Duration(n) > maxTimeout/unit {
		return maxTimeout
	}
	return max(unit*time.Duration(n), 1)
}

const maxTimeout = 100 * 365 * 24 * time.Hour

func formatTimeout(d time.Duration) string {
	d = max(d, 1)
	switch { // at most 8 digits
	case d < 90*time.Second:
		return strconv.FormatInt(int64((d+999)/1000), 10) + "u"
	case d < 24*time.Hour:
		return strconv.FormatInt(int64(d/time.Millisecond), 10) + "m"
	}
	return strconv.FormatInt(int64(d/time.Minute), 10) + "M"
}

const (
	sweepEvery = 50 * time.Millisecond
	sweepGrace = 20 * time.Millisecond // in which the ends may do so themselves
)

// due is when s has to end, or its attempt; 0: never. s.mu or the lock of its downstream connection is held.
func (s *stream) due() int64 {
	if s.deadline == 0 || s.tryDeadline != 0 && s.tryDeadline < s.deadline {
		return s.tryDeadline
	}
	return s.deadline
}

// limit takes over what Route said of timeouts. s.mu is held.
func (s *stream) limit(h *Headers, b *batch) {
	if h.Timeout == s.timeout && h.PerTry <= 0 && s.tryDeadline == 0 {
		return
	}
	after := func(from int64, d time.Duration) int64 {
		if d <= 0 {
			return 0
		}
		return from + int64(d)
	}
	c := s.h[0].c
	c.mu.Lock()
	s.timeout = h.Timeout
	s.deadline = after(int64(s.out.Start.Sub(epoch)), h.Timeout)
	s.tryDeadline = after(b.now, h.PerTry)
	c.watch(s)
	c.mu.Unlock()
	if s.retime = true; s.due() == 0 {
		h.Del("grpc-timeout")
	}
}

// remaining puts into fields what is left of the deadline. s.mu is held.
func (s *stream) remaining(fields []Field, b *batch) []Field {
	due := s.due()
	if due == 0 || !s.retime {
		return fields
	}
	v := formatTimeout(time.Duration(due - b.now))
	for i := range fields {
		if fields[i].kind == kindTimeout {
			fields[i].Value = v
			return fields
		}
	}
	return append(fields, newField("grpc-timeout", v))
}

// watch sees to it that s ends by its deadline. c.mu is held.
func (c *conn) watch(s *stream) {
	if s.due() != 0 && !c.sweeping && !c.closed {
		c.sweeping = true
		if c.sweep == nil {
			c.sweep = c.r.tasks.after(sweepEvery, c.expire)
		} else {
			c.sweep.Reset(sweepEvery)
		}
	}
}

// expire ends streams past their deadline whose ends have not done so themselves.
func (c *conn) expire() {
	b := newBatch()
	c.mu.Lock()
	var late []*stream
	more := false
	for _, s := range c.streams {
		if due := s.due(); due != 0 {
			more = true
			if due+int64(sweepGrace) < b.now {
				late = append(late, s)
			}
		}
	}
	if c.sweeping = more && !c.closed; c.sweeping {
		c.sweep.Reset(sweepEvery)
	}
	c.mu.Unlock()
	for _, s := range late {
		s.expired(b)
	}
	b.end()
}

// expired ends s, or an attempt of which nothing was sent yet.
func (s *stream) expired(b *batch) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.finished.Load() || !s.overdue(b) {
		return
	}
	e := s.tooLate(b)
	if e.Metadata != nil && s.waitsFor != nil && s.out.Attempts < s.r.MaxAttempts {
		s.again(e, b)
		return
	}
	s.reply(e, b)
}

// overdue and tooLate are called with s.mu held.
func (s *stream) overdue(b *batch) bool { return s.due() != 0 && s.due() <= b.now }

func (s *stream) tooLate(b *batch) *Error {
	e := fault(FlagTimeout, grpcDeadline, ReasonTimeout, "deadline exceeded")
	if s.deadline == 0 || s.deadline > b.now {
		e.Message, e.Metadata = "the attempt took too long", map[string]string{"limit": "attempt"}
	}
	return e
}
