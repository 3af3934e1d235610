package proxy

import (
	"bytes"
	"errors"
	"io"
	"log/slog"
	"net"
	"sync"
	"time"
)

// Protocol is one that is told apart by the first bytes of a connection.
type Protocol struct {
	Name string
	// Match says whether a connection that begins with head is of this protocol: Yes, No, or More bytes are needed to tell.
	Match func(head []byte) Verdict
	// Serve serves the connection to its end; head was read from it already.
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
)

// Prefix matches connections that begin with text.
func Prefix(text string) func([]byte) Verdict {
	return func(head []byte) Verdict {
		switch {
		case len(head) >= len(text) && string(head[:len(text)]) == text:
			return Yes
		case len(head) < len(text) && bytes.HasPrefix([]byte(text), head):
			return More
		}
		return No
	}
}

// HTTP2 is how a client that knows beforehand begins (RFC 9113 section 3.4); its first bytes suffice.
const HTTP2 = "PRI * HT"

// Dispatch serves one port for several protocols.
type Dispatch struct {
	Protocols []Protocol
	Logger    *slog.Logger
	MaxConns  int // connections at once; more are closed at once

	mu    sync.Mutex
	conns map[net.Conn]struct{}
	tasks sync.WaitGroup
}

// Serve accepts connections until ln is closed.
func (d *Dispatch) Serve(ln net.Listener) error {
	for {
		nc, err := ln.Accept()
		if err != nil {
			var transient interface{ Temporary() bool } // out of descriptors: what is open goes on
			if errors.As(err, &transient) && transient.Temporary() {
				d.Logger.Warn("connection cannot be accepted", "err", err)
				time.Sleep(10 * time.Millisecond)
				continue
			}
			return err
		}
		if !d.add(nc) {
			nc.Close()
			continue
		}
		d.tasks.Go(func() {
			defer d.remove(nc)
			d.serve(nc)
		})
	}
}

func (d *Dispatch) add(nc net.Conn) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.conns == nil {
		d.conns = map[net.Conn]struct{}{}
	}
	if len(d.conns) >= d.MaxConns {
		return false
	}
	d.conns[nc] = struct{}{}
	return true
}

func (d *Dispatch) remove(nc net.Conn) {
	d.mu.Lock()
	delete(d.conns, nc)
	d.mu.Unlock()
}

// Close ends the connections whose protocol is not known yet, or whose transport has not ended them, and waits for all.
func (d *Dispatch) Close() {
	d.mu.Lock()
	for nc := range d.conns {
		nc.Close()
	}
	d.mu.Unlock()
	d.tasks.Wait()
}

func (d *Dispatch) serve(nc net.Conn) {
	head := make([]byte, 0, helloSize)
	nc.SetReadDeadline(time.Now().Add(helloTime))
	for {
		n, err := nc.Read(head[len(head):cap(head)])
		head = head[:len(head)+n]
		p, more := d.match(head)
		if p != nil {
			nc.SetReadDeadline(time.Time{})
			p.Serve(nc, head)
			return
		}
		if err != nil || !more || len(head) == cap(head) {
			if len(head) > 0 {
				d.refuse(nc, head)
			}
			nc.Close()
			return
		}
	}
}

func (d *Dispatch) match(head []byte) (p *Protocol, more bool) {
	if len(head) == 0 {
		return nil, true
	}
	for i := range d.Protocols {
		switch d.Protocols[i].Match(head) {
		case Yes:
			return &d.Protocols[i], false
		case More:
			more = true
		}
	}
	return nil, more
}

// refuse answers what is not served here, as far as it can be told what would understand it.
func (d *Dispatch) refuse(nc net.Conn, head []byte) {
	d.Logger.Warn("connection of an unknown protocol", "peer", nc.RemoteAddr().String(), "first_bytes", string(head[:min(len(head), 8)]))
	for _, method := range [...]string{"GET ", "POST", "PUT ", "HEAD", "DELE", "OPTI", "PATC"} {
		if bytes.HasPrefix(head, []byte(method)) {
			nc.SetWriteDeadline(time.Now().Add(time.Second))
			io.WriteString(nc, "HTTP/1.1 505 HTTP Version Not Supported\r\ncontent-type: text/plain\r\nconnection: close\r\n"+
				"outrigger-origin: sidecar\r\n\r\nThis port speaks gRPC (HTTP/2 without an upgrade).\n")
			return
		}
	}
}
