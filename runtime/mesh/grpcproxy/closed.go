package grpcproxy

import (
	"math"
)

// memory is what a connection knows of streams it no longer has, so that frames that crossed our RST_STREAM are told
// from faults (RFC 9113 section 5.1). It forgets: then a peer may be told STREAM_CLOSED once more than it should.
type memory struct {
	reset   [128]uint32 // streams we have reset lately
	nreset  int
	skipped [16][2]uint32 // ids that were never used, between the two
	nskip   int
}

func (m *memory) wasReset(id uint32) bool {
	for _, r := range m.reset {
		if r == id {
			return true
		}
	}
	return false
}

// opened is told of each new stream and of the highest one before.
func (m *memory) opened(last, id uint32) {
	if id > last+2 || last == 0 && id > 1 {
		m.skipped[m.nskip%len(m.skipped)] = [2]uint32{last, id}
		m.nskip++
	}
}

func (m *memory) wasSkipped(id uint32) bool {
	for _, s := range m.skipped {
		if s[0] < id && id < s[1] {
			return true
		}
	}
	return false
}

// isIdle says that stream id was never begun.
func (c *conn) isIdle(id uint32) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.up != nil {
		return id >= c.next || id&1 == 0
	}
	return !c.gone && (id > c.last || id&1 == 0)
}

// late handles DATA of a stream that has ended.
func (c *conn) late(id uint32, b *batch) {
	c.mu.Lock()
	ignore := c.up != nil || c.gone || c.past.wasReset(id)
	c.mu.Unlock()
	if !ignore {
		c.rst(id, codeStreamClosed, b)
	}
}

// lateHeaders is late for HEADERS, which end the connection: their block may be meant for a stream that is not there.
func (c *conn) lateHeaders(id uint32, b *batch) error {
	c.mu.Lock()
	ignore := c.gone || c.past.wasReset(id)
	c.mu.Unlock()
	if !ignore {
		return connError{codeStreamClosed, "HEADERS on a closed stream"}
	}
	return c.idle(b)
}

// rst sends RST_STREAM.
func (c *conn) rst(id, code uint32, b *batch) {
	c.send(b, func(o []byte) []byte {
		c.past.reset[c.past.nreset%len(c.past.reset)] = id
		c.past.nreset++
		return appendU32(o, fReset, id, code)
	})
}

// wrong is an error of one stream.
func (c *conn) wrong(id, code uint32, b *batch) error {
	s := c.find(id)
	switch {
	case s == nil && c.isIdle(id):
		return connError{code, "fault on an idle stream"}
	case s == nil:
		c.rst(id, code, b)
	case c.up == nil:
		s.mu.Lock()
		s.reset0(code, b)
		s.mu.Unlock()
	default:
		s.mu.Lock()
		if s.runs(c, id) {
			s.reply(fault(FlagProtocol, grpcInternal, ReasonMalformed, "malformed response"), b)
		}
		s.mu.Unlock()
	}
	return nil
}

// priority checks a PRIORITY frame, which has no other use any more (RFC 9113 section 5.3.2).
func (c *conn) priority(id uint32, p []byte, b *batch) error {
	if len(p) != 5 {
		if err := c.wrong(id, codeFrameSize, b); err != nil {
			return err
		}
	} else if uint32(p[0]&0x7f)<<24|uint32(p[1])<<16|uint32(p[2])<<8|uint32(p[3]) == id {
		if err := c.wrong(id, codeProtocol, b); err != nil {
			return err
		}
	}
	return c.idle(b)
}

// windowUpdate is RFC 9113 section 6.9.
func (c *conn) windowUpdate(id uint32, n int64, b *batch) error {
	if id != 0 {
		s := c.find(id)
		switch {
		case s == nil && c.isIdle(id):
			return connError{codeProtocol, "WINDOW_UPDATE on an idle stream"}
		case s == nil:
			return nil
		case n == 0:
			return c.wrong(id, codeProtocol, b)
		}
		s.window(c, id, n, b)
		return nil
	}
	if n == 0 {
		return connError{codeProtocol, "WINDOW_UPDATE"}
	}
	c.mu.Lock()
	c.win += n
	over := c.win > math.MaxInt32
	c.mu.Unlock()
	if over {
		return connError{codeFlowControl, "WINDOW_UPDATE"}
	}
	c.pump(b)
	return nil
}
