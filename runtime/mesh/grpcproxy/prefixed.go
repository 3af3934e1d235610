package grpcproxy

import (
	"errors"
	"net"
	"syscall"
)

// Prefixed gives back to nc what a dispatcher has read of it to tell protocols apart. A relay takes the bytes over and
// goes on with nc itself, which is what its hooks then see; others read them from the returned connection.
func Prefixed(nc net.Conn, head []byte) net.Conn {
	return &prefixed{Conn: nc, head: head}
}

type prefixed struct {
	net.Conn
	head []byte
}

func (p *prefixed) Read(b []byte) (int, error) {
	if len(p.head) > 0 {
		n := copy(b, p.head)
		p.head = p.head[n:]
		return n, nil
	}
	return p.Conn.Read(b)
}

// SyscallConn lets Inline write to the connection without blocking.
func (p *prefixed) SyscallConn() (syscall.RawConn, error) {
	if sc, ok := p.Conn.(syscall.Conn); ok {
		return sc.SyscallConn()
	}
	return nil, errors.ErrUnsupported
}

func (p *prefixed) CloseWrite() error {
	if w, ok := p.Conn.(interface{ CloseWrite() error }); ok {
		return w.CloseWrite()
	}
	return errors.ErrUnsupported
}

// NetConn is the connection without its prefix.
func (p *prefixed) NetConn() net.Conn { return p.Conn }

// unwrap finds the connection and what was read of it.
func unwrap(nc net.Conn) (net.Conn, []byte) {
	var head []byte
	for {
		p, ok := nc.(*prefixed)
		if !ok {
			return nc, head
		}
		head, nc = append(head[:len(head):len(head)], p.head...), p.Conn
	}
}
