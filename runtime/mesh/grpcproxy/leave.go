package grpcproxy

import (
	"math"
	"time"
)

const goAwayPing = "outrigg!"

// goAwayGracefully announces the end, then waits for the peer to have heard of it before naming the last stream.
func (c *conn) goAwayGracefully() {
	b := newBatch()
	c.send(b, func(o []byte) []byte {
		return append(appendFrame(appendGoAway(o, math.MaxInt32, codeNo, ""), 8, fPing, 0, 0), goAwayPing...)
	})
	b.end()
	time.AfterFunc(time.Second, func() { b := newBatch(); c.goAway(b); b.end() })
}

func (c *conn) goAway(b *batch) {
	c.mu.Lock()
	if !c.gone && !c.closed {
		c.gone, c.draining = true, true
		c.leaving.Store(true)
		c.out = appendGoAway(c.out, c.last, codeNo, "")
	}
	c.mu.Unlock()
	b.touch(c)
}

// refused handles a server's GOAWAY: no new streams, and those above last were not touched.
func (c *conn) refused(last uint32, b *batch) {
	c.mu.Lock()
	c.draining = true
	var above []*stream
	for id, s := range c.streams {
		if id > last {
			above = append(above, s)
		}
	}
	c.mu.Unlock()
	c.up.remove(c)
	for _, s := range above {
		s.reset(1, codeRefused, b)
	}
	b.touch(c)
	b.wake = append(b.wake, c.up)
}

// expire ends streams past their deadline whose ends have not done so themselves.
func (c *conn) expire() {
	b := newBatch()
	c.mu.Lock()
	var late []*stream
	more := false
	for _, s := range c.streams {
		if s.deadline != 0 {
			more = true
			if s.deadline+int64(20*time.Millisecond) < b.now {
				late = append(late, s)
			}
		}
	}
	if c.sweeping = more && !c.closed; c.sweeping {
		c.sweep.Reset(50 * time.Millisecond)
	}
	c.mu.Unlock()
	for _, s := range late {
		s.mu.Lock()
		s.reply(grpcDeadline, "deadline exceeded", b)
		s.mu.Unlock()
	}
	b.end()
}

// watch sees to it that s ends by its deadline. c.mu is held.
func (c *conn) watch(s *stream) {
	if s.deadline != 0 && !c.sweeping {
		c.sweeping = true
		if c.sweep == nil {
			c.sweep = time.AfterFunc(50*time.Millisecond, c.expire)
		} else {
			c.sweep.Reset(50 * time.Millisecond)
		}
	}
}

// hangUp closes so that what was written last still arrives.
func (c *conn) hangUp() {
	if w, ok := c.nc.(interface{ CloseWrite() error }); ok && w.CloseWrite() == nil {
		if c.inl != nil {
			c.inl.CloseWrite()
		}
		time.AfterFunc(time.Second, func() { c.nc.Close() })
		return
	}
	c.nc.Close()
}
