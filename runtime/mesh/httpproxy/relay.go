// Package httpproxy carries HTTP/1.1 requests from client connections to upstream connections.
//
// There is one goroutine for each client connection. It reads a request's head, parses it strictly, asks Route, writes a new
// head and what is there of the body to a pooled upstream connection with one write, reads the answer and writes it likewise: no
// request is handed to another goroutine. Another one starts only for a request body that is not all there with its head, for
// a tunnel, and for a request that waits long, to see its client go. Deadlines cost an atomic store: a sweeper looks after them.
package httpproxy

import (
	"context"
	"maps"
	"net"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/outrigger-mesh/outrigger/runtime/mesh/internal/upkeep"
)

// Relay is set up by its fields, then fed with connections by Serve or ServeConn. Its hooks are called by many goroutines.
type Relay struct {
	// Route names the upstream of a request and may change its head. An *Error is answered as such, another error with 502. It is
	// called again, with Attempt counted up, when the request is to be tried again, and after a *Later.
	Route func(*Head) (*Upstream, error)
	// OnConn, if set, is asked once for each client connection; its answer is Head.ConnTag.
	OnConn func(net.Conn) any
	// Again, if set, says whether a request may be tried once more after an attempt that failed so, as far as the relay could:
	// nothing of the answer has gone to the client, and the body can be sent again. Without it a request is tried up to MaxAttempts
	// times if nothing was sent or it is idempotent.
	Again func(*Head, *Failure) bool
	// Attempted, if set, is told of each attempt that failed.
	Attempted func(*Head, *Upstream, *Failure)
	// Response, if set, may change the head of a response; request is that of its request.
	Response func(request *Head, status int, h *Head)
	// Answer, if set, may change an answer of the relay's own, and adds lines of headers to it, each with its CRLF.
	Answer func(h *Head, e *Error) (lines string)
	// Done, if set, is told how each request ended. The outcome is valid only during the call.
	Done func(*Outcome)
	// Reserved, if set, are fields that never pass in trailers: those whose names begin so. Lower case.
	Reserved string

	// FromSidecars and ToSidecars tell that clients, or upstreams, may be sidecars, which add fields: to their heads another 16 fields and 2 KiB are
	// allowed, or one of them would refuse what another has taken.
	FromSidecars, ToSidecars bool

	MaxHead      int           // bytes of a head, which has up to 128 fields: 16 KiB
	MaxAttempts  int           // see Again: 2
	MaxCopy      int           // bytes of a body that are kept to be sent again, beyond what came with the head: 64 KiB
	MaxIdle      int           // idle connections kept to an upstream: 256
	MaxConns     int           // connections to an upstream: 4096; requests wait for one as long as for a connection to be made
	IdleTimeout  time.Duration // of client connections between requests: 60 s
	PoolTimeout  time.Duration // of idle upstream connections: 30 s
	HeadTimeout  time.Duration // for a head to be complete after its first byte: 10 s
	DialTimeout  time.Duration // 3 s
	WaitTimeout  time.Duration // for the response to start once the request is sent: 60 s; negative: for ever
	StallTimeout time.Duration // a body on which nothing moves: 60 s
	QuietTimeout time.Duration // a tunnel, or the body of an event stream, on which nothing moves: 1 h
	HalfClose    bool          // a client that has closed its side waits for its answer, and is not gone

	once    sync.Once
	clock   atomic.Int64
	mu      sync.Mutex
	conns   map[*conn]struct{}
	ups     []*Upstream
	leaving atomic.Bool // connections end after the next answer
	drain   atomic.Bool // and idle ones at once
	closed  atomic.Bool
	empty   chan struct{} // a client connection has ended while draining
	sweeper *time.Timer
}

const (
	sweep     = 20 * time.Millisecond
	watchFrom = 50 * time.Millisecond // a request that waits so long has its client watched
)

func (r *Relay) init() {
	r.once.Do(func() {
		upkeep.Default(&r.MaxHead, 16<<10)
		upkeep.Default(&r.MaxAttempts, 2)
		upkeep.Default(&r.MaxCopy, 64<<10)
		upkeep.Default(&r.MaxIdle, 256)
		upkeep.Default(&r.MaxConns, 4096)
		upkeep.Default(&r.IdleTimeout, time.Minute)
		upkeep.Default(&r.PoolTimeout, 30*time.Second)
		upkeep.Default(&r.HeadTimeout, 10*time.Second)
		upkeep.Default(&r.DialTimeout, 3*time.Second)
		upkeep.Default(&r.WaitTimeout, time.Minute)
		upkeep.Default(&r.StallTimeout, time.Minute)
		upkeep.Default(&r.QuietTimeout, time.Hour)
		r.conns, r.empty = map[*conn]struct{}{}, make(chan struct{}, 1)
		r.clock.Store(now())
		r.mu.Lock() // it may fire before it is known here, on a busy machine
		r.sweeper = time.AfterFunc(sweep, r.sweepAll)
		r.mu.Unlock()
	})
}

