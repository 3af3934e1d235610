// Package rpcproxy carries requests of framed protocols, such as Bolt and Dubbo, from many connections over a few. A Codec reads
// their frames and gives requests new ids; bodies pass as they are.
//
// There is one goroutine for each connection, its reader. It handles all frames of one read, which append to the write buffers of
// whatever connections they concern, and then writes each of these once, without blocking. A goroutine that writes is started
// only for a peer that does not keep up, and for connections that cannot be written without blocking.
//
// A request is kept until it is answered, so that it may be tried again. Each has a deadline here, its own or the loop's, and is
// answered by then. A peer that breaks its protocol loses its connection, never the others theirs.
package rpcproxy

import (
	"context"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"github.com/outrigger-mesh/outrigger/runtime/mesh/internal/upkeep"
)

// Relay is set up by its fields, then fed with connections by ServeConn. Hooks are called by many goroutines at once, run on a
// connection's reader and must not wait; they must not call into the Relay.
type Relay struct {
	// Route names the upstream of an attempt and may change what the call has in exported fields. An *Error is answered as it
	// says, another error as UNAVAILABLE. With ErrLater it is called again when a function of Call.Later was.
	Route func(c *Call) (*Upstream, error)
	// Again says whether the request may be tried once more after this failure; nil: never.
	Again func(c *Call, e *Error, status int) bool
	// Attempted, if set, is told of each attempt that failed: why, which is not always what the caller hears.
	Attempted func(c *Call, up *Upstream, e *Error)
	// Late, if set, may say better what is answered where a deadline has passed.
	Late func(c *Call, e *Error)
	// Done, if set, is told how each call ended.
	Done func(o *Outcome)
	// OnConn, if set, is asked once for each downstream connection, before any request; its answer is Call.ConnTag. It may wait.
	OnConn func(nc net.Conn) any
	// Fault, if set, is told of a connection that ended for a fault of the peer's.
	Fault func(nc net.Conn, upstream bool, err error)

	// Strip begins the names of request headers that are taken out of what is sent on.
	Strip string
	// Margin is how long before its deadline a call that may take timeout is answered; nil: it is answered a little after it.
	Margin func(timeout time.Duration) time.Duration

	Timeout      time.Duration // of a call that brings none: 1 minute
	MaxFrame     int           // bytes: 32 MiB
	MaxHeld      int64         // bytes of requests that are kept and of frames that are not whole, over all connections: 512 MiB
	MaxCalls     int           // of a downstream connection at once: 10000; more are answered RESOURCE_EXHAUSTED
	MaxWaiting   int           // calls that wait for a connection to one upstream: 10000
	MaxPending   int           // bytes that wait for one peer to read: 16 MiB; four times that ends a downstream connection
	ConnCalls    int           // calls on a connection to an upstream before another is opened: 64
	WriteTimeout time.Duration // a peer that takes nothing for so long is dropped: 30 s
	FrameTimeout time.Duration // for a frame to become whole, longer for large ones: 30 s

	DialTimeout    time.Duration // 5 s
	DialBackoff    time.Duration // after the first failure; calls fail at once meanwhile: 100 ms
	MaxDialBackoff time.Duration // after many: 2 s

	// Heartbeat is how long an upstream may be silent before it is sent a heartbeat: 15 s. One that has sent nothing in
	// HeartbeatTimeout after that, 10 s, is taken for frozen. Negative: never.
	Heartbeat, HeartbeatTimeout time.Duration
	// Quiet is how long a connection must have had no call before Shutdown closes it: 200 ms.
	Quiet time.Duration

	tasks upkeep.Tasks
	held  atomic.Int64
	count counters

	ctx    context.Context // of dialling: ends with Close
	cancel context.CancelFunc
	once   sync.Once
	mu     sync.Mutex
	conns  map[*conn]struct{}
	drain  bool // no new downstream connections
	closed bool
}

