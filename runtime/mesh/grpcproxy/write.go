package grpcproxy

import (
	"bytes"
	"crypto/tls"
	"errors"
	"syscall"
	"time"
)

var errUnread = errors.New("the client does not read its answers")

func (c *conn) send(b *batch, f func([]byte) []byte) {
	c.mu.Lock()
	if !c.deaf() {
		c.out = f(c.out)
		c.flooded = len(c.out) > writeLimit
	}
	c.mu.Unlock()
	b.touch(c)
}

// deaf tells that nothing more is to be written to c: it is closed, or a client that has a writer wait while ever more gathers,
// whom the next flush drops. What gathers for an upstream is held down by its streams. c.mu is held.
func (c *conn) deaf() bool {
	c.flooded = c.flooded || c.writing && c.up == nil && len(c.out) > writeLimit
	return c.flooded || c.closed
}

// flush writes what has gathered, unless another goroutine is at it, which then takes this along.
func (c *conn) flush(b *batch) {
	c.mu.Lock()
	if c.deaf() || c.writing {
		flood := c.flooded && !c.closed
		c.mu.Unlock()
		if flood {
			c.nc.Close()
		}
		return
	}
	c.writing = true
	for turn := 0; len(c.out) > 0; turn++ {
		if c.raw == nil && c.try == nil || turn == 4 {
			c.mu.Unlock()
			c.r.count.stalls.Add(1)
			c.r.tasks.Start(func() { c.drain(nil) })
			return
		}
		buf := c.take(b)
		c.mu.Unlock()
		wire, err := buf, error(nil)
		if c.inl != nil {
			wire, err = c.inl.seal(c.nc.(*tls.Conn), buf, c.wire)
			c.wire = wire
		}
		c.r.count.writes.Add(1)
		if c.wbuf = wire; c.try != nil {
			c.werr = nil
			c.wn, err = c.try.TryWrite(wire)
		} else if err == nil {
			err = c.raw.Write(c.wfn)
		}
		if err == nil && c.werr != syscall.EAGAIN && c.werr != syscall.EINTR {
			err = c.werr
		}
		if err != nil {
			c.nc.Close() // the reader notices
			return
		}
		if n := max(c.wn, 0); n < len(wire) {
			c.r.count.stalls.Add(1)
			c.r.tasks.Start(func() { c.drain(wire[n:]) })
			return
		}
		c.mu.Lock()
		c.give(buf)
	}
	c.written(b)
}

// take swaps the write buffers. c.mu is held.
func (c *conn) take(b *batch) []byte {
	if c.pingHeld && b.now >= c.pingDue {
		c.pong()
	}
	buf := c.out
	c.out, c.spare = c.spare, nil
	c.pingSent += len(buf)
	return buf
}

func (c *conn) give(buf []byte) {
	if cap(buf) <= 64<<10 || len(buf) > 8<<10 {
		c.spare, c.idleWrites = buf[:0], 0
	} else if c.idleWrites++; c.idleWrites < 256 { // what a burst has left behind goes
		c.spare = buf[:0]
	}
}

// written ends a turn of writing. c.mu is held, and let go.
func (c *conn) written(b *batch) {
	c.writing = false
	if c.said != nil {
		close(c.said)
		c.said = nil
	}
	over, blocked := c.draining && len(c.streams) == 0 && !c.hung && (c.up != nil || !c.reading.Load()), len(c.blocked) > 0
	c.hung = c.hung || over
	c.mu.Unlock()
	if over {
		c.hangUp()
	} else if blocked {
		c.pump(b)
	}
}

// drain is flush for a peer that does not keep up: it may block.
func (c *conn) drain(rest []byte) {
	b := newBatch()
	for {
		if len(rest) > 0 {
			c.r.count.writes.Add(1)
			c.nc.SetWriteDeadline(time.Now().Add(c.r.WriteTimeout))
			nc := c.nc
			if c.inl != nil {
				nc = c.inl.Conn
			}
			if _, err := nc.Write(rest); err != nil {
				c.nc.Close()
				return
			}
			c.nc.SetWriteDeadline(time.Time{})
		}
		c.mu.Lock()
		if rest != nil && c.inl == nil {
			c.give(rest)
		}
		if len(c.out) == 0 || c.closed {
			c.written(b)
			b.end()
			return
		}
		b.now = int64(time.Since(epoch))
		rest = c.take(b)
		blocked := len(c.blocked) > 0
		c.mu.Unlock()
		if c.inl != nil {
			var err error
			if c.wire, err = c.inl.seal(c.nc.(*tls.Conn), rest, nil); err != nil {
				c.nc.Close()
				return
			}
			rest = c.wire
		}
		if blocked {
			c.pump(b) // c.writing is ours: what this adds to c is taken in the next turn
			b.end()
		}
	}
}

// pump lets blocked streams send in turn while the connection has room.
func (c *conn) pump(b *batch) {
	for {
		c.mu.Lock()
		if len(c.blocked) == 0 || c.win <= 0 || len(c.out) >= writeHigh || c.closed {
			c.mu.Unlock()
			return
		}
		s := c.blocked[0]
		c.blocked = c.blocked[1:]
		most := writeHigh
		if len(c.blocked) > 0 {
			most = quantum
		}
		c.mu.Unlock()
		s.mu.Lock()
		if h := &s.h[c.side()]; h.c == c {
			h.queued = false
			s.push(c.side(), most, b)
			s.settle(b)
		}
		s.mu.Unlock()
	}
}

// putHeaders encodes a header list. c.mu is held.
func (c *conn) putHeaders(id uint32, fields []Field, end bool) {
	var flags byte
	if end {
		flags = flagEnd
	}
	c.spoke = true
	at := len(c.out)
	c.out = c.enc.start(appendFrame(c.out, 0, fHeaders, flags|flagEndHeaders, id))
	for i := range fields {
		c.out = c.enc.field(c.out, &fields[i])
	}
	n := len(c.out) - at - frameHeader
	if n > maxFrame { // CONTINUATION
		block := bytes.Clone(c.out[at+frameHeader:])
		c.out = append(appendFrame(c.out[:at], maxFrame, fHeaders, flags, id), block[:maxFrame]...)
		for block = block[maxFrame:]; len(block) > 0; block = block[n:] {
			if n, flags = maxFrame, 0; len(block) <= n {
				n, flags = len(block), flagEndHeaders
			}
			c.out = append(appendFrame(c.out, n, fContinuation, flags, id), block[:n]...)
		}
		return
	}
	c.out[at], c.out[at+1], c.out[at+2] = byte(n>>16), byte(n>>8), byte(n)
}
