package httpproxy

import (
	"context"
	"errors"
	"io"
	"os"
	"sync"
	"sync/atomic"
	"time"
)

var scratches sync.Pool // of *[]byte

// conn is a client connection. Its goroutine is the one of serve; what others use is atomic.
type conn struct {
	r *Relay
	stream
	due     [2]atomic.Int64 // deadlines: of serve, of pump. 0: none
	until   atomic.Int64    // no deadline of the request is later. 0: no bound
	watch   atomic.Int64    // when to begin to watch if the client goes. 0: never
	watched chan struct{}   // the watch has ended
	gone    atomic.Bool
	idle    atomic.Bool
	up      atomic.Pointer[upConn]
	stop    atomic.Pointer[context.CancelFunc] // ends what serve waits for, if that is no connection

	req, res  Head
	in, out   body
	scratch   *[]byte
	o         Outcome
	pumped    chan pumpEnd
	continued bool               // the client has been told to send its body
	first     func(uintptr) bool // wait's
	firstErr  error
	tickServe func() error
	tickPump  func() error
	quiet     time.Duration // that a body may stand still
}

// arm sets a new deadline. It returns false if the last one has passed: then the connections cannot be used.
func (c *conn) arm(i int, d time.Duration) bool {
	at := c.until.Load()
	if d > 0 {
		if t := c.r.clock.Load() + int64(d); at == 0 || t < at {
			at = t
		}
	}
	return c.due[i].Swap(at) != expired
}

// disarm has no deadline, and makes the client connection usable after one has passed.
func (c *conn) disarm() {
	c.until.Store(0)
	if c.due[0].Swap(0) == expired {
		c.r.mu.Lock() // the sweeper has done what it does
		c.nc.SetDeadline(time.Time{})
		c.r.mu.Unlock()
	}
}

// interrupt ends whatever serve and pump wait for. Called by others.
func (c *conn) interrupt() {
	c.nc.SetDeadline(past)
	if uc := c.up.Load(); uc != nil {
		uc.nc.SetDeadline(past)
	}
	if stop := c.stop.Load(); stop != nil {
		(*stop)()
	}
}

// blocks runs f with a context that ends when the client goes, a deadline of the request passes, or the relay is closed.
func (c *conn) blocks(f func(context.Context)) {
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	c.stop.Store(&cancel)
	c.watch.CompareAndSwap(0, c.r.clock.Load()+int64(watchFrom))
	if !c.arm(0, 0) {
		c.due[0].Store(expired)
		cancel()
	}
	if c.r.closed.Load() {
		cancel()
	}
	f(ctx)
	c.stop.Store(nil)
	c.unwatch()
}

func (c *conn) serve() {
	c.first = func(fd uintptr) bool {
		c.acquire()
		n, err := sysRead(fd, c.buf)
		switch {
		case n > 0:
			c.w = n
		case again(err):
			c.letGo()
			return false
		case err == nil:
			c.firstErr = io.EOF
		default:
			c.firstErr = err
		}
		return true
	}
	c.tickServe = func() error {
		if !c.arm(0, c.quiet) {
			return os.ErrDeadlineExceeded
		}
		return nil
	}
	c.tickPump = func() error {
		if !c.arm(1, c.r.StallTimeout) {
			return os.ErrDeadlineExceeded
		}
		return nil
	}
	for c.readHead() && c.exchange() && !c.r.drain.Load() {
	}
	c.letGo()
}

// letGo gives the buffers back.
func (c *conn) letGo() {
	c.release()
	if c.scratch != nil {
		if cap(*c.scratch) <= 2*c.size {
			scratches.Put(c.scratch)
		}
		c.scratch = nil
	}
}

// wait waits for the first bytes of a request, without a buffer.
func (c *conn) wait() error {
	if c.tcp == nil || c.raw == nil {
		c.acquire()
		return c.fill()
	}
	c.stream.r, c.w = 0, 0
	if err := c.raw.Read(c.first); err != nil {
		return err
	}
	return c.firstErr
}

func (c *conn) readHead() bool {
	s := &c.stream
	if s.r == s.w {
		if c.idle.Store(true); c.r.drain.Load() || !c.arm(0, c.r.IdleTimeout) {
			return false
		}
		err := c.wait()
		if c.idle.Store(false); err != nil {
			return false
		}
		if c.r.drain.Load() { // it came just before Shutdown would have ended the connection
			c.r.mu.Lock()
			c.nc.SetReadDeadline(time.Time{})
			c.r.mu.Unlock()
		}
	}
	if c.scratch == nil {
		if c.scratch, _ = scratches.Get().(*[]byte); c.scratch == nil {
			b := make([]byte, 0, 4<<10)
			c.scratch = &b
		}
	}
	for at, blank, armed := 0, 0, false; ; {
		for at == 0 && blank < 2 && s.w-s.r >= 2 && s.buf[s.r] == '\r' && s.buf[s.r+1] == '\n' {
			s.r += 2
			blank++
		}
		end, err := headEnd(s.buf[s.r:s.w], &at)
		if end > 0 {
			if err = c.req.parseRequest(s.buf[s.r : s.r+end]); err == nil {
				s.r += end
				return true
			}
		} else if err == nil && s.w-s.r >= s.size {
			err = errTooLarge
		}
		if err == nil {
			if !armed && !c.arm(0, c.r.HeadTimeout) {
				return false
			}
			armed = true
			if err = s.fill(); errors.Is(err, os.ErrDeadlineExceeded) {
				err = errSlowHead
			}
		}
		if e, ok := err.(*Error); ok {
			c.misread(e, end > 0)
		}
		if err != nil {
			return false
		}
	}
}

// misread answers what is no request.
func (c *conn) misread(e *Error, whole bool) {
	if !whole {
		c.req.reset()
	}
	c.o = Outcome{Method: c.req.Method, Start: time.Now(), ByClient: true}
	c.in.init(none, 0, false)
	c.req.close = true
	c.local(e, FlagProtocol)
	c.done()
}

func (c *conn) done() {
	if c.r.Done != nil {
		c.o.Tag, c.o.Duration = c.req.Tag, time.Since(c.o.Start)
		c.r.Done(&c.o)
		c.req.Tag, c.o.Tag = nil, nil // they may be another request's now
	}
}

func (c *conn) exchange() bool {
	c.req.Start = time.Now()
	c.o = Outcome{Method: c.req.Method, Start: c.req.Start}
	keep := c.relay()
	c.up.Store(nil)
	c.o.Sent, c.o.Received = c.in.n, c.out.n
	c.done()
	c.until.Store(0)
	return keep
}
