// Package grpcproxy carries gRPC (and other HTTP/2) streams from many downstream connections over a few upstream ones.
// It works on frames: header blocks are decoded, routed and encoded again, DATA is copied from one connection's read
// buffer into the other's write buffer, credit is given to a sender only as its receiver takes the bytes.
//
// There is one goroutine for each connection, its reader. It handles all frames of one read, which append to the write
// buffers of whatever connections they concern, and then writes each of these once, without blocking. A goroutine that
// writes is started only for a peer that does not keep up (and for connections that cannot be written without blocking).
//
// Memory is bounded for each connection and stream by the fields of Relay; a peer that breaks RFC 9113 or floods loses
// its connection, never the others theirs.
package grpcproxy

import (
	"context"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"github.com/outrigger-mesh/outrigger/runtime/mesh/internal/upkeep"
)

// Relay is set up by its fields, then fed with connections by Serve or ServeConn.
type Relay struct {
	// Route names the upstream of a request and may change its headers and timeouts. An *Error is answered as it says,
	// another error with UNAVAILABLE. It is called again, with Attempt counted up, when the upstream could not be reached
	// and nothing was sent, and with Resumed set when it said ErrLater (see Headers.Later). Like all hooks it is called
	// by many goroutines at once, runs on a connection's reader and must not wait; it must not call into the Relay.
	Route func(*Headers) (*Upstream, error)
	// Response, if set, sees and may change the headers and trailers of an upstream's response. A relay whose upstreams
	// are relays tells their answers from the applications' by outrigger-origin, and may set it to "peer".
	Response func(h *Headers, trailers bool)
	// Unreached, if set, tells of an upstream's answer, a failure that has nothing but trailers, whether it is that of a relay which could not
	// connect to the application: then it counts as a connection that could not be made.
	Unreached func(h *Headers) bool
	// Attempted, if set, is told how each attempt ended that had an upstream, the last one included: flag is one of the
	// Flag constants, or empty if the upstream answered or the client gave up; err is the relay's own answer or why there
	// was another attempt. tag is Headers.Tag.
	Attempted func(tag any, up *Upstream, flag string, err error)
	// Again, if set, says whether there may be another attempt after one that failed so; else those of which nothing was sent are followed by
	// another. tag is Headers.Tag. It must not wait, and is asked for one request at a time.
	Again func(tag any, f Failed) bool
	// Late, if set, may say better what the relay answers where a deadline has passed. tag is Headers.Tag.
	Late func(tag any, e *Error)
	// Done, if set, is told how each request ended.
	Done func(*Outcome)
	// OnConn, if set, is called once for each downstream connection, after the TLS handshake and before any request. The
	// tag it returns is in Headers.ConnTag and Call.ConnTag. If it returns an error, each request of the connection is
	// answered with it (PERMISSION_DENIED unless it is an *Error) and the connection ends soon. It may wait.
	OnConn func(nc net.Conn) (tag any, err error)
	// OnClose, if set, is called when a connection has ended for which OnConn returned no error.
	OnClose func(nc net.Conn, tag any)

	// Margins is how many times Margin before its deadline a request with a grpc-timeout is answered, with DEADLINE_EXCEEDED and
	// what was waited for, so that this comes before the client's own timer: 1 in the sidecar of the caller, 2 in a relay that
	// is called within a call of such a one. 0: requests are ended a little after their deadline, if nobody has done so. What
	// the upstream is told of the deadline does not change.
	Margins int

	Origin string // the trailer outrigger-origin of the relay's own answers: "sidecar"

	MaxStreams    int           // concurrent streams of a downstream connection: 1000
	MaxWaiting    int           // requests that wait for one upstream: 10000
	MaxParked     int           // requests that wait for their route: 4096
	MaxHeaderList int           // bytes as SETTINGS_MAX_HEADER_LIST_SIZE counts them: 16 KiB
	MaxResets     int           // streams a client may reset within 100 ms of opening them, or have reset for its faults, in a second: 2000
	MaxAttempts   int           // times Route is asked for a request: 3
	StreamWindow  int           // bytes held for one direction of a stream: 256 KiB
	ConnWindow    int           // bytes in flight from one connection: 4 MiB
	MaxHeld       int           // bytes held for one sending connection before its credit stops: 32 MiB
	PingHold      time.Duration // how long answers to frequent PINGs may wait for a write to ride on: 5 ms; negative: none
	MaxPending    int           // bytes that wait for one client to read: 16 MiB
	WriteTimeout  time.Duration // a peer that takes nothing for so long is dropped: 1 minute
	StallTimeout  time.Duration // a stream whose client takes nothing for so long ends, if others need the credit: 20 s

	DialTimeout    time.Duration // of a connection to an upstream, TLS included: 5 s
	DialBackoff    time.Duration // after the first failure; requests fail at once meanwhile: 100 ms
	MaxDialBackoff time.Duration // after many: 10 s

	// Keepalive is how long an upstream may be silent, with streams open, before it is sent a PING: 30 s; it is sent
	// fewer than gRPC servers allow. KeepaliveIdle: without streams too. ClientKeepalive is the same for downstream
	// connections: 5 minutes, with streams or without. Who does not answer in KeepaliveTimeout, 10 s, is dropped.
	// Negative times turn a check off, here and below.
	Keepalive, KeepaliveTimeout, ClientKeepalive time.Duration
	KeepaliveIdle                                bool
	// MinPing is how often a client may PING while nothing is sent to it: 1 s. Who does so three times too often is
	// sent away with ENHANCE_YOUR_CALM and "too_many_pings".
	MinPing time.Duration
	// FrameTimeout is how long a client may take for a frame, or a list of headers, that it has begun: 1 minute.
	FrameTimeout time.Duration
	// IdleTimeout ends downstream connections without requests, and MaxAge (give or take a tenth) all of them, both by
	// GOAWAY; 0: never. What still runs MaxAgeGrace after that, 1 minute, is cut off.
	IdleTimeout, MaxAge, MaxAgeGrace time.Duration

	// Value, if set, answers a local call's context.
	Value func(k *Call, key any) any
	// Panic, if set, is told of a local handler's panic, which the client sees as INTERNAL.
	Panic      func(k *Call, v any)
	MaxWorkers int  // goroutines for blocking handlers: 8192, more than one component takes in whose back end is frozen
	MaxQueue   int  // calls that wait for one of these: 10000
	MaxPatient int  // calls of each patient method, with a goroutine each: 10000
	MaxLocal   int  // bytes of local requests that are not here whole, and of answers that are not gone: 256 MiB
	NoYield    bool // for measurements: each blocking handler writes its own answer at once

	methods map[string]*Method
	work    workers
	tasks   upkeep.Tasks
	late    unflushed
	held    atomic.Int64
	parked  atomic.Int64
	count   counters

	resuming sync.Mutex
	resumed  []*parking

	ctx    context.Context // of dialling and other waits: ends with Close
	cancel context.CancelFunc
	once   sync.Once
	mu     sync.Mutex
	conns  map[*conn]struct{}
	drain  bool // no new downstream connections
	closed bool
}

