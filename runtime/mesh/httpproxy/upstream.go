package httpproxy

import (
	"context"
	"errors"
	"fmt"
	"net"
	"slices"
	"sync"
)

// Upstream is one instance: an address and its connections. Make one with NewUpstream and keep it.
type Upstream struct {
	Name string // also the Host of requests that have none
	r    *Relay
	dial func(context.Context) (net.Conn, error)

	mu      sync.Mutex
	idle    []*upConn // the last one used comes last
	open    int       // idle, in use, or being made
	waiting []chan *upConn
	closed  bool
}

// upConn is a connection to an upstream. One goroutine uses it at a time.
type upConn struct {
	stream
	u       *Upstream
	pooled  bool  // it was idle
	since   int64 // idle
	dropped bool
	spent   bool // closed while its request went on

	tfn  func(uintptr) bool // trip's
	req  []byte
	sent int
	bad  error
}

// NewUpstream makes one that dial connects to.
func (r *Relay) NewUpstream(name string, dial func(context.Context) (net.Conn, error)) *Upstream {
	r.init()
	u := &Upstream{Name: name, r: r, dial: dial}
	r.mu.Lock()
	r.ups = append(r.ups[:len(r.ups):len(r.ups)], u)
	r.mu.Unlock()
	return u
}

// get returns the idle connection used last, which may be dead, or a new one.
func (u *Upstream) get(c *conn, fresh bool) (*upConn, *Failure) {
	u.mu.Lock()
	if n := len(u.idle); n > 0 && !fresh {
		uc := u.idle[n-1]
		u.idle = u.idle[:n-1]
		u.mu.Unlock()
		return uc, nil
	}
	var wait chan *upConn
	var old *upConn
	switch n := len(u.idle); {
	case u.open < u.r.MaxConns:
		u.open++
	case n > 0: // its place is taken over
		old = u.idle[0]
		u.idle = slices.Delete(u.idle, 0, 1)
	default:
		wait = make(chan *upConn, 1)
		u.waiting = append(u.waiting, wait)
	}
	u.mu.Unlock()
	if old != nil {
		old.nc.Close()
	}
	var uc *upConn
	var f *Failure
	c.blocks(func(ctx context.Context) { uc, f = u.make(ctx, c, wait) })
	return uc, f
}

// make waits for a connection, or for the place of one, if wait is set, and connects.
func (u *Upstream) make(ctx context.Context, c *conn, wait chan *upConn) (*upConn, *Failure) {
	ctx, cancel := context.WithTimeout(ctx, u.r.DialTimeout)
	defer cancel()
	if wait != nil {
		select {
		case uc := <-wait:
			if uc != nil {
				return uc, nil
			}
		case <-ctx.Done():
			u.giveUp(wait)
			return nil, c.notDialled(FlagLimited, fmt.Errorf("all of its %d connections are in use", u.r.MaxConns))
		}
	}
	nc, err := u.dial(ctx)
	if err != nil {
		u.free()
		return nil, c.notDialled(FlagConnectFailed, err)
	}
	return &upConn{stream: newStream(nc, u.r.headBytes(u.r.ToSidecars)), u: u}, nil
}

// notDialled is the failure of an attempt that got no connection. That it was interrupted says more than what came of it.
func (c *conn) notDialled(flag string, err error) *Failure {
	switch {
	case c.gone.Load():
		err = errGone
	case c.due[0].Load() == expired:
		flag, err = FlagTimeout, c.late()
	case errors.Is(err, context.DeadlineExceeded):
		err = fmt.Errorf("it does not answer within %v", c.r.DialTimeout)
	}
	return &Failure{Flag: flag, Err: err}
}

// giveUp takes a request out of the queue; what it was given meanwhile goes to the next.
func (u *Upstream) giveUp(wait chan *upConn) {
	u.mu.Lock()
	i := slices.Index(u.waiting, wait)
	if i >= 0 {
		u.waiting = slices.Delete(u.waiting, i, i+1)
	}
	u.mu.Unlock()
	if i >= 0 {
		return
	}
	if uc := <-wait; uc != nil {
		u.put(uc)
	} else {
		u.free()
	}
}

// free gives the place of a connection up, to who waits for one.
func (u *Upstream) free() {
	u.mu.Lock()
	if next := u.next(); next != nil {
		next <- nil
	} else {
		u.open--
	}
	u.mu.Unlock()
}

// next is who has waited longest, nil if nobody does. u.mu is held.
func (u *Upstream) next() (wait chan *upConn) {
	if len(u.waiting) > 0 {
		wait = u.waiting[0]
		u.waiting = slices.Delete(u.waiting, 0, 1)
	}
	return wait
}

func (u *Upstream) put(uc *upConn) {
	uc.release()
	uc.pooled, uc.since = true, u.r.clock.Load()
	u.mu.Lock()
	next := u.next()
	ok := next == nil && !u.closed && len(u.idle) < u.r.MaxIdle
	if next != nil {
		next <- uc
	} else if ok {
		u.idle = append(u.idle, uc)
	}
	u.mu.Unlock()
	if next == nil && !ok {
		uc.drop()
	}
}

// drop ends a connection that its request uses.
func (uc *upConn) drop() {
	if uc.dropped {
		return
	}
	uc.dropped = true
	uc.nc.Close()
	uc.release()
	uc.u.free()
}

func (u *Upstream) trim(t int64) {
	var old []*upConn
	u.mu.Lock()
	n := 0
	for n < len(u.idle) && t-u.idle[n].since > int64(u.r.PoolTimeout) {
		n++
	}
	if n > 0 {
		old = append(old, u.idle[:n]...)
		u.idle = append(u.idle[:0], u.idle[n:]...)
	}
	u.mu.Unlock()
	for _, uc := range old {
		uc.drop()
	}
}

// Close closes the idle connections; requests under way go on.
func (u *Upstream) Close() {
	u.mu.Lock()
	u.closed = true
	idle := u.idle
	u.idle = nil
	u.mu.Unlock()
	for _, uc := range idle {
		uc.drop()
	}
	u.r.mu.Lock()
	u.r.ups = slices.DeleteFunc(slices.Clone(u.r.ups), func(o *Upstream) bool { return o == u })
	u.r.mu.Unlock()
}
