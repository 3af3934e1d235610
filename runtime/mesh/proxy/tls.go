package proxy

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"time"

	"github.com/outrigger-mesh/outrigger/components"
	"github.com/outrigger-mesh/outrigger/runtime/mesh"
	"github.com/outrigger-mesh/outrigger/runtime/mesh/grpcproxy"
	"github.com/outrigger-mesh/outrigger/runtime/mesh/identity"
)

// Secure is mutual TLS on a port that other sidecars connect to.
type Secure struct {
	Identity *identity.Store
	Only     bool // nothing comes in without it
}

// Sidecars agree by ALPN on what is spoken inside: "outrigger/" and the name of a Protocol. The side that is called then sends one byte
// when it has let its peer in: in TLS 1.3 a client does not know that otherwise before its first answer, and a call would have been sent in vain.
const (
	alpnPrefix = "outrigger/"
	letIn      = 1

	handshakeTime = 10 * time.Second
)

// alpnCommon are names that clients use which are no sidecars.
var alpnCommon = map[string]string{"h2": "grpc", "http/1.1": "http"}

func (d *Dispatch) alpn() []string {
	var all []string
	for _, p := range d.Protocols {
		all = append(all, alpnPrefix+p.Name)
	}
	for common, name := range alpnCommon {
		if d.protocol(name) != nil {
			all = append(all, common)
		}
	}
	return all
}

func (d *Dispatch) protocol(name string) *Protocol {
	for i := range d.Protocols {
		if d.Protocols[i].Name == name {
			return &d.Protocols[i]
		}
	}
	return nil
}

// secure makes the handshake of a connection that begins with head, and serves what is inside.
func (d *Dispatch) secure(nc net.Conn, head []byte) {
	t := tls.Server(grpcproxy.Inline(grpcproxy.Prefixed(nc, head)), d.Secure.Identity.Server(d.alpn()))
	t.SetDeadline(time.Now().Add(handshakeTime))
	if err := t.Handshake(); err != nil {
		d.warn("a connection was refused: mutual TLS failed", "peer", nc.RemoteAddr().String(), "err", identity.Explain(err))
		t.Close()
		return
	}
	name := t.ConnectionState().NegotiatedProtocol
	if ours, ok := strings.CutPrefix(name, alpnPrefix); ok {
		if _, err := t.Write([]byte{letIn}); err != nil {
			t.Close()
			return
		}
		name = ours
	} else {
		name = alpnCommon[name]
	}
	t.SetDeadline(time.Time{})
	if p := d.protocol(name); p != nil {
		p.Serve(t, nil)
		return
	}
	d.sniff(t)
}

// refusePlain answers a connection without TLS where nothing else comes in.
func (d *Dispatch) refusePlain(nc net.Conn, head []byte) {
	const text = "this sidecar takes calls by mutual TLS alone (mesh.tls.mode: strict): give the calling sidecar mesh.tls with a certificate"
	d.warn("a connection was refused: it is without TLS, and mesh.tls.mode is strict", "peer", nc.RemoteAddr().String())
	switch {
	case HTTP1(head) == Yes:
		nc.SetWriteDeadline(time.Now().Add(time.Second))
		fmt.Fprintf(nc, "HTTP/1.1 403 Forbidden\r\ncontent-type: text/plain\r\ncontent-length: %d\r\nconnection: close\r\n%s: sidecar\r\n\r\n%s\n",
			len(text)+1, HeaderOrigin, text)
		d.linger(nc)
	case Prefix(HTTP2)(head) == Yes: // empty SETTINGS, then GOAWAY with INADEQUATE_SECURITY (RFC 9113 section 7)
		nc.SetWriteDeadline(time.Now().Add(time.Second))
		n := 8 + len(text)
		frame := append([]byte{0, 0, 0, 4, 0, 0, 0, 0, 0, 0, byte(n >> 8), byte(n), 7, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xc}, text...)
		nc.Write(frame)
		d.linger(nc)
	}
	nc.Close()
}

// Dialer connects to instances: to sidecars by mutual TLS, if this one has it, to applications without.
type Dialer struct {
	Identity *identity.Store // nil: no TLS
	Only     bool            // to no sidecar without it, though the registry says nothing of its identity
}

// Dial connects to an instance to speak a protocol, named as a Protocol is. An error says what is wrong with whose certificate; nothing of
// a call was sent then.
func (d *Dialer) Dial(ctx context.Context, in *mesh.Instance, protocol string) (net.Conn, error) {
	if d.Identity == nil || in.Direct || in.Identity == "" && !d.Only {
		return (&net.Dialer{}).DialContext(ctx, "tcp", in.Address)
	}
	config, err := d.Identity.Client(alpnPrefix+protocol, in.Identity)
	if err != nil {
		return nil, err
	}
	nc, err := (&net.Dialer{}).DialContext(ctx, "tcp", in.Address)
	if err != nil {
		return nil, err
	}
	t := tls.Client(grpcproxy.Inline(nc), config)
	stop := context.AfterFunc(ctx, func() { nc.SetDeadline(time.Now()) })
	defer stop()
	err = t.HandshakeContext(ctx)
	if err == nil {
		var word [1]byte
		if _, err = io.ReadFull(t, word[:]); err == nil && word[0] != letIn {
			err = fmt.Errorf("%w: it answered with %d", components.ErrUnavailable, word[0])
		}
	}
	if err == nil && !stop() {
		err = context.Cause(ctx)
	}
	if err != nil {
		nc.Close()
		if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
			err = fmt.Errorf("%w: the peer hung up: it may have no TLS", components.ErrUnavailable)
		}
		return nil, fmt.Errorf("mutual TLS with %s: %w", in.Address, identity.Explain(err))
	}
	return t, nil
}

// PeerOf is who is at the other end of a connection that came by mutual TLS, as its certificate says; ok is false without TLS.
func PeerOf(nc net.Conn) (peer components.Caller, ok bool) {
	for {
		switch c := nc.(type) {
		case *tls.Conn:
			state := c.ConnectionState()
			return peerOf(&state)
		case interface{ NetConn() net.Conn }:
			nc = c.NetConn()
		default:
			return peer, false
		}
	}
}

func peerOf(s *tls.ConnectionState) (components.Caller, bool) {
	id, ok := identity.Peer(s)
	return id.Caller, ok
}