func (r *Relay) init() {
	r.once.Do(func() {
		upkeep.Default(&r.MaxStreams, 1000)
		upkeep.Default(&r.MaxWaiting, 10000)
		upkeep.Default(&r.MaxParked, 4096)
		upkeep.Default(&r.MaxHeaderList, 16<<10)
		upkeep.Default(&r.MaxResets, 2000)
		upkeep.Default(&r.MaxAttempts, 3)
		upkeep.Default(&r.StreamWindow, 256<<10)
		upkeep.Default(&r.ConnWindow, 4<<20)
		upkeep.Default(&r.MaxHeld, 32<<20)
		upkeep.Default(&r.MaxPending, 16<<20)
		upkeep.Default(&r.MaxWorkers, 8192)
		upkeep.Default(&r.MaxQueue, 10000)
		upkeep.Default(&r.MaxPatient, 10000)
		upkeep.Default(&r.MaxLocal, 256<<20)
		upkeep.Default(&r.Origin, "sidecar")
		upkeep.Default(&r.PingHold, 5*time.Millisecond)
		upkeep.Default(&r.WriteTimeout, time.Minute)
		upkeep.Default(&r.StallTimeout, 20*time.Second)
		upkeep.Default(&r.DialTimeout, 5*time.Second)
		upkeep.Default(&r.DialBackoff, 100*time.Millisecond)
		upkeep.Default(&r.MaxDialBackoff, 10*time.Second)
		upkeep.Default(&r.Keepalive, 30*time.Second)
		upkeep.Default(&r.KeepaliveTimeout, 10*time.Second)
		upkeep.Default(&r.ClientKeepalive, 5*time.Minute)
		upkeep.Default(&r.MinPing, time.Second)
		upkeep.Default(&r.FrameTimeout, time.Minute)
		upkeep.Default(&r.MaxAgeGrace, time.Minute)
		r.work.r = r
		r.conns = map[*conn]struct{}{}
		r.ctx, r.cancel = context.WithCancel(context.Background())
	})
}

// Serve accepts connections until ln is closed.
func (r *Relay) Serve(ln net.Listener) error {
	r.init()
	return Accept(ln, r.ctx.Done(), func(error) {}, func(nc net.Conn) { r.tasks.Start(func() { r.ServeConn(nc) }) })
}

// ServeConn relays one downstream connection until it ends.
func (r *Relay) ServeConn(nc net.Conn) {
	r.init()
	r.tasks.Begin()
	defer r.tasks.End()
	c := newConn(r, nc, nil)
	if c != nil {
		r.count.accepted.Add(1)
		c.run()
	}
}

// Shutdown tells clients to go elsewhere, waits until the last stream has ended or ctx has, and closes.
func (r *Relay) Shutdown(ctx context.Context) error {
	r.init()
	r.mu.Lock()
	r.drain = true
	for c := range r.conns {
		if c.up == nil {
			r.tasks.Start(c.goAwayGracefully)
		}
	}
	r.mu.Unlock()
	for {
		r.mu.Lock()
		n := 0
		for c := range r.conns {
			if c.up == nil {
				n++
			}
		}
		r.mu.Unlock()
		if n == 0 {
			break
		}
		select {
		case <-ctx.Done():
			r.Close()
			return ctx.Err()
		case <-time.After(5 * time.Millisecond):
		}
	}
	r.Close()
	return nil
}

// Close ends all connections at once, and waits for the relay's goroutines: hooks and handlers that run return first, the
// contexts of handlers having ended. Neither may call it.
func (r *Relay) Close() {
	r.init()
	r.mu.Lock()
	r.closed = true
	r.cancel()
	for _, m := range r.methods {
		m.pool.stop()
	}
	for c := range r.conns {
		c.nc.Close()
	}
	r.mu.Unlock()
	r.tasks.Wait()
}
