// Package fastgrpc serves generated gRPC services: unary methods at frame level, by grpcproxy, everything else (streams,
// compressed requests, health, reflection) by a grpc-go server in the same process, on the same port and connections.
//
// Handlers are unmodified. Metadata, deadlines, peer, SetHeader, SetTrailer, status details and interceptors are as in
// grpc-go on both paths, and ConnTag tells who calls. What grpc-go alone offers does not exist at frame level: stats
// handlers, channelz, binary logs, compressed answers; SendHeader sends with the answer.
package fastgrpc

import (
	"context"
	"net"
	"sync"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	_ "google.golang.org/grpc/encoding/gzip" // clients may compress
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	"github.com/outrigger-mesh/outrigger/runtime/mesh/grpcproxy"
)

// Options say how a Server serves; the zero value does.
type Options struct {
	// Unary and Stream are interceptors, the first one outermost. They run on both paths.
	Unary  []grpc.UnaryServerInterceptor
	Stream []grpc.StreamServerInterceptor
	// OnConn is asked about each connection; see grpcproxy.Relay. ConnTag returns what it said.
	OnConn func(nc net.Conn) (tag any, err error)
	// Inline says which methods (/service/method) begin on the connection's reader: one that waits there stalls its
	// connection, so it asks MayWait and returns ErrWouldBlock. If nil, none do.
	Inline func(method string) bool
	// Patient says which methods may wait for long, for a lock, say, or for another server. However many do, the calls of other
	// methods go on. If nil, none may.
	Patient func(method string) bool
	// Panic is told of a handler's panic, which the client sees as INTERNAL.
	Panic func(ctx context.Context, v any)
	// Relayed has the in-process grpc-go answer all methods: to compare, and to be safe.
	Relayed    bool
	MaxRequest int                 // bytes of a message: 4 MiB
	Hop, Limit string              // where MaxRequest holds and what it is called, for the answer to what is larger
	GRPC       []grpc.ServerOption // more options of the in-process grpc-go, but no interceptors
}

// Server is a grpc.ServiceRegistrar. Services are registered before it serves. Fields of Relay may be set before it
// serves, except those that Options speak of.
type Server struct {
	Relay *grpcproxy.Relay
	GRPC  *grpc.Server // for what needs the grpc-go server itself, as reflection does

	opts    Options
	unary   grpc.UnaryServerInterceptor
	callers callers
	mem     *grpcproxy.MemListener
	once    sync.Once
	up      *grpcproxy.Upstream
}

// New makes a server without services.
func New(o Options) *Server {
	if o.MaxRequest == 0 {
		o.MaxRequest = 4 << 20
	}
	s := &Server{opts: o, unary: chain(o.Unary), mem: grpcproxy.NewMemListener()}
	s.GRPC = grpc.NewServer(append([]grpc.ServerOption{
		grpc.MaxRecvMsgSize(o.MaxRequest), grpc.WaitForHandlers(true),
		grpc.ChainUnaryInterceptor(append([]grpc.UnaryServerInterceptor{s.enterUnary}, o.Unary...)...),
		grpc.ChainStreamInterceptor(append([]grpc.StreamServerInterceptor{s.enterStream}, o.Stream...)...),
	}, o.GRPC...)...)
	s.Relay = &grpcproxy.Relay{Value: value, Route: s.Route, OnConn: s.onConn, OnClose: s.callers.remove}
	if o.Panic != nil {
		s.Relay.Panic = func(k *grpcproxy.Call, v any) { o.Panic(k, v) }
	}
	s.up = s.Relay.NewUpstream("this sidecar", 1, func(context.Context) (net.Conn, error) {
		s.once.Do(func() { go s.GRPC.Serve(s.mem) })
		return s.mem.Dial()
	})
	return s
}

