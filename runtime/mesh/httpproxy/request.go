package httpproxy

import (
	"context"
	"errors"
	"time"
)

// relay carries one request, and says if the client connection goes on.
func (c *conn) relay() (keep bool) {
	h := &c.req
	c.out.init(none, 0, false)
	c.in.init(none, 0, false)
	c.in.reserved = c.r.Reserved
	c.in.request(h)
	c.continued = false
	for start := c.stream.r; ; h.Attempt++ {
		up, err := c.route()
		if err != nil {
			return c.local(err, FlagNoRoute)
		}
		c.o.Upstream, c.o.Attempts = up, h.Attempt+1
		c.o.Err, c.o.Flag = nil, "" // those of the attempt before
		keep, f := c.try(up, start)
		if f == nil {
			return keep
		}
		c.o.Err, c.o.Flag = f.Err, f.Flag
		var own *Error
		switch {
		case f.Err == errGone:
			c.o.ByClient, c.o.Flag = true, ""
			return false
		case errors.As(f.Err, &own):
			if f.Begun {
				return false
			}
			return c.local(own, f.Flag)
		}
		if c.r.Attempted != nil {
			c.r.Attempted(h, up, f)
		}
		switch {
		case f.Begun:
			return false
		case c.in.lost.Load(), !f.again && !c.again(f): // it may have been lost since Again was asked
			return c.local(f.answer(up), f.Flag)
		}
		c.disarm()
		h.Last = up
	}
}

// mostAttempts are made of a request, whatever Again says.
const mostAttempts = 10

// again says if the request is to be tried once more.
func (c *conn) again(f *Failure) bool {
	h := &c.req
	switch {
	case h.Attempt+1 >= mostAttempts, h.Timeout > 0 && time.Since(c.o.Start) >= h.Timeout, c.in.lost.Load(), h.Method == "CONNECT" && f.Sent:
		return false
	case c.r.Again != nil:
		return c.r.Again(h, f)
	}
	return h.Attempt+1 < c.r.MaxAttempts && f.Flag != FlagTimeout && (!f.Sent || h.Idempotent())
}

// route asks for the upstream, and sets the deadlines that it gives the request.
func (c *conn) route() (up *Upstream, err error) {
	h := &c.req
	for {
		h.PerTry = 0
		up, err = c.r.Route(h)
		later, ok := err.(*Later)
		if !ok {
			break
		}
		c.bound(h.Timeout, 0)
		resumed := make(chan struct{})
		ended := false
		c.blocks(func(ctx context.Context) {
			later.Wait(func() { close(resumed) })
			select {
			case <-resumed:
			case <-ctx.Done():
				ended = true
			}
		})
		if ended {
			return nil, &Error{Status: 504, Reason: ReasonTimeout, Text: "the route was not known in time"}
		}
	}
	if err == nil {
		c.bound(h.Timeout, h.PerTry)
	}
	return up, err
}

// bound sets what no deadline is later than.
func (c *conn) bound(request, attempt time.Duration) {
	if request <= 0 && attempt <= 0 {
		c.until.Store(0)
		return
	}
	t := now()
	var at int64
	if request > 0 {
		at = t + int64(request-time.Since(c.o.Start))
	}
	if attempt > 0 && (at == 0 || t+int64(attempt) < at) {
		at = t + int64(attempt)
	}
	c.until.Store(max(at, 1))
}

// try makes one attempt. Connections that turn out to be dead before anything was sent are replaced, which is part of it.
func (c *conn) try(up *Upstream, start int) (keep bool, f *Failure) {
	fresh := c.req.Last == up || c.req.Method == "CONNECT"
	for {
		uc, f := up.get(c, fresh)
		if f != nil {
			return false, f
		}
		c.up.Store(uc)
		if c.r.closed.Load() {
			uc.nc.Close()
		}
		keep, f = c.attempt(uc, start)
		if f == nil {
			return keep, nil
		}
		c.up.Store(nil)
		f.Reused = uc.pooled
		dead := f.Err == errDead && uc.pooled
		uc.drop()
		if !dead {
			return false, f
		}
	}
}

