package rpcproxy

import (
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"
)

// Call is a request from its arrival to its end. Route may read and change the exported fields; nobody else touches them.
type Call struct {
	Head
	Tag     any           // Route's own
	ConnTag any           // of the client's connection
	Oneway  bool          // nobody waits for an answer
	Set     []Header      // headers that are added to what is sent; those that begin with Relay.Strip go
	PerTry  time.Duration // bounds the attempt; 0: no bound of its own
	// Attempt counts the times that Route was asked, this one included. Resumed tells that it said ErrLater before.
	Attempt int
	Resumed bool

	r     *Relay
	down  *conn
	id    uint64 // the client's
	frame []byte // the request as it came
	begun time.Time
	born  int64

	mu          sync.Mutex
	finished    atomic.Bool
	parked      bool // waits for its route
	deadline    int64
	tryDeadline int64     // 0: none
	attempts    int       // that had an upstream
	up          *Upstream // of the attempt under way
	on          *conn     // that it was sent on; nil: it waits for a connection
	upID        uint64
	sent        int
	last        *Upstream
}

// Sidecar notes that the client is another sidecar, which understands more than other clients do. For Route.
func (k *Call) Sidecar() {
	k.down.mu.Lock()
	k.down.sidecar = true
	k.down.mu.Unlock()
}

// Header is the value of a request's header as it came, or "".
func (k *Call) Header(name string) string { return k.down.codec.Header(k.frame, name) }

// Size is the length of the request.
func (k *Call) Size() int { return len(k.frame) }

// Protocol is the name of the codec.
func (k *Call) Protocol() string { return k.down.codec.Name() }

// Later answers a function that has Route called again, if it then answers ErrLater. Any goroutine may call it, once.
func (k *Call) Later() func() {
	return func() {
		k.r.tasks.Start(func() {
			b := newBatch()
			k.mu.Lock()
			if k.parked && !k.finished.Load() {
				k.parked, k.Resumed = false, true
				k.begin(b)
			}
			k.mu.Unlock()
			b.end()
		})
	}
}

// fromClient handles a frame of a downstream connection.
func (c *conn) fromClient(b *batch) {
	f := &c.frame
	switch f.Kind {
	case Request, Oneway:
		c.request(f, b)
	case Heartbeat:
		c.send(b, func(out []byte) []byte { return c.codec.AppendAlive(out, f) })
	}
}

func (c *conn) request(f *Frame, b *batch) {
	r := c.r
	k := &Call{r: r, down: c, id: f.ID, Oneway: f.Kind == Oneway, begun: time.Now(), born: b.now}
	k.Timeout, k.ConnTag = f.Timeout, c.tag
	k.Strings = &c.strings
	k.frame = keep(f.Bytes)
	held := r.held.Add(int64(len(k.frame)))
	err := c.codec.Describe(k.frame, &k.Head)
	k.Strings = nil
	k.mu.Lock()
	defer k.mu.Unlock()
	c.mu.Lock()
	full := len(c.calls) >= r.MaxCalls
	c.calls[k] = struct{}{}
	c.mu.Unlock()
	switch {
	case err != nil:
		k.reply(&Error{Flag: FlagProtocol, Code: codeInvalid, Reason: ReasonMalformed, Message: "the request cannot be read: " + err.Error()}, b)
	case full:
		k.reply(&Error{Flag: FlagLimited, Code: codeExhausted, Reason: ReasonOverloaded, Message: fmt.Sprintf("%d calls of this connection are not answered yet", r.MaxCalls)}, b)
	case held > r.MaxHeld:
		k.reply(&Error{Flag: FlagLimited, Code: codeExhausted, Reason: ReasonOverloaded, Message: "the sidecar holds too many bytes of requests"}, b)
	default:
		k.begin(b)
	}
}

// begin routes the request and sees to it that it ends in time. k.mu is held, here and below.
func (k *Call) begin(b *batch) {
	k.route(b)
	if !k.finished.Load() {
		k.limit()
		k.down.watch(k)
	}
}

// limit sets the deadline of the request.
func (k *Call) limit() {
	wait := k.Timeout
	if wait <= 0 {
		wait = k.r.Timeout
	}
	if k.r.Margin != nil {
		wait -= k.r.Margin(wait)
	} else {
		wait += lateGrace
	}
	k.deadline = k.born + int64(wait)
}

// route asks where the request goes and sends it there.
func (k *Call) route(b *batch) {
	k.Attempt++
	k.up, k.on, k.tryDeadline = nil, nil, 0
	up, err := k.r.Route(k)
	switch {
	case errors.Is(err, ErrLater):
		k.parked = true
		return
	case err != nil:
		k.reply(asError(err), b)
		return
	}
	k.attempts++
	k.up, k.last = up, up
	if k.PerTry > 0 {
		k.tryDeadline = b.now + int64(k.PerTry)
		if k.deadline != 0 { // at first begin does
			k.down.watch(k)
		}
	}
	if e := up.assign(k, b); e != nil {
		k.fail(e, -1, b)
	}
}

