package grpcproxy

import (
	"crypto/tls"
	"net"
	"sync"
	"syscall"
)

// Inline wraps a TCP connection that is to be put under tls.Server or tls.Client. Once the handshake is over, what TLS writes
// gathers in memory, so that the relay can write it without blocking, as it does without TLS: a goroutine and a wake-up less.
func Inline(nc net.Conn) net.Conn {
	if sc, ok := nc.(syscall.Conn); ok {
		if raw, err := sc.SyscallConn(); err == nil {
			return &inline{Conn: nc, raw: raw}
		}
	}
	return nc
}

type inline struct {
	net.Conn
	raw  syscall.RawConn
	mu   sync.Mutex
	on   bool
	wire []byte
}

// NetConn is the connection below.
func (l *inline) NetConn() net.Conn { return l.Conn }

func (l *inline) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if !l.on {
		return l.Conn.Write(p)
	}
	l.wire = append(l.wire, p...)
	return len(p), nil
}

// seal encrypts plain and returns what is to be written; it is valid until the next call.
func (l *inline) seal(c *tls.Conn, plain, spare []byte) ([]byte, error) {
	_, err := c.Write(plain)
	l.mu.Lock()
	wire := l.wire
	l.wire = spare[:0]
	l.mu.Unlock()
	return wire, err
}

// push writes what TLS said last (close_notify), as far as there is room.
func (l *inline) push() {
	l.mu.Lock()
	if len(l.wire) > 0 {
		l.raw.Write(func(fd uintptr) bool { syscall.Write(int(fd), l.wire); return true })
		l.wire = nil
	}
	l.mu.Unlock()
}

func (l *inline) Close() error {
	l.push()
	return l.Conn.Close()
}

func (l *inline) CloseWrite() error {
	l.push()
	if w, ok := l.Conn.(interface{ CloseWrite() error }); ok {
		return w.CloseWrite()
	}
	return nil
}

// handshake ends the TLS handshake and finds out whether c can be written inline.
func (c *conn) handshake() error {
	t, ok := c.nc.(*tls.Conn)
	if !ok {
		return nil
	}
	if err := t.Handshake(); err != nil {
		return err
	}
	state := t.ConnectionState()
	c.tls = &state
	if l, ok := t.NetConn().(*inline); ok {
		l.mu.Lock()
		l.on = true
		l.mu.Unlock()
		c.inl, c.raw = l, l.raw
	}
	return nil
}
