package rpcproxy

import (
	"context"
	"math"
	"net"
	"slices"
	"sync"

	"github.com/outrigger-mesh/outrigger/runtime/mesh/internal/upkeep"
)

// Upstream is one instance: an address and its connections. Make one with NewUpstream and keep it.
type Upstream struct {
	Name string
	// Sidecar says that a sidecar is there, whose word on errors of its own is taken (see HeaderError). It is set before the first call.
	Sidecar bool

	r     *Relay
	codec Codec
	dial  func(context.Context) (net.Conn, error)
	max   int

	ctx    context.Context // of dialling
	cancel context.CancelFunc

	mu      sync.Mutex
	live    []*conn
	waiting []*Call
	dialing bool
	rest    upkeep.Backoff
	closed  bool
}

// NewUpstream makes the handle of one instance, which gets up to conns connections, opened as needed.
func (r *Relay) NewUpstream(name string, codec Codec, conns int, dial func(context.Context) (net.Conn, error)) *Upstream {
	r.init()
	u := &Upstream{Name: name, r: r, codec: codec, dial: dial, max: max(conns, 1)}
	u.ctx, u.cancel = context.WithCancel(r.ctx)
	return u
}

// Close lets running calls end and takes no new ones.
func (u *Upstream) Close() {
	u.mu.Lock()
	u.closed = true
	u.cancel()
	waiting, live := u.waiting, u.live
	u.waiting, u.live = nil, nil
	u.mu.Unlock()
	b := newBatch()
	for _, k := range waiting {
		k.unsent(u, u.gone(), b)
	}
	for _, c := range live {
		c.leave(b)
	}
	b.end()
}

// leave has a connection take no new calls, and end with the last that it has.
func (c *conn) leave(b *batch) {
	c.mu.Lock()
	c.leaving = true
	c.mu.Unlock()
	b.touch(c)
}

func (u *Upstream) remove(c *conn) {
	u.mu.Lock()
	defer u.mu.Unlock()
	if i := slices.Index(u.live, c); i >= 0 {
		u.live = slices.Delete(slices.Clone(u.live), i, i+1)
	}
}

// assign sends k on its way, or lets it wait. k.mu is held, which comes before u.mu.
func (u *Upstream) assign(k *Call, b *batch) *Error {
	u.mu.Lock()
	live, few := u.live, u.closed || len(u.waiting) > 0
	u.mu.Unlock()
	if !few {
		if done, e := u.try(k, live, b); done {
			return e
		}
	}
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.closed {
		return u.gone()
	}
	if err := u.rest.Resting(); err != nil && len(u.live) == 0 && !u.dialing {
		return u.unreachable(err)
	}
	if len(u.waiting) >= u.r.MaxWaiting {
		u.sweep()
	}
	if len(u.waiting) >= u.r.MaxWaiting {
		return &Error{Flag: FlagLimited, Code: codeExhausted, Reason: ReasonOverloaded, Message: "too many calls wait for " + u.Name}
	}
	u.waiting = append(u.waiting, k)
	b.wake = append(b.wake, u)
	return nil
}

// try sends k on the connection that has least to do. k.mu is held.
func (u *Upstream) try(k *Call, live []*conn, b *batch) (done bool, e *Error) {
	var best *conn
	least := 0
	full := false
	for _, c := range live {
		c.mu.Lock()
		n, usable := len(c.pending), !c.closed && !c.leaving
		if usable && len(c.out) > u.r.MaxPending {
			usable, full = false, true
		}
		c.mu.Unlock()
		if usable && (best == nil || n < least) {
			best, least = c, n
		}
	}
	if best == nil {
		if full {
			return true, &Error{Flag: FlagLimited, Code: codeUnavailable, Reason: ReasonOverloaded, Message: u.Name + " does not read what it is sent"}
		}
		return false, nil
	}
	if least >= u.r.ConnCalls && len(live) < u.max {
		u.more()
	}
	if done, e = best.open(k, b); done && e == nil && k.Oneway {
		k.finish(Outcome{Status: -1}, b)
	}
	return done, e
}

// more opens another connection, if none is being opened.
func (u *Upstream) more() {
	u.mu.Lock()
	defer u.mu.Unlock()
	if !u.closed && !u.dialing && len(u.live) < u.max && u.rest.Resting() == nil {
		u.dialing = true
		u.r.tasks.Start(u.connect)
	}
}

// open sends k; false if the connection takes no calls any longer. k.mu is held.
func (c *conn) open(k *Call, b *batch) (done bool, e *Error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed || c.leaving {
		return false, nil
	}
	id := c.newID()
	had := len(c.out)
	out, err := c.codec.AppendRequest(c.out, k.frame, id, Edit{Strip: c.r.Strip, Set: k.Set})
	if err != nil {
		return true, &Error{Flag: FlagProtocol, Code: codeInvalid, Reason: ReasonMalformed, Message: "the request cannot be sent on: " + err.Error()}
	}
	c.out = out
	k.sent += len(out) - had
	b.touch(c)
	if k.Oneway {
		return true, nil
	}
	k.on, k.upID = c, id
	c.pending[id] = k
	return true, nil
}