func asError(err error) *Error {
	var e *Error
	if !errors.As(err, &e) {
		return &Error{Flag: FlagNoRoute, Code: codeUnavailable, Message: err.Error()}
	}
	out := *e
	if out.Flag == "" {
		out.Flag = FlagNoRoute
	}
	return &out
}

// fail ends an attempt; status is the answer's, or -1. The request is tried again or answered.
func (k *Call) fail(e *Error, status int, b *batch) {
	if !k.retried(e, status, b) {
		k.reply(e, b)
	}
}

// retried tells of a failed attempt, and has the request tried again if it may be.
func (k *Call) retried(e *Error, status int, b *batch) bool {
	if k.r.Attempted != nil {
		k.r.Attempted(k, k.up, e)
	}
	if k.r.Again == nil || k.attempts >= maxAttempts || !k.r.Again(k, e, status) {
		return false
	}
	k.route(b)
	return true
}

// maxAttempts bounds those of a request whatever Again says.
const maxAttempts = 16

// lost says that a connection which the call was on has ended.
func (k *Call) lost(c *conn, err error, b *batch) {
	k.mu.Lock()
	defer k.mu.Unlock()
	switch {
	case k.finished.Load():
	case c == k.down && k.Oneway && k.up != nil: // its client does not wait for anything; it is sent, or not, when there is a connection
	case c == k.down:
		k.finish(Outcome{Code: codeCancelled, Status: -1, ByClient: true}, b)
	case k.on == c:
		k.fail(&Error{Flag: FlagClosed, Code: codeUnavailable, Reason: ReasonConnectionLost, Sent: true,
			Message: fmt.Sprintf("the connection to %s ended before the answer came: %v", c.up.Name, err)}, -1, b)
	}
}

// reply answers in the place of the upstream.
func (k *Call) reply(e *Error, b *batch) {
	if !k.Oneway {
		k.down.send(b, func(out []byte) []byte { return k.down.codec.AppendError(out, k.frame, e, k.down.sidecar) })
	}
	k.finish(Outcome{Code: e.Code, Status: -1, Flag: e.Flag}, b)
}

// answer passes the upstream's answer on.
func (k *Call) answer(f *Frame, b *batch) {
	if f.Peer != nil {
		e := f.Peer
		if !k.up.Sidecar {
			e = &Error{Flag: FlagProtocol, Code: codeInternal, Reason: ReasonMalformed, Sent: true,
				Message: fmt.Sprintf("%s answered in the name of a sidecar, which it is not (%s)", k.up.Name, HeaderError)}
		}
		k.fail(e, f.Status, b)
		return
	}
	if f.Gone = f.Gone && k.concerns(f.About); f.Gone {
		f.Failed, f.Code = true, codeNotFound
	}
	if f.Failed {
		e := &Error{Flag: FlagRefused, Code: f.Code, Message: fmt.Sprintf("the server of %s answered status %d", k.up.Name, f.Status)}
		if f.Gone {
			e.Reason = ReasonNotHere
		}
		if k.retried(e, f.Status, b) {
			return
		}
	}
	codec := k.down.codec
	codec.SetID(f.Bytes, k.id)
	k.down.send(b, func(out []byte) []byte { return append(out, f.Bytes...) })
	k.finish(Outcome{Code: f.Code, Status: f.Status, Received: len(f.Bytes)}, b)
}

// concerns tells whether what is not served is what the request is for. A service that has begun may pass on what it was told of another one.
func (k *Call) concerns(about []byte) bool {
	if about == nil {
		return true
	}
	name := k.Service
	for _, part := range [...]string{k.Version, k.Group} {
		if part != "" {
			name += ":" + part
		}
	}
	return string(about) == name || string(about) == k.up.Name && !k.up.Sidecar
}

// finish ends the call.
func (k *Call) finish(o Outcome, b *batch) {
	k.finished.Store(true)
	c := k.down
	c.mu.Lock()
	delete(c.calls, k)
	c.mu.Unlock()
	k.forget(b)
	o.Call, o.Upstream, o.Attempts, o.Sent = k, k.last, k.attempts, k.sent
	o.Start, o.Duration = k.begun, time.Duration(b.now-k.born)
	b.done = append(b.done, o)
}

// forget takes the call out of its upstream: an answer that comes all the same is dropped.
func (k *Call) forget(b *batch) {
	on := k.on
	if on == nil {
		return
	}
	on.mu.Lock()
	delete(on.pending, k.upID)
	last := on.leaving && len(on.pending) == 0
	on.mu.Unlock()
	k.on = nil
	if last {
		b.touch(on)
	}
}

const keptFrame = 16 << 10 // room for requests of no more is used again

var kept = sync.Pool{New: func() any { return new([]byte) }}

// keep copies a request.
func keep(frame []byte) []byte {
	if len(frame) > keptFrame {
		return append([]byte(nil), frame...)
	}
	return append((*kept.Get().(*[]byte))[:0], frame...)
}

// release gives back what was held for a call that has ended. Done was told of it.
func (r *Relay) release(k *Call) {
	k.mu.Lock()
	frame := k.frame
	k.frame = nil
	k.mu.Unlock()
	r.held.Add(-int64(len(frame)))
	if cap(frame) <= 2*keptFrame {
		kept.Put(&frame)
	}
}