// compose answers the head, and what there is of the body.
func (c *conn) compose(uc *upConn, start int) ([]byte, error) {
	out := c.req.appendRequest((*c.scratch)[:0], uc.u.Name)
	if c.in.kept != nil { // a part of the body was read before and has left the buffer
		return append(out, *c.in.kept...), nil
	}
	c.stream.r = start
	c.in.request(&c.req)
	head := len(out)
	out, _, err := c.in.take(out, &c.stream)
	if err == nil && !c.in.done {
		c.in.keep(out[head:], c.r.MaxCopy)
	}
	return out, err
}

// attempt sends the request to uc and passes the answer on. With a failure, uc is to be dropped.
func (c *conn) attempt(uc *upConn, start int) (keep bool, f *Failure) {
	h := &c.req
	if h.Method == "CONNECT" {
		c.o.Status = 200
		c.tunnel(uc, append((*c.scratch)[:0], "HTTP/1.1 200 OK\r\n\r\n"...))
		return false, nil
	}
	uc.acquire()
	out, err := c.compose(uc, start)
	*c.scratch = out
	if err != nil {
		c.o.ByClient = true
		return false, &Failure{Flag: FlagProtocol, Err: err}
	}
	pumping := !c.in.done
	if f := c.send(uc, out, pumping); f != nil {
		return false, f
	}
	keep, f = c.answer(uc, pumping)
	if pumping {
		keep, f = c.endPump(uc, keep, f)
	}
	if !c.unwatch() {
		return false, &Failure{Flag: FlagClosed, Sent: true, Err: errGone, Begun: c.o.Status != 0}
	}
	if f == nil && c.o.Status != 101 {
		c.keepUp(uc)
	}
	return keep, f
}

// send writes the request, or what there is of it, and has pump write the rest.
func (c *conn) send(uc *upConn, out []byte, pumping bool) *Failure {
	h := &c.req
	if !pumping && uc.tcp != nil && uc.raw != nil {
		if !c.arm(0, c.waitTime()) {
			return c.overdue(false)
		}
		c.watch.Store(c.r.clock.Load() + int64(watchFrom))
		if n, err := uc.trip(out); err != nil {
			c.unwatch()
			return c.failed(err, n > 0)
		}
		return nil
	}
	if !uc.live() {
		return &Failure{Err: errDead}
	}
	if !c.arm(0, c.waitTime()) {
		return c.overdue(false)
	}
	if n, err := uc.nc.Write(out); err != nil {
		return c.failed(err, n > 0)
	}
	if pumping {
		c.arm(0, 0)
		h.settle()
		c.pumped = make(chan pumpEnd, 1)
		c.in.lost.Store(c.in.kept == nil)
		go c.pump(uc)
	} else {
		c.watch.Store(c.r.clock.Load() + int64(watchFrom))
	}
	return nil
}

// waitTime is how long the answer is waited for: what the request's own bound is, if it has one.
func (c *conn) waitTime() time.Duration {
	if c.req.Timeout > 0 || c.r.WaitTimeout < 0 {
		return 0
	}
	return c.r.WaitTimeout
}

// overdue is the failure of an attempt that a deadline has passed in before it did anything.
func (c *conn) overdue(sent bool) *Failure {
	return &Failure{Flag: FlagTimeout, Sent: sent, Err: c.late()}
}

// keepUp puts the upstream connection back if the next request can use it.
func (c *conn) keepUp(uc *upConn) {
	res := &c.res
	odd := (res.status == 204 || res.status == 304) && res.chunked || res.status == 204 && res.length > 0
	c.until.Store(0)
	if odd || uc.spent || c.out.mode == toClose || uc.r != uc.w || !c.in.done || !res.persistent() || !c.arm(0, 0) {
		uc.drop()
		return
	}
	c.up.Store(nil)
	uc.u.put(uc)
}
