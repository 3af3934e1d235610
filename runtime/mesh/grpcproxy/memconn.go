package grpcproxy

import (
	"io"
	"net"
	"os"
	"sync"
	"time"
)

// MemPipe makes a connection in memory. Its buffers grow as needed up to size bytes a direction; a write that fits
// does not block, and a relay writes to it as it does to a socket: inline.
func MemPipe(size int) (net.Conn, net.Conn) {
	a, b := newMemHalf(size), newMemHalf(size)
	return &memConn{in: a, out: b}, &memConn{in: b, out: a}
}

// MemListener hands out one end of pipes that Dial makes.
type MemListener struct {
	ch   chan net.Conn
	done chan struct{}
	once sync.Once
}

// NewMemListener makes one that is open.
func NewMemListener() *MemListener {
	return &MemListener{ch: make(chan net.Conn), done: make(chan struct{})}
}

// Accept waits for a Dial, and fails with net.ErrClosed after Close.
func (l *MemListener) Accept() (net.Conn, error) {
	select {
	case c := <-l.ch:
		return c, nil
	case <-l.done:
		return nil, net.ErrClosed
	}
}

// Dial waits for an Accept, and fails with net.ErrClosed after Close.
func (l *MemListener) Dial() (net.Conn, error) {
	a, b := MemPipe(256 << 10)
	select {
	case l.ch <- b:
		return a, nil
	case <-l.done:
		return nil, net.ErrClosed
	}
}

// Close ends Accept and Dial; connections that were made go on. It may be called more than once.
func (l *MemListener) Close() error { l.once.Do(func() { close(l.done) }); return nil }

// Addr says no more than that it is in memory.
func (l *MemListener) Addr() net.Addr { return memAddr{} }

type memAddr struct{}

func (memAddr) Network() string { return "mem" }
func (memAddr) String() string  { return "mem" }

type memHalf struct {
	mu        sync.Mutex
	rd, wr    sync.Cond
	buf       []byte
	off, size int
	eof       bool // no more is written
	broken    bool // no more is read
	deadline  [2]memDeadline
}

type memDeadline struct {
	t     *time.Timer
	n     int
	fired bool
}

func newMemHalf(size int) *memHalf {
	h := &memHalf{size: size}
	h.rd.L, h.wr.L = &h.mu, &h.mu
	return h
}

func (h *memHalf) read(p []byte) (int, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for h.off == len(h.buf) {
		switch {
		case h.broken:
			return 0, net.ErrClosed
		case h.eof:
			return 0, io.EOF
		case h.deadline[0].fired:
			return 0, os.ErrDeadlineExceeded
		}
		h.rd.Wait()
	}
	n := copy(p, h.buf[h.off:])
	if h.off += n; h.off == len(h.buf) {
		h.buf, h.off = h.buf[:0], 0
		if cap(h.buf) > 64<<10 {
			h.buf = nil
		}
	}
	h.wr.Signal()
	return n, nil
}

func (h *memHalf) write(p []byte, wait bool) (n int, err error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for {
		if h.eof || h.broken {
			return n, io.ErrClosedPipe
		}
		if h.deadline[1].fired {
			return n, os.ErrDeadlineExceeded
		}
		if room := h.size - (len(h.buf) - h.off); room > 0 {
			if h.off > 0 && len(h.buf)+len(p) > cap(h.buf) {
				h.buf, h.off = h.buf[:copy(h.buf, h.buf[h.off:])], 0
			}
			k := min(room, len(p))
			h.buf = append(h.buf, p[:k]...)
			p, n = p[k:], n+k
			h.rd.Signal()
		}
		if len(p) == 0 || !wait {
			return n, nil
		}
		h.wr.Wait()
	}
}

func (h *memHalf) set(i int, t time.Time) {
	h.mu.Lock()
	defer h.mu.Unlock()
	d := &h.deadline[i]
	if d.t != nil {
		d.t.Stop()
		d.t = nil
	}
	d.n++
	d.fired = false
	if t.IsZero() {
		return
	}
	n := d.n
	d.t = time.AfterFunc(time.Until(t), func() {
		h.mu.Lock()
		if d.n == n {
			d.fired = true
			h.rd.Broadcast()
			h.wr.Broadcast()
		}
		h.mu.Unlock()
	})
}

func (h *memHalf) end(broken bool) {
	h.mu.Lock()
	h.eof, h.broken = true, h.broken || broken
	h.rd.Broadcast()
	h.wr.Broadcast()
	h.mu.Unlock()
}

type memConn struct{ in, out *memHalf }

func (c *memConn) Read(p []byte) (int, error)         { return c.in.read(p) }
func (c *memConn) Write(p []byte) (int, error)        { return c.out.write(p, true) }
func (c *memConn) TryWrite(p []byte) (int, error)     { return c.out.write(p, false) }
func (c *memConn) Close() error                       { c.in.end(true); c.out.end(false); return nil }
func (c *memConn) CloseWrite() error                  { c.out.end(false); return nil }
func (c *memConn) LocalAddr() net.Addr                { return memAddr{} }
func (c *memConn) RemoteAddr() net.Addr               { return memAddr{} }
func (c *memConn) SetDeadline(t time.Time) error      { c.in.set(0, t); c.out.set(1, t); return nil }
func (c *memConn) SetReadDeadline(t time.Time) error  { c.in.set(0, t); return nil }
func (c *memConn) SetWriteDeadline(t time.Time) error { c.out.set(1, t); return nil }
