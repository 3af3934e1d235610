package rpcproxy

import (
	"net"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
)

const (
	firstBuffer = 4 << 10
	readBuffer  = 32 << 10 // as soon as it is put to use
	largeFrame  = 64 << 10 // frames of more are counted in Relay.held while they come
)

// conn is one connection, downstream (up is nil) or upstream. Locks: Call.mu before conn.mu, never two of a kind.
type conn struct {
	r     *Relay
	nc    net.Conn
	raw   syscall.RawConn // nil: cannot be written without blocking
	codec Codec
	up    *Upstream

	// The reader's own.
	tag     any // of OnConn
	in      []byte
	rp, rw  int
	counted int // of in, in Relay.held
	frame   Frame
	strings Strings

	heard   atomic.Int64 // when anything came
	partial atomic.Int64 // when the frame that is not whole began; 0: there is none
	arrived atomic.Int64 // bytes of it

	mu              sync.Mutex
	out, spare      []byte
	wbuf            []byte
	wn              int
	werr            error
	wfn             func(uintptr) bool
	writing, closed bool
	room            chan struct{} // the reader waits for the peer to read; nil: it does not
	cause           error         // why we closed it
	tend            *time.Timer

	// Downstream.
	sidecar bool               // it has said that it is one
	calls   map[*Call]struct{} // that are not answered
	sweep   *time.Timer
	sweepAt int64 // when it goes off; 0: it does not

	// Upstream.
	pending map[uint64]*Call
	nextID  uint64
	leaving bool  // no new calls
	probed  int64 // when our heartbeat was sent that is not answered; 0: there is none
}

func newConn(r *Relay, nc net.Conn, head []byte, codec Codec, up *Upstream) *conn {
	c := &conn{r: r, nc: nc, codec: codec, up: up, in: make([]byte, max(firstBuffer, 2*len(head)))}
	c.rw = copy(c.in, head)
	if up == nil {
		c.calls = map[*Call]struct{}{}
	} else {
		c.pending = map[uint64]*Call{}
	}
	if sc, ok := nc.(syscall.Conn); ok {
		c.raw, _ = sc.SyscallConn()
	}
	c.wfn = func(fd uintptr) bool {
		c.wn, c.werr = syscall.Write(int(fd), c.wbuf)
		return true
	}
	now := int64(time.Since(epoch))
	c.heard.Store(now)
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.closed || r.drain && up == nil {
		nc.Close()
		return nil
	}
	r.conns[c] = struct{}{}
	return c
}

// run reads until the connection ends.
func (c *conn) run() {
	b := newBatch()
	if c.up == nil && c.r.OnConn != nil {
		c.tag = c.r.OnConn(c.nc)
	}
	c.startTending()
	var err error
	for n := c.rw; err == nil; n = 0 {
		if n == 0 {
			n, err = c.nc.Read(c.in[c.rw:])
			c.rw += n
		}
		if n > 0 {
			b.now = int64(time.Since(epoch))
			c.heard.Store(b.now)
			if e := c.frames(b); e != nil {
				err = e
				c.fault(e)
			}
			b.end()
			c.await()
		}
	}
	c.close(err)
}

func (c *conn) fault(err error) {
	c.r.count.faults.Add(1)
	if c.r.Fault != nil {
		c.r.Fault(c.nc, c.up != nil, err)
	}
}

// frames handles what has come whole.
func (c *conn) frames(b *batch) error {
	full := c.rw == len(c.in)
	want := 0
	for c.rp < c.rw {
		n, err := c.codec.Measure(c.in[c.rp:c.rw])
		if err != nil {
			return err
		}
		if n > c.r.MaxFrame {
			return errTooLarge
		}
		if want = n; n == 0 || n > c.rw-c.rp {
			break
		}
		c.frame = Frame{Bytes: c.in[c.rp : c.rp+n : c.rp+n]}
		if err := c.codec.Read(&c.frame); err != nil {
			return err
		}
		if c.up == nil {
			c.fromClient(b)
		} else {
			c.fromServer(b)
		}
		c.rp += n
	}
	return c.makeRoom(full, want, b)
}

// makeRoom sees to it that there is room for what comes next: of a frame of want bytes, of which only what has come is believed.
func (c *conn) makeRoom(full bool, want int, b *batch) error {
	rest := c.rw - c.rp
	if rest == 0 {
		c.rp, c.rw = 0, 0
		c.partial.Store(0)
		if len(c.in) > 4*readBuffer { // of a large frame
			c.in = make([]byte, readBuffer)
		} else if full && len(c.in) < readBuffer {
			c.in = make([]byte, readBuffer)
		}
		c.count()
		return nil
	}
	if c.partial.Load() == 0 || c.rp > 0 {
		c.partial.Store(b.now)
	}
	c.arrived.Store(int64(rest))
	size := len(c.in)
	if full && size < readBuffer {
		size = readBuffer
	}
	if rest == size || want > size && rest > size/2 {
		size = min(2*size, max(want, 2*readBuffer)+readBuffer)
	}
	if size != len(c.in) {
		c.in = append(make([]byte, 0, size), c.in[c.rp:c.rw]...)[:size]
	} else if c.rp > 0 {
		copy(c.in, c.in[c.rp:c.rw])
	}
	c.rp, c.rw = 0, rest
	if !c.count() {
		return errTooLarge
	}
	return nil
}

// count notes what a large buffer takes; false if all together take too much.
func (c *conn) count() bool {
	n := len(c.in)
	if n <= largeFrame {
		n = 0
	}
	if n == c.counted {
		return true
	}
	all := c.r.held.Add(int64(n - c.counted))
	c.counted = n
	return n == 0 || all <= c.r.MaxHeld
}

// send appends to what is written at the end of the batch.
func (c *conn) send(b *batch, f func([]byte) []byte) {
	c.mu.Lock()
	if !c.closed {
		c.out = f(c.out)
	}
	flood := c.up == nil && len(c.out) > 4*c.r.MaxPending
	c.mu.Unlock()
	if flood {
		c.end(errUnread)
	}
	b.touch(c)
}

// end closes the connection for a fault that its reader does not see.
func (c *conn) end(why error) {
	c.mu.Lock()
	first := c.cause == nil && !c.closed
	if first {
		c.cause = why
	}
	c.mu.Unlock()
	if first {
		c.fault(why)
		c.nc.Close()
	}
}

// await keeps the reader from a client that does not read its answers.
func (c *conn) await() {
	for c.up == nil {
		c.mu.Lock()
		if c.closed || len(c.out) <= c.r.MaxPending || !c.writing {
			c.mu.Unlock()
			return
		}
		room := make(chan struct{})
		c.room = room
		c.mu.Unlock()
		<-room
	}
}

// close ends what the connection carries.
func (c *conn) close(err error) {
	c.nc.Close()
	c.mu.Lock()
	c.closed = true
	if c.cause != nil {
		err = c.cause
	}
	c.out = nil
	for _, t := range []*time.Timer{c.tend, c.sweep} {
		if t != nil {
			t.Stop()
		}
	}
	lost := make([]*Call, 0, len(c.calls)+len(c.pending))
	for k := range c.calls {
		lost = append(lost, k)
	}
	for _, k := range c.pending {
		lost = append(lost, k)
	}
	c.mu.Unlock()
	c.r.held.Add(int64(-c.counted))
	b := newBatch()
	if c.up != nil {
		c.up.remove(c)
		b.wake = append(b.wake, c.up)
	}
	for _, k := range lost {
		k.lost(c, err, b)
	}
	b.end()
	c.r.mu.Lock()
	delete(c.r.conns, c)
	c.r.mu.Unlock()
}
