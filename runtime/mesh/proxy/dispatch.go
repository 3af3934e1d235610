package proxy

import (
	"bytes"
	"context"
	"crypto/tls"
	"log/slog"
	"net"
	"strings"
	"sync"
	"time"

	"github.com/outrigger-mesh/outrigger/runtime/mesh/grpcproxy"
)

// Protocol is one that is told apart by the first bytes of a connection.
type Protocol struct {
	Name string
	// Match says whether a connection that begins with head is of this protocol: Yes, No, or More bytes are needed to tell.
	Match func(head []byte) Verdict
	// Serve serves the connection to its end, and closes it; head was read from it already.
	Serve func(nc net.Conn, head []byte)
}

// Verdict is what Match answers.
type Verdict int

const (
	No Verdict = iota
	Yes
	More
)

const (
	helloTime = 10 * time.Second // for the first bytes
	helloSize = 24               // of the longest preface, that of HTTP/2
	logEvery  = time.Second      // a flood of connections is not one of the log
)

// Prefix matches connections that begin with text.
func Prefix(text string) func([]byte) Verdict {
	return func(head []byte) Verdict {
		switch {
		case bytes.HasPrefix(head, []byte(text)):
			return Yes
		case strings.HasPrefix(text, string(head)):
			return More
		}
		return No
	}
}

// HTTP2 is how a client that knows beforehand begins (RFC 9113 section 3.4); its first bytes suffice.
const HTTP2 = "PRI * HT"

// Dispatch serves one port for several protocols. A connection has 10 s for its first bytes. Once Close was called it serves no
// more.
type Dispatch struct {
	Protocols []Protocol
	Logger    *slog.Logger
	// Secure, if set, serves connections that begin with the handshake of TLS.
	Secure *Secure
	// Hint is what a client is told that speaks HTTP/1.1, which is not served: what to do instead.
	Hint string
	// MaxConns are the connections at once, MaxEach those from one address (one /64 of IPv6), so that no peer can lock the
	// others out; more are closed at once. 0: no bound.
	MaxConns, MaxEach int

	mu     sync.Mutex
	conns  map[net.Conn]string // to where each is from
	each   map[string]int
	closed bool
	end    chan struct{} // see ended
	logged time.Time
	tasks  sync.WaitGroup
}

// Serve accepts connections until ln is closed.
func (d *Dispatch) Serve(ln net.Listener) error {
	return grpcproxy.Accept(ln, d.ended(), func(err error) { d.warn("connection cannot be accepted", "err", err) }, func(nc net.Conn) {
		if why := d.add(nc); why != "" {
			nc.Close()
			d.warn("connection refused", "peer", nc.RemoteAddr().String(), "why", why)
		}
	})
}

// ended closes with Close.
func (d *Dispatch) ended() chan struct{} {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.end == nil {
		d.end = make(chan struct{})
	}
	return d.end
}

// add begins to serve a connection, or says why not.
func (d *Dispatch) add(nc net.Conn) (why string) {
	from := source(nc.RemoteAddr())
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.conns == nil {
		d.conns, d.each = map[net.Conn]string{}, map[string]int{}
	}
	switch {
	case d.closed:
		return "the sidecar is ending"
	case d.MaxConns > 0 && len(d.conns) >= d.MaxConns:
		return "there are too many connections"
	case d.MaxEach > 0 && d.each[from] >= d.MaxEach:
		return "there are too many connections from this address"
	}
	d.conns[nc] = from
	d.each[from]++
	d.tasks.Go(func() {
		defer d.remove(nc, from)
		d.serve(nc)
	})
	return ""
}

// source is who a connection is counted for.
func source(a net.Addr) string {
	tcp, ok := a.(*net.TCPAddr)
	if !ok {
		return a.String()
	}
	if v4 := tcp.IP.To4(); v4 != nil {
		return string(v4)
	}
	return string(tcp.IP.Mask(net.CIDRMask(64, 128))) // one host may have as many addresses as it likes within it
}

func (d *Dispatch) remove(nc net.Conn, from string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	delete(d.conns, nc)
	if d.each[from]--; d.each[from] == 0 {
		delete(d.each, from)
	}
}

// Close ends the connections whose protocol is not known yet, or whose transport has not ended them, and waits for all.
func (d *Dispatch) Close() {
	end := d.ended()
	d.mu.Lock()
	if !d.closed {
		close(end)
	}
	d.closed = true
	for nc := range d.conns {
		nc.Close()
	}
	d.mu.Unlock()
	d.tasks.Wait()
}

func (d *Dispatch) serve(nc net.Conn) { d.sniff(nc) }

// sniff serves a connection by its first bytes.
func (d *Dispatch) sniff(nc net.Conn) {
	_, inside := nc.(*tls.Conn)
	head := make([]byte, 0, helloSize)
	nc.SetReadDeadline(time.Now().Add(helloTime))
	for {
		n, err := nc.Read(head[len(head):cap(head)])
		head = head[:len(head)+n]
		p, more := d.match(head)
		if d.Secure != nil && !inside {
			if hello(head) == Yes {
				d.secure(nc, head)
				return
			}
			if d.Secure.Only && (p != nil || HTTP1(head) == Yes) {
				d.refusePlain(nc, head)
				return
			}
		}
		if p != nil {
			nc.SetReadDeadline(time.Time{})
			p.Serve(nc, head)
			return
		}
		if err != nil || !more || len(head) == cap(head) {
			d.refuse(nc, head)
			nc.Close()
			return
		}
	}
}

func (d *Dispatch) match(head []byte) (p *Protocol, more bool) {
	for i := range d.Protocols {
		switch d.Protocols[i].Match(head) {
		case Yes:
			return &d.Protocols[i], false
		case More:
			more = true
		}
	}
	return nil, more || HTTP1(head) == More || hello(head) == More
}

func (d *Dispatch) warn(what string, args ...any) { d.log(slog.LevelWarn, what, args...) }

// log writes no more than a line in a while.
func (d *Dispatch) log(level slog.Level, what string, args ...any) {
	if !d.Logger.Enabled(context.Background(), level) {
		return
	}
	d.mu.Lock()
	now := time.Now()
	quiet := now.Sub(d.logged) < logEvery
	if !quiet {
		d.logged = now
	}
	d.mu.Unlock()
	if !quiet {
		d.Logger.Log(context.Background(), level, what, args...)
	}
}
