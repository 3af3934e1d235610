package grpcproxy

import (
	"crypto/tls"
	"errors"
	"maps"
	"net"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
)

const (
	firstBuffer = 4 << 10
	readBuffer  = 32 << 10 // as soon as it is put to use
	helloTime   = 10 * time.Second
	writeHigh   = 256 << 10 // DATA waits in its stream while so much waits to be written
	writeLimit  = 8 << 20   // a peer that makes us answer more than this without reading it is dropped
	quantum     = maxFrame  // what a stream may send in its turn when several wait
	maxControl  = 10000     // frames that carry nothing, in a second
	rapidReset  = 100 * time.Millisecond
)

// conn is one HTTP/2 connection, downstream (we are the server; up is nil) or upstream (we are the client).
// Locks: stream.mu before conn.mu, never two of a kind.
type conn struct {
	r   *Relay
	nc  net.Conn
	raw syscall.RawConn                            // nil: cannot be written without blocking
	try interface{ TryWrite([]byte) (int, error) } // can, in memory
	inl *inline                                    // TLS over raw
	up  *Upstream

	// What is known once the connection is made; constant then.
	tls     *tls.ConnectionState
	tag     any
	refusal *Error // the answer to all requests

	admitted     bool // by OnConn
	refused      int
	refusedTimer *time.Timer

	// The reader's own.
	in          []byte
	rp, rw      int
	dec         decoder
	fields      []Field
	head        Headers
	block       []byte // a header block that CONTINUATION goes on with
	blockID     uint32
	blockAt     int64 // when that began
	partAt      int64 // when the frame began that is not whole; 0: none is
	blockEnd    bool
	selfish     bool // the last HEADERS depend on themselves
	frags       int
	begun, set  bool // the preface, the first SETTINGS were seen
	control     int
	resets      int
	faulty      atomic.Int32 // streams that were reset for faults of the client's and are not in resets yet
	second      int64
	fresh, free []*Call // local calls whose bodies are awaited within this read; spare ones
	scratch     []byte  // an inline handler's answer
	outcome     Outcome

	reading, leaving atomic.Bool  // frames are being handled, local calls among them; the last GOAWAY is sent
	credit           atomic.Int64 // what the peer may still send
	unacked          atomic.Int64 // what it has sent and not been given back
	held             atomic.Int64 // what of it waits in streams
	owed             atomic.Int64 // what waits in streams for it, of a downstream connection
	lastRead         atomic.Int64 // when anything came
	lastHeard        atomic.Int64 // when HEADERS or DATA came
	unended          atomic.Int64 // when the frame, or the list of headers, began that is not whole; 0: none is

	mu                        sync.Mutex
	out, spare                []byte
	writing, closed, draining bool
	flooded                   bool // more than writeLimit has gathered: it is being dropped
	idleWrites                int
	said                      chan struct{} // closed when all is written; nil: nobody waits
	soon                      bool          // a blocking handler is about to flush
	hung                      bool          // we have closed our side
	gone                      bool          // the last GOAWAY is sent: streams above last are not served
	last, next                uint32        // highest stream seen; next to open
	win                       int64
	initWin                   int64
	maxStreams                uint32
	enc                       encoder
	streams                   map[uint32]*stream
	past                      memory
	blocked                   []*stream // have data and window, but the connection has none
	sweep                     *time.Timer
	sweepAt                   int64 // when it goes off; 0: it does not
	pingTimer                 *time.Timer
	pinging, pingHeld         bool
	pingData                  [8]byte
	pingAt, pingDue           int64
	pingSent                  int
	strikes                   int
	spoke                     bool // HEADERS or DATA were written since the peer's last PING
	care                      care
	wbuf                      []byte
	wn                        int
	werr                      error
	wfn                       func(uintptr) bool
	wire                      []byte // the spare buffer of inl
}

func (c *conn) side() int {
	if c.up == nil {
		return 0
	}
	return 1
}

