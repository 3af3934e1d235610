package grpcproxy

// ping answers. gRPC peers that estimate bandwidth PING after every message while no answer is out; the answer to these waits a
// little for something to be sent with, which spares both sides a write, a wake-up and the next PINGs.
func (c *conn) ping(p []byte, b *batch) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.up == nil && c.r.MinPing > 0 {
		if err := c.pingStrike(b.now); err != nil {
			return err
		}
	}
	hold := c.r.PingHold > 0 && b.now-c.pingAt < int64(4*c.r.PingHold) && c.pingSent < 64<<10
	c.pingAt, c.pingSent = b.now, 0
	c.pong()
	copy(c.pingData[:], p)
	c.pingHeld, c.pingDue = true, b.now+int64(c.r.PingHold)
	if !hold {
		c.pong()
		b.touch(c)
	} else if !c.pinging {
		c.pinging = true
		if c.pingTimer == nil {
			c.pingTimer = c.r.tasks.After(2*c.r.PingHold, c.pingLate)
		} else {
			c.pingTimer.Reset(5 * c.r.PingHold)
		}
	}
	return nil
}

// pong is called with c.mu held.
func (c *conn) pong() {
	if c.pingHeld {
		c.pingHeld = false
		c.out = append(appendFrame(c.out, 8, fPing, flagEnd, 0), c.pingData[:]...)
	}
}

func (c *conn) pingLate() {
	b := newBatch()
	c.mu.Lock()
	if c.pinging = false; c.pingHeld {
		if b.now >= c.pingDue {
			c.pong()
			b.touch(c)
		} else {
			c.pinging = true
			c.pingTimer.Reset(c.r.PingHold)
		}
	}
	c.mu.Unlock()
	b.end()
}
