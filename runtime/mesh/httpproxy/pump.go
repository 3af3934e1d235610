package httpproxy

import (
	"errors"
	"os"
	"time"
)

// pumpEnd is how pump ended: reading from the client, writing to the upstream.
type pumpEnd struct{ rerr, werr error }

// pump sends the rest of a request's body while serve waits for the answer.
func (c *conn) pump(uc *upConn) {
	_, rerr, werr := c.in.move(&uc.stream, &c.stream, nil, c.tickPump)
	if c.due[1].Swap(0) == expired && rerr != nil && !c.in.spliced {
		rerr = errSlowBody
	}
	if c.due[0].Load() == c.until.Load() { // not armed by the answer
		at := c.until.Load()
		if wait := c.waitTime(); wait > 0 && (at == 0 || c.r.clock.Load()+int64(wait) < at) {
			c.due[0].CompareAndSwap(at, c.r.clock.Load()+int64(wait))
		}
	}
	if rerr != nil && !c.in.spliced {
		uc.nc.Close() // serve notices
	} else {
		c.watch.Store(c.r.clock.Load() + int64(watchFrom))
	}
	c.pumped <- pumpEnd{rerr, werr}
}

// endGrace is for a pump that is about to end of itself.
const endGrace = 20 * time.Millisecond

// endPump waits for pump to end, which it makes it do if the answer is complete or has failed.
func (c *conn) endPump(uc *upConn, keep bool, f *Failure) (bool, *Failure) {
	e, stopped := c.awaitPump(uc, f)
	var cause *Failure
	switch {
	case f != nil && (stopped || e.rerr == nil || c.in.spliced):
		return false, f
	case stopped, e.rerr != nil && c.in.spliced:
		cause = &Failure{Flag: FlagClosed, Sent: true, Err: errExtra}
	case e.rerr != nil:
		c.o.ByClient = true
		cause = &Failure{Flag: FlagProtocol, Sent: true, Err: errGone}
		var own *Error
		if errors.As(e.rerr, &own) {
			cause.Err = own
		}
	case e.werr != nil:
		cause = c.failed(e.werr, true)
	default:
		return keep, nil
	}
	if f != nil {
		cause.Begun = f.Begun
		return false, cause
	}
	// The answer is complete, the request is not.
	if !stopped || !c.req.expect || c.continued { // else the answer was the client's not to send its body
		c.o.Err = cause.Err
	}
	uc.nc.Close()
	uc.spent = true
	c.hangUp()
	return false, nil
}

// awaitPump also says if it had to stop it, which says nothing of either side.
func (c *conn) awaitPump(uc *upConn, f *Failure) (e pumpEnd, stopped bool) {
	wait := endGrace
	if f != nil {
		wait = 0
	}
	t := time.NewTimer(wait)
	defer t.Stop()
	select {
	case e = <-c.pumped:
		return e, false
	case <-t.C:
	}
	select {
	case e = <-c.pumped:
		return e, false
	default:
	}
	uc.nc.Close()
	uc.spent = true
	c.nc.SetReadDeadline(past)
	e = <-c.pumped
	c.nc.SetReadDeadline(time.Time{})
	if e.rerr == nil && e.werr == nil { // it was at its end, and on a busy machine had no time to say so
		return e, false
	}
	return e, e.rerr == nil || c.in.spliced || errors.Is(e.rerr, os.ErrDeadlineExceeded)
}

// watchClient notices that the client of a waiting request goes away.
func (c *conn) watchClient() {
	if c.raw != nil {
		gone := false
		err := c.raw.Read(func(fd uintptr) bool {
			gone = hungUp(fd, c.r.HalfClose)
			return gone
		})
		if gone && err == nil {
			c.gone.Store(true)
			if uc := c.up.Load(); uc != nil {
				uc.nc.Close()
			}
			if stop := c.stop.Load(); stop != nil {
				(*stop)()
			}
		}
	}
	c.watched <- struct{}{}
}

// unwatch ends the watch, and says if the client is still there.
func (c *conn) unwatch() bool {
	if c.watch.Swap(0) == expired {
		c.nc.SetReadDeadline(past)
		<-c.watched
		c.nc.SetReadDeadline(time.Time{})
	}
	return !c.gone.Load()
}