// newID is one that no call under way has. It fits into 31 bits, since Bolt has 32 and some clients take them for signed. c.mu is held.
func (c *conn) newID() uint64 {
	for {
		c.nextID = c.nextID%math.MaxInt32 + 1
		if _, taken := c.pending[c.nextID]; !taken {
			return c.nextID
		}
	}
}

// start opens waiting calls while there is a connection, and dials when there is none.
func (u *Upstream) start(b *batch) {
	for {
		u.mu.Lock()
		live := u.live
		if len(u.waiting) == 0 || len(live) == 0 {
			break
		}
		k := u.waiting[0]
		u.waiting = u.waiting[1:]
		u.mu.Unlock()
		k.mu.Lock()
		if !k.finished.Load() && k.up == u && k.on == nil {
			if done, e := u.try(k, live, b); e != nil {
				k.fail(e, -1, b)
			} else if !done {
				k.mu.Unlock()
				u.mu.Lock()
				u.waiting = append([]*Call{k}, u.waiting...)
				live = nil
				break
			}
		}
		k.mu.Unlock()
	}
	u.sweep()
	var failed []*Call
	var err error
	if len(u.waiting) > 0 && !u.closed && !u.dialing && len(u.live) < u.max {
		if err = u.rest.Resting(); err == nil {
			u.dialing = true
			u.r.tasks.Start(u.connect)
		} else if len(u.live) == 0 { // nobody would come back to them
			failed, u.waiting = u.waiting, nil
		}
	}
	u.mu.Unlock()
	for _, k := range failed {
		k.unsent(u, u.unreachable(err), b)
	}
}

// sweep takes out the calls that have given up. u.mu is held.
func (u *Upstream) sweep() {
	u.waiting = slices.DeleteFunc(u.waiting, func(k *Call) bool { return k.finished.Load() })
}

func (u *Upstream) connect() {
	ctx, cancel := context.WithTimeout(u.ctx, u.r.DialTimeout)
	nc, err := u.dial(ctx)
	cancel()
	b := newBatch()
	var c *conn
	if err == nil {
		if c = newConn(u.r, nc, nil, u.codec, u); c == nil {
			err = errClosed
		}
	}
	u.mu.Lock()
	u.dialing = false
	var failed []*Call
	switch {
	case err != nil:
		u.rest.Failed(u.r.DialBackoff, u.r.MaxDialBackoff, err)
		u.r.count.dialFailed.Add(1)
		if len(u.live) == 0 {
			failed, u.waiting = u.waiting, nil
		}
	case u.closed:
		c.leaving = true
		b.touch(c)
	default:
		u.rest.Succeeded()
		u.live = append(slices.Clone(u.live), c)
	}
	u.mu.Unlock()
	for _, k := range failed {
		k.unsent(u, u.unreachable(err), b)
	}
	if c != nil {
		u.r.count.dialed.Add(1)
		u.r.tasks.Start(c.run)
		b.wake = append(b.wake, u)
	}
	b.end()
}

// unsent fails a call that waited for a connection.
func (k *Call) unsent(u *Upstream, e *Error, b *batch) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if !k.finished.Load() && k.up == u && k.on == nil {
		k.fail(e, -1, b)
	}
}

func (u *Upstream) gone() *Error {
	return &Error{Flag: FlagClosed, Code: codeUnavailable, Reason: ReasonUpstreamClosed, Message: "upstream " + u.Name + " is closed"}
}

func (u *Upstream) unreachable(err error) *Error {
	return &Error{Flag: FlagConnectFailed, Code: codeUnavailable, Reason: ReasonConnectFailed, Message: "cannot connect to " + u.Name + ": " + err.Error()}
}

// fromServer handles a frame of an upstream connection.
func (c *conn) fromServer(b *batch) {
	f := &c.frame
	switch f.Kind {
	case Response:
		c.mu.Lock()
		k := c.pending[f.ID]
		delete(c.pending, f.ID)
		last := c.leaving && len(c.pending) == 0
		c.mu.Unlock()
		if last {
			b.touch(c)
		}
		if k == nil || !k.answered(c, b) {
			c.r.count.late.Add(1)
		}
	case Heartbeat:
		c.send(b, func(out []byte) []byte { return c.codec.AppendAlive(out, f) })
	case Leave:
		c.up.remove(c)
		c.leave(b)
	case Request, Oneway:
		c.send(b, func(out []byte) []byte { return c.codec.AppendUnserved(out, f) })
	}
}

// answered hands a call its answer; false if it has ended, or was tried elsewhere.
func (k *Call) answered(c *conn, b *batch) bool {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.finished.Load() || k.on != c || k.upID != c.frame.ID {
		return false
	}
	k.on = nil
	k.answer(&c.frame, b)
	return true
}