var epoch = time.Now()

// now is in nanoseconds, and never 0.
func now() int64 { return int64(time.Since(epoch)) + int64(time.Second) }

var past = time.Unix(1, 0)

// expired marks a deadline that the sweeper has acted on, and a connection that it has set a watch on.
const expired = -1

func (r *Relay) sweepAll() {
	t := now()
	r.clock.Store(t)
	r.mu.Lock()
	for c := range r.conns {
		over := false
		for i := range c.due { // all before the first to be interrupted looks which they are
			if d := c.due[i].Load(); d > 0 && d < t && c.due[i].CompareAndSwap(d, expired) {
				over = true
			}
		}
		if over {
			c.interrupt()
		}
		if d := c.watch.Load(); d > 0 && d < t && c.watch.CompareAndSwap(d, expired) {
			go c.watchClient()
		}
	}
	ups := r.ups
	if !r.closed.Load() {
		r.sweeper.Reset(sweep)
	}
	r.mu.Unlock()
	for _, u := range ups {
		u.trim(t)
	}
}

// Serve accepts connections until ln is closed.
func (r *Relay) Serve(ln net.Listener) error {
	for {
		nc, err := ln.Accept()
		if err != nil {
			return err
		}
		go r.ServeConn(nc, nil)
	}
}

// ServeConn relays one client connection until it ends, and closes it. head was read from it already.
func (r *Relay) ServeConn(nc net.Conn, head []byte) {
	r.init()
	defer nc.Close()
	c := &conn{r: r, stream: newStream(nc, r.headBytes(r.FromSidecars)), watched: make(chan struct{}, 1)}
	c.req.most, c.res.most = headFields(r.FromSidecars), headFields(r.ToSidecars)
	c.req.Conn = nc
	if len(head) > 0 {
		c.acquire()
		c.w = copy(c.buf, head)
	}
	if r.OnConn != nil {
		c.req.ConnTag = r.OnConn(nc)
	}
	r.mu.Lock()
	ok := !r.drain.Load() && !r.closed.Load()
	if ok {
		r.conns[c] = struct{}{}
	}
	r.mu.Unlock()
	if !ok {
		return
	}
	c.serve()
	r.mu.Lock()
	delete(r.conns, c)
	r.mu.Unlock()
	select {
	case r.empty <- struct{}{}:
	default:
	}
}

// Leave has each client connection end after its next answer, which says so; idle ones stay.
func (r *Relay) Leave() { r.leaving.Store(true) }

// Shutdown ends idle client connections, lets running requests end, and returns when all have or ctx has; then it closes.
func (r *Relay) Shutdown(ctx context.Context) error {
	r.init()
	r.leaving.Store(true)
	r.drain.Store(true)
	defer r.Close()
	for {
		r.mu.Lock()
		n := len(r.conns)
		for c := range r.conns {
			if c.idle.Load() {
				c.nc.SetReadDeadline(past)
			}
		}
		r.mu.Unlock()
		if n == 0 {
			return nil
		}
		select {
		case <-r.empty:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// Close ends all connections at once.
func (r *Relay) Close() {
	r.init()
	r.mu.Lock()
	r.closed.Store(true)
	r.sweeper.Stop()
	conns := slices.Collect(maps.Keys(r.conns))
	ups := r.ups
	r.mu.Unlock()
	for _, c := range conns {
		c.interrupt()
		c.nc.Close()
	}
	for _, u := range ups {
		u.Close()
	}
}

// Stats are figures of a relay.
type Stats struct {
	Downstream, Upstream int // open connections
	Requests             int // under way
}

// Stats are gathered when they are asked for.
func (r *Relay) Stats() (s Stats) {
	r.init()
	r.mu.Lock()
	s.Downstream = len(r.conns)
	for c := range r.conns {
		if !c.idle.Load() {
			s.Requests++
		}
	}
	ups := r.ups
	r.mu.Unlock()
	for _, u := range ups {
		u.mu.Lock()
		s.Upstream += u.open
		u.mu.Unlock()
	}
	return s
}