// RegisterService registers a generated service on both paths.
func (s *Server) RegisterService(d *grpc.ServiceDesc, impl any) {
	s.GRPC.RegisterService(d, impl)
	if s.opts.Relayed {
		return
	}
	for _, m := range d.Methods {
		path := "/" + d.ServiceName + "/" + m.MethodName
		blocking := s.opts.Inline == nil || !s.opts.Inline(path)
		method := grpcproxy.Method{Blocking: blocking, Patient: s.opts.Patient != nil && s.opts.Patient(path), Handler: s.handler(impl, m.Handler),
			MaxRequest: s.opts.MaxRequest, Hop: s.opts.Hop, Limit: s.opts.Limit}
		if !blocking {
			method.Slow = method.Handler
		}
		s.Relay.Unary(path, method)
	}
}

// Route sends a request to the in-process grpc-go. It is the Relay's unless that is given another, which calls this
// one for what belongs here.
func (s *Server) Route(h *grpcproxy.Headers) (*grpcproxy.Upstream, error) {
	h.Del(callerHeader)
	h.Set(callerHeader, s.callers.id(h.Conn))
	return s.up, nil
}

// Serve accepts connections until ln is closed.
func (s *Server) Serve(ln net.Listener) error { return s.Relay.Serve(ln) }

// ServeConn serves one connection until it ends.
func (s *Server) ServeConn(nc net.Conn) { s.Relay.ServeConn(nc) }

// Shutdown has clients go elsewhere, waits for running calls until ctx ends, and closes.
func (s *Server) Shutdown(ctx context.Context) error {
	err := s.Relay.Shutdown(ctx)
	s.Close()
	return err
}

// Close ends all calls at once, and returns when their handlers have.
func (s *Server) Close() {
	s.mem.Close() // first, for whoever dials it
	s.Relay.Close()
	s.GRPC.Stop()
}

type request struct {
	b   []byte
	dec func(any) error
}

var requests = sync.Pool{New: func() any {
	r := new(request)
	r.dec = func(v any) error {
		if err := proto.Unmarshal(r.b, v.(proto.Message)); err != nil {
			return status.Error(codes.Internal, "grpc: error unmarshalling request: "+err.Error())
		}
		return nil
	}
	return r
}}

// handler calls a generated handler. Its request is decoded within the call, its answer is encoded into resp.
func (s *Server) handler(impl any, h grpc.MethodHandler) grpcproxy.Handler {
	return func(ctx context.Context, req, resp []byte) ([]byte, *grpcproxy.Status) {
		r := requests.Get().(*request)
		r.b = req
		v, err := h(impl, ctx, r.dec, s.unary)
		r.b = nil
		requests.Put(r)
		if err != nil && !MayWait(ctx) {
			if err == ErrWouldBlock {
				return resp, grpcproxy.WouldBlock
			}
			if l, ok := err.(*Later); ok {
				return resp, l.later(ctx)
			}
		}
		answer, _ := v.(proto.Message)
		return encode(resp, answer, err)
	}
}

// encode appends an answer, or says how the call fails.
func encode(resp []byte, answer proto.Message, err error) ([]byte, *grpcproxy.Status) {
	if err == nil {
		if resp, err = (proto.MarshalOptions{}).MarshalAppend(resp, answer); err == nil {
			return resp, nil
		}
	}
	return resp, Status(err)
}

// Status makes of an error what grpc-go makes of it. An error with a method RelayStatus has made it before.
func Status(err error) *grpcproxy.Status {
	if made, ok := err.(interface{ RelayStatus() *grpcproxy.Status }); ok {
		return made.RelayStatus()
	}
	st, ok := status.FromError(err)
	if !ok {
		st = status.FromContextError(err)
	}
	out := &grpcproxy.Status{Code: int(st.Code()), Message: st.Message()}
	if p := st.Proto(); len(p.GetDetails()) > 0 {
		out.Details, _ = proto.Marshal(p)
	}
	return out
}

// chain makes one interceptor of several, as grpc-go does: nil of none.
func chain(all []grpc.UnaryServerInterceptor) grpc.UnaryServerInterceptor {
	if len(all) < 2 {
		if len(all) == 1 {
			return all[0]
		}
		return nil
	}
	first, rest := all[0], chain(all[1:])
	return func(ctx context.Context, req any, info *grpc.UnaryServerInfo, h grpc.UnaryHandler) (any, error) {
		return first(ctx, req, info, func(ctx context.Context, req any) (any, error) { return rest(ctx, req, info, h) })
	}
}
