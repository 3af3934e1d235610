package grpcproxy

import (
	"strconv"
	"strings"
	"time"
)

// parseTimeout reads a grpc-timeout, at most 8 digits and a unit; "" is none, and 0.
func parseTimeout(s string) (d time.Duration, ok bool) {
	if len(s) < 2 || len(s) > 9 {
		return 0, s == ""
	}
	n, err := strconv.ParseUint(s[:len(s)-1], 10, 32)
	i := strings.IndexByte("numSMH", s[len(s)-1])
	if err != nil || i < 0 {
		return 0, false
	}
	unit := [...]time.Duration{1, time.Microsecond, time.Millisecond, time.Second, time.Minute, time.Hour}[i]
	if time.Duration(n) > maxTimeout/unit {
		return maxTimeout, true
	}
	return max(unit*time.Duration(n), 1), true
}

const (
	maxTimeout   = 100 * 365 * 24 * time.Hour
	timeoutShown = 32 // bytes of one that cannot be read
)

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
	if h.Timeout != s.timeout {
		s.patience = s.r.patient(s.born, h.Timeout)
	}
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