func newConn(r *Relay, nc net.Conn, up *Upstream) *conn {
	nc, head := unwrap(nc)
	c := &conn{r: r, nc: nc, up: up, in: make([]byte, firstBuffer), streams: map[uint32]*stream{},
		win: 65535, initWin: 65535, maxStreams: 100, next: 1, begun: up != nil, writing: true}
	if c.rw = len(head); c.rw > 0 {
		c.in = append(head, make([]byte, max(firstBuffer, frameHeader+maxFrame))...)
	}
	c.dec.max = tableMax
	c.enc.init()
	c.credit.Store(int64(r.ConnWindow))
	if sc, ok := nc.(syscall.Conn); ok {
		c.raw, _ = sc.SyscallConn()
	}
	c.try, _ = nc.(interface{ TryWrite([]byte) (int, error) })
	c.wfn = func(fd uintptr) bool {
		c.wn, c.werr = syscall.Write(int(fd), c.wbuf)
		return true
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.closed || r.drain && up == nil {
		nc.Close()
		return nil
	}
	r.conns[c] = struct{}{}
	if up != nil {
		c.out = append(c.out, preface...)
		c.out = appendSettings(c.out, setPush, 0, setWindow, uint32(r.StreamWindow), setMaxHeaderList, uint32(r.MaxHeaderList))
	} else {
		c.out = appendSettings(c.out, setMaxStreams, uint32(r.MaxStreams), setWindow, uint32(r.StreamWindow),
			setMaxHeaderList, uint32(r.MaxHeaderList))
	}
	c.out = appendU32(c.out, fWindow, 0, uint32(max(r.ConnWindow-65535, 1)))
	return c
}

// run reads until the connection ends.
func (c *conn) run() {
	b := newBatch()
	c.nc.SetReadDeadline(time.Now().Add(helloTime)) // for the handshake and the first SETTINGS
	err := c.handshake()
	if err == nil {
		err = c.admit()
	}
	c.mu.Lock()
	c.writing = false
	c.mu.Unlock()
	if err == nil {
		c.startTending()
		b.touch(c)
		b.end()
	}
	for n := c.rw; err == nil; {
		if n == 0 {
			n, err = c.nc.Read(c.in[c.rw:])
			c.rw += n
		}
		if n > 0 {
			n = 0
			b.now = int64(time.Since(epoch))
			c.lastRead.Store(b.now)
			c.reading.Store(true)
			if e := c.readFrames(b); e != nil {
				err = e
			}
			if c.reading.Store(false); c.leaving.Load() {
				b.touch(c) // nobody has hung up meanwhile
			}
			b.end()
		}
	}
	c.close(err, b)
	c.dismiss()
}

func (c *conn) close(err error, b *batch) {
	var ce connError
	c.mu.Lock()
	if errors.As(err, &ce) {
		c.r.count.faults.Add(1)
		c.r.count.goAways.Add(1)
		c.out = appendGoAway(c.out, c.last, ce.code, ce.msg)
		c.mu.Unlock()
		c.flush(b)
		c.lastWords()
		c.mu.Lock()
	}
	c.closed = true
	streams := maps.Clone(c.streams)
	if c.sweep != nil {
		c.sweep.Stop()
	}
	if c.care.timer != nil {
		c.care.timer.Stop()
	}
	if c.care.cause != nil {
		err = c.care.cause
	}
	if c.pingTimer != nil {
		c.pingTimer.Stop()
	}
	c.mu.Unlock()
	if ce.msg != "" {
		c.hangUp()
	} else {
		c.nc.Close()
	}
	if c.up != nil {
		c.up.remove(c)
		b.wake = append(b.wake, c.up)
	}
	for id, s := range streams {
		s.lost(c, id, err, b)
	}
	b.end()
	c.r.mu.Lock()
	delete(c.r.conns, c)
	c.r.mu.Unlock()
}
