package grpcproxy

import (
	"time"
)

const (
	refusedTime  = 10 * time.Second // a refused connection lives no longer: the next one is asked about again
	refusedCalls = 1000             // and gets no more answers
)

// admit asks whether a downstream connection may call. One that may not is told so request by request, which clients
// show to their users, rather than cut off, which they would take for an outage.
func (c *conn) admit() error {
	if c.up != nil || c.r.OnConn == nil {
		return nil
	}
	tag, err := c.r.OnConn(c.nc)
	if c.tag = tag; err == nil {
		c.admitted = true
		return nil
	}
	c.refusal = asError(err, FlagDenied, grpcDenied, ReasonDenied)
	c.refusedTimer = c.r.tasks.After(refusedTime, func() {
		b := newBatch()
		c.goAway(b)
		b.end()
		c.nc.SetReadDeadline(time.Now().Add(time.Second))
	})
	return nil
}

// refuse answers s, on a connection that was not let in. s.mu is held.
func (c *conn) refuse(s *stream, b *batch) error {
	s.reply(c.refusal, b)
	if c.refused++; c.refused > refusedCalls {
		return connError{codeCalm, c.refusal.Message}
	}
	return nil
}

// dismiss is the end of a connection.
func (c *conn) dismiss() {
	if c.refusedTimer != nil {
		c.refusedTimer.Stop()
	}
	if c.admitted && c.r.OnClose != nil {
		c.r.OnClose(c.nc, c.tag)
	}
}
