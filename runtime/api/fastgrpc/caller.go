package fastgrpc

import (
	"context"
	"crypto/tls"
	"net"
	"strconv"
	"sync"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/peer"
	"google.golang.org/grpc/status"

	"github.com/outrigger-mesh/outrigger/runtime/mesh/grpcproxy"
)

// callerHeader tells the in-process grpc-go which connection a request came from. Only this package sets it: what a
// client says under that name is dropped.
const callerHeader = "outrigger-connection"

// ConnTag is what OnConn said of the connection that a call came by, on either path; nil if it said nothing.
func ConnTag(ctx context.Context) any {
	if k := grpcproxy.FromContext(ctx); k != nil {
		return k.ConnTag()
	}
	if c, ok := ctx.Value(callerKey{}).(*caller); ok {
		return c.tag
	}
	return nil
}

type callerKey struct{}

type caller struct {
	id   string
	tag  any
	peer *peer.Peer
}

// callers are those whose connections are open.
type callers struct {
	mu   sync.RWMutex
	conn map[net.Conn]*caller
	byID map[string]*caller
	next uint64
}

func (s *Server) onConn(nc net.Conn) (tag any, err error) {
	if s.opts.OnConn != nil {
		if tag, err = s.opts.OnConn(nc); err != nil {
			return nil, err
		}
	}
	s.callers.add(nc, tag)
	return tag, nil
}

func (cs *callers) add(nc net.Conn, tag any) {
	var state *tls.ConnectionState
	if t, ok := nc.(*tls.Conn); ok {
		st := t.ConnectionState()
		state = &st
	}
	cs.mu.Lock()
	defer cs.mu.Unlock()
	if cs.conn == nil {
		cs.conn, cs.byID = map[net.Conn]*caller{}, map[string]*caller{}
	}
	cs.next++
	c := &caller{id: strconv.FormatUint(cs.next, 36), tag: tag, peer: newPeer(nc, state)}
	cs.conn[nc], cs.byID[c.id] = c, c
}

func (cs *callers) remove(nc net.Conn, _ any) {
	cs.mu.Lock()
	defer cs.mu.Unlock()
	if c := cs.conn[nc]; c != nil {
		delete(cs.conn, nc)
		delete(cs.byID, c.id)
	}
}

func (cs *callers) id(nc net.Conn) string {
	cs.mu.RLock()
	defer cs.mu.RUnlock()
	if c := cs.conn[nc]; c != nil {
		return c.id
	}
	return ""
}

func newPeer(nc net.Conn, state *tls.ConnectionState) *peer.Peer {
	p := &peer.Peer{Addr: nc.RemoteAddr(), LocalAddr: nc.LocalAddr()}
	if state != nil {
		p.AuthInfo = credentials.TLSInfo{State: *state, CommonAuthInfo: credentials.CommonAuthInfo{SecurityLevel: credentials.PrivacyAndIntegrity}}
	}
	return p
}

// enter puts the caller of a relayed call into its context. A call without one is not let through: its connection has
// gone meanwhile, and with it who called.
func (s *Server) enter(ctx context.Context) (context.Context, error) {
	md, _ := metadata.FromIncomingContext(ctx)
	ids := md.Get(callerHeader)
	delete(md, callerHeader)
	ctx = metadata.NewIncomingContext(ctx, md)
	if p, ok := peer.FromContext(ctx); !ok || p.Addr != s.mem.Addr() {
		return ctx, nil // a listener of the grpc-go server's own
	}
	var c *caller
	if len(ids) == 1 {
		s.callers.mu.RLock()
		c = s.callers.byID[ids[0]]
		s.callers.mu.RUnlock()
	}
	if c == nil {
		return nil, status.Error(codes.Unavailable, "the connection of this call is closed")
	}
	return peer.NewContext(context.WithValue(ctx, callerKey{}, c), c.peer), nil
}

func (s *Server) enterUnary(ctx context.Context, req any, _ *grpc.UnaryServerInfo, h grpc.UnaryHandler) (out any, err error) {
	if ctx, err = s.enter(ctx); err != nil {
		return nil, err
	}
	defer s.catch(ctx, &err)
	return h(ctx, req)
}

func (s *Server) enterStream(srv any, ss grpc.ServerStream, _ *grpc.StreamServerInfo, h grpc.StreamHandler) (err error) {
	ctx, err := s.enter(ss.Context())
	if err != nil {
		return err
	}
	defer s.catch(ctx, &err)
	return h(srv, &entered{ss, ctx})
}

type entered struct {
	grpc.ServerStream
	ctx context.Context
}

func (e *entered) Context() context.Context { return e.ctx }

// catch makes of a panic what it is at frame level.
func (s *Server) catch(ctx context.Context, err *error) {
	if v := recover(); v != nil {
		*err = status.Error(codes.Internal, "panic")
		if s.opts.Panic != nil {
			s.opts.Panic(ctx, v)
		}
	}
}
