package grpcproxy

import (
	"errors"
	"math"
	"time"

	"github.com/outrigger-mesh/outrigger/runtime/mesh/internal/upkeep"
)

const (
	strikesMax  = 2               // PINGs too many that a peer is forgiven, as in gRPC
	pingRest    = 5 * time.Minute // gRPC servers take an unasked-for PING in this time, and strikesMax more
	tendPing    = "outriggr"      // the payload of our keepalive
	hurryFactor = 4               // how much more often than a limit it is looked after
)

var (
	errFrozen = errors.New("no answer to a keepalive PING")
	errAged   = errors.New("the connection has reached its age")
	errSlow   = errors.New("a frame, or a list of headers, was not whole in time")
)

// care is what a connection's timer looks after: liveness, idleness, age, readers that have stalled. Times are since
// epoch; conn.mu is held.
type care struct {
	timer    *time.Timer
	cause    error // why we closed it
	wrote    int64 // when HEADERS or DATA were last written
	emptied  int64 // when the last stream ended
	probed   int64 // when our last PING was sent
	probing  bool  // it is not answered
	strikes  int   // our PINGs since the peer last sent HEADERS or DATA
	endAt    int64 // of its age; 0: none
	leavesAt int64 // when it is cut off; 0: it was not asked to leave
}

// startTending sets the timer going.
func (c *conn) startTending() {
	c.mu.Lock()
	defer c.mu.Unlock()
	now := int64(time.Since(epoch))
	c.care.emptied, c.care.wrote = now, now
	c.lastRead.Store(now)
	if c.up == nil && c.r.MaxAge > 0 {
		c.care.endAt = now + int64(upkeep.Jitter(c.r.MaxAge, 0.1))
	}
	if !c.closed {
		c.care.timer = c.r.tasks.After(c.tendEvery(), c.tend)
	}
}

// tendEvery is a fraction of the shortest time there is to look after.
func (c *conn) tendEvery() time.Duration {
	d := time.Duration(math.MaxInt64)
	least := func(ds ...time.Duration) {
		for _, v := range ds {
			if v > 0 {
				d = min(d, v)
			}
		}
	}
	if c.up != nil {
		least(c.r.Keepalive, c.r.KeepaliveTimeout, c.r.StallTimeout)
	} else {
		least(c.r.ClientKeepalive, c.r.FrameTimeout, c.r.IdleTimeout, c.r.MaxAge, c.r.MaxAgeGrace)
		if c.care.probing {
			least(c.r.KeepaliveTimeout)
		}
	}
	return max(d/hurryFactor, time.Millisecond)
}

// tend is called by the timer.
func (c *conn) tend() {
	b := newBatch()
	c.mu.Lock()
	if c.closed {
		c.mu.Unlock()
		return
	}
	ping := c.wantsPing(b.now)
	if ping {
		c.out = append(appendFrame(c.out, 8, fPing, 0, 0), tendPing...)
	}
	leave := c.wantsToLeave(b.now)
	if c.care.probing && b.now-c.care.probed > int64(c.r.KeepaliveTimeout) {
		c.care.cause = errFrozen
	}
	if c.care.leavesAt != 0 && b.now > c.care.leavesAt && c.r.MaxAgeGrace > 0 {
		c.care.cause = errAged
	}
	if since := c.unended.Load(); c.up == nil && c.r.FrameTimeout > 0 && since != 0 && b.now-since > int64(c.r.FrameTimeout) {
		c.care.cause = errSlow
	}
	dead := c.care.cause != nil
	c.care.timer.Reset(c.tendEvery())
	c.mu.Unlock()
	switch {
	case dead:
		c.nc.Close() // the reader ends
	case leave:
		c.goAwayGracefully()
	case ping:
		b.touch(c)
	}
	if c.up != nil && c.r.StallTimeout > 0 {
		c.unstall(b)
	}
	b.end()
}

// wantsPing decides on a keepalive PING, so that a gRPC server's enforcement policy is never hurt: one at most while it
// sends nothing, two more, then one in pingRest. c.mu is held.
func (c *conn) wantsPing(now int64) bool {
	k, read := &c.care, c.lastRead.Load()
	if k.probing && read > k.probed {
		k.probing = false
	}
	every := c.r.ClientKeepalive
	if c.up != nil {
		if every = c.r.Keepalive; len(c.streams) == 0 && !c.r.KeepaliveIdle {
			return false
		}
		if c.lastHeard.Load() > k.probed {
			k.strikes = 0
		} else if k.strikes >= strikesMax {
			every = max(every, pingRest)
		}
		read = max(read, k.wrote)
	}
	if every <= 0 || k.probing || now-max(read, k.probed) < int64(every) {
		return false
	}
	k.probing, k.probed = true, now
	k.strikes++
	return true
}

// wantsToLeave says that a downstream connection is idle, or old. c.mu is held.
func (c *conn) wantsToLeave(now int64) bool {
	k := &c.care
	if c.up != nil || k.leavesAt != 0 || c.draining {
		return false
	}
	idle := c.r.IdleTimeout > 0 && len(c.streams) == 0 && now-max(c.lastHeard.Load(), k.emptied) > int64(c.r.IdleTimeout)
	if !idle && (k.endAt == 0 || now < k.endAt) {
		return false
	}
	k.leavesAt = now + int64(c.r.MaxAgeGrace)
	return true
}

// pingStrike counts PINGs of a client that come too fast while nothing is sent to it, as gRPC does. c.mu is held.
func (c *conn) pingStrike(now int64) error {
	if c.spoke || c.pingAt == 0 || now-c.pingAt >= int64(c.r.MinPing) {
		if c.spoke {
			c.strikes = 0
		}
		c.spoke = false
		return nil
	}
	if c.strikes++; c.strikes <= strikesMax {
		return nil
	}
	return connError{codeCalm, "too_many_pings"} // gRPC clients know these words, and ping less
}
