package rpcproxy

import (
	"syscall"
	"time"
)

const (
	writeTurns = 4        // that a reader writes in a row for others
	keepBuffer = 64 << 10 // write buffers of more are not kept
)

// flush writes what has gathered, unless another goroutine is at it, which then takes this along.
func (c *conn) flush() {
	c.mu.Lock()
	if c.writing || c.closed {
		c.mu.Unlock()
		return
	}
	c.writing = true
	for turn := 0; len(c.out) > 0; turn++ {
		if c.raw == nil || turn == writeTurns {
			c.mu.Unlock()
			c.r.count.stalls.Add(1)
			c.r.tasks.Start(func() { c.drain(nil) })
			return
		}
		buf := c.take()
		c.wbuf = buf
		c.mu.Unlock()
		c.r.count.writes.Add(1)
		err := c.raw.Write(c.wfn)
		if err == nil && c.werr != syscall.EAGAIN && c.werr != syscall.EINTR {
			err = c.werr
		}
		if err != nil {
			c.nc.Close() // the reader notices
			c.mu.Lock()
			break
		}
		if n := max(c.wn, 0); n < len(buf) {
			c.r.count.stalls.Add(1)
			c.r.tasks.Start(func() { c.drain(buf[n:]) })
			return
		}
		c.mu.Lock()
		c.give(buf)
	}
	c.written()
}

// take swaps the write buffers. c.mu is held, here and below.
func (c *conn) take() []byte {
	buf := c.out
	c.out, c.spare = c.spare, nil
	return buf
}

func (c *conn) give(buf []byte) {
	if cap(buf) <= keepBuffer {
		c.spare = buf[:0]
	}
}

// written ends a turn of writing, and lets c.mu go.
func (c *conn) written() {
	c.writing = false
	if c.room != nil {
		close(c.room)
		c.room = nil
	}
	over := c.leaving && len(c.pending) == 0 && len(c.out) == 0
	c.mu.Unlock()
	if over {
		c.nc.Close()
	}
}

// drain is flush where it may block.
func (c *conn) drain(rest []byte) {
	for {
		if len(rest) > 0 {
			c.r.count.writes.Add(1)
			c.nc.SetWriteDeadline(time.Now().Add(c.r.WriteTimeout))
			_, err := c.nc.Write(rest)
			c.nc.SetWriteDeadline(time.Time{})
			if err != nil {
				c.nc.Close()
				c.mu.Lock()
				c.written()
				return
			}
		}
		c.mu.Lock()
		if rest != nil {
			c.give(rest)
		}
		if len(c.out) == 0 || c.closed {
			c.written()
			return
		}
		rest = c.take()
		c.mu.Unlock()
	}
}
