package rpcproxy

import (
	"math"
	"time"
)

// hurryFactor is how much more often than a limit it is looked after.
const hurryFactor = 4

// startTending sets the timer going that looks after frames that do not become whole, and upstreams that are silent.
func (c *conn) startTending() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.closed {
		c.tend = c.r.tasks.After(c.tendEvery(), c.look)
	}
}

func (c *conn) tendEvery() time.Duration {
	d := time.Duration(math.MaxInt64)
	all := [...]time.Duration{c.r.FrameTimeout, c.r.Heartbeat, c.r.HeartbeatTimeout}
	n := len(all)
	if c.up == nil {
		n = 1
	}
	for _, v := range all[:n] {
		if v > 0 {
			d = min(d, v)
		}
	}
	return max(d/hurryFactor, time.Millisecond)
}

// look is called by the timer.
func (c *conn) look() {
	b := newBatch()
	var why error
	if at := c.partial.Load(); at != 0 && c.r.FrameTimeout > 0 && b.now-at > int64(c.r.FrameTimeout)+c.arrived.Load()*int64(perByte) {
		why = errSlow
	}
	c.mu.Lock()
	if c.closed {
		c.mu.Unlock()
		return
	}
	if c.up != nil && c.r.Heartbeat > 0 {
		if c.beat(b) {
			why = errFrozen
		}
	}
	c.tend.Reset(c.tendEvery())
	c.mu.Unlock()
	if why != nil {
		c.end(why)
	}
	b.end()
}

// perByte is what each byte of a frame that has come is worth in time: 16 KiB/s keep a connection.
const perByte = time.Second / (16 << 10)

// beat sends a heartbeat to a silent upstream; true if one was not answered. c.mu is held.
func (c *conn) beat(b *batch) (frozen bool) {
	heard := c.heard.Load()
	if c.probed != 0 && heard >= c.probed {
		c.probed = 0
	}
	if c.probed != 0 {
		return b.now-c.probed > int64(c.r.HeartbeatTimeout)
	}
	if b.now-heard >= int64(c.r.Heartbeat) {
		c.probed = b.now
		c.out = c.codec.AppendHeartbeat(c.out, c.newID())
		c.r.count.beats.Add(1)
		b.touch(c)
	}
	return false
}