func (r *Relay) init() {
	r.once.Do(func() {
		upkeep.Default(&r.MaxFrame, 32<<20)
		upkeep.Default(&r.MaxHeld, 512<<20)
		upkeep.Default(&r.MaxCalls, 10000)
		upkeep.Default(&r.MaxWaiting, 10000)
		upkeep.Default(&r.MaxPending, 16<<20)
		upkeep.Default(&r.ConnCalls, 64)
		upkeep.Default(&r.Timeout, time.Minute)
		upkeep.Default(&r.WriteTimeout, 30*time.Second)
		upkeep.Default(&r.FrameTimeout, 30*time.Second)
		upkeep.Default(&r.DialTimeout, 5*time.Second)
		upkeep.Default(&r.DialBackoff, 100*time.Millisecond)
		upkeep.Default(&r.MaxDialBackoff, 2*time.Second)
		upkeep.Default(&r.Heartbeat, 15*time.Second)
		upkeep.Default(&r.HeartbeatTimeout, 10*time.Second)
		upkeep.Default(&r.Quiet, 200*time.Millisecond)
		r.conns = map[*conn]struct{}{}
		r.ctx, r.cancel = context.WithCancel(context.Background())
	})
}

// ServeConn relays one downstream connection until it ends. head was read from it already.
func (r *Relay) ServeConn(nc net.Conn, head []byte, codec Codec) {
	r.init()
	r.tasks.Begin()
	defer r.tasks.End()
	if c := newConn(r, nc, head, codec, nil); c != nil {
		r.count.accepted.Add(1)
		c.run()
	}
}

// Shutdown tells clients to go elsewhere, as far as their protocol can, and closes each connection that has had no call for a
// while, until there is none or ctx ends; then it closes.
func (r *Relay) Shutdown(ctx context.Context) error {
	r.init()
	r.mu.Lock()
	r.drain = true
	r.mu.Unlock()
	for told := false; ; told = true {
		if r.dismiss(!told) == 0 {
			break
		}
		select {
		case <-ctx.Done():
			r.Close()
			return ctx.Err()
		case <-time.After(drainCheck):
		}
	}
	r.Close()
	return nil
}

const drainCheck = 10 * time.Millisecond

// dismiss closes downstream connections that are quiet, and answers how many there are.
func (r *Relay) dismiss(tell bool) (n int) {
	r.mu.Lock()
	all := make([]*conn, 0, len(r.conns))
	for c := range r.conns {
		if c.up == nil {
			all = append(all, c)
		}
	}
	r.mu.Unlock()
	b := newBatch()
	for _, c := range all {
		c.mu.Lock()
		if tell {
			c.out = c.codec.AppendLeave(c.out, c.sidecar)
		}
		quiet := len(c.calls) == 0 && !c.writing && len(c.out) == 0 && b.now-c.heard.Load() > int64(r.Quiet)
		c.mu.Unlock()
		b.touch(c)
		if quiet {
			c.nc.Close()
		}
	}
	b.end()
	return len(all)
}

// Close ends all connections at once, and waits for the relay's goroutines. Hooks may not call it.
func (r *Relay) Close() {
	r.init()
	r.mu.Lock()
	r.closed = true
	r.cancel()
	for c := range r.conns {
		c.nc.Close()
	}
	r.mu.Unlock()
	r.tasks.Wait()
}

// Stats are a relay's figures at one moment: gauges first, then counters since it was made.
type Stats struct {
	Downstream, Upstream int   // open connections
	Calls                int   // that run
	Held                 int64 // bytes of requests that are kept and of frames that are not whole

	Accepted, Dialed, DialFailed int64 // connections
	Beats                        int64 // heartbeats sent
	Late                         int64 // answers that nobody waited for any longer
	Faults                       int64 // connections that ended for a fault of the peer's
	Writes                       int64 // system calls that wrote
	Stalls                       int64 // times a goroutine waited for a peer to take what there was to write
}

type counters struct {
	accepted, dialed, dialFailed, beats, late, faults, writes, stalls atomic.Int64
}

// Stats takes time in proportion to the number of connections. It may be called at any time.
func (r *Relay) Stats() Stats {
	s := Stats{Held: r.held.Load(), Accepted: r.count.accepted.Load(), Dialed: r.count.dialed.Load(), DialFailed: r.count.dialFailed.Load(),
		Beats: r.count.beats.Load(), Late: r.count.late.Load(), Faults: r.count.faults.Load(), Writes: r.count.writes.Load(), Stalls: r.count.stalls.Load()}
	r.mu.Lock()
	defer r.mu.Unlock()
	for c := range r.conns {
		if c.up != nil {
			s.Upstream++
			continue
		}
		s.Downstream++
		c.mu.Lock()
		s.Calls += len(c.calls)
		c.mu.Unlock()
	}
	return s
}
