// Package fastgrpc serves generated gRPC services: unary methods at frame level, by grpcproxy, everything else by a grpc-go server in
// the same process, on the same port and connections. Handlers, metadata, peer, SetHeader/SetTrailer, status details and unary
// interceptors are grpc-go's.
package fastgrpc

import (
	"context"
	"encoding/base64"
	"net"
	"strings"
	"sync"

	"github.com/outrigger-mesh/outrigger/runtime/mesh/grpcproxy"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	_ "google.golang.org/grpc/encoding/gzip"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/peer"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
)

// Server is a grpc.ServiceRegistrar.
type Server struct {
	Relay       *grpcproxy.Relay
	GRPC        *grpc.Server
	Interceptor grpc.UnaryServerInterceptor // of the methods served at frame level; give GRPC the same
	Inline      func(method string) bool    // true: the method never waits
	mem         *grpcproxy.MemListener
	once        sync.Once
	up          *grpcproxy.Upstream
}

func New(opts ...grpc.ServerOption) *Server {
	s := &Server{Relay: &grpcproxy.Relay{Value: value}, GRPC: grpc.NewServer(opts...), mem: grpcproxy.NewMemListener()}
	s.up = s.Relay.NewUpstream("grpc-go", 1, func(context.Context) (net.Conn, error) {
		s.once.Do(func() { go s.GRPC.Serve(s.mem) })
		return s.mem.Dial()
	})
	s.Relay.Route = func(*grpcproxy.Headers) (*grpcproxy.Upstream, error) { return s.up, nil }
	return s
}

func (s *Server) RegisterService(d *grpc.ServiceDesc, impl any) {
	s.GRPC.RegisterService(d, impl)
	for _, m := range d.Methods {
		path := "/" + d.ServiceName + "/" + m.MethodName
		s.Relay.Unary(path, grpcproxy.Method{Blocking: s.Inline == nil || !s.Inline(path), Handler: s.handler(impl, m.Handler)})
	}
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

func (s *Server) handler(impl any, h grpc.MethodHandler) grpcproxy.Handler {
	return func(ctx context.Context, req, resp []byte) ([]byte, *grpcproxy.Status) {
		r := requests.Get().(*request)
		r.b = req
		v, err := h(impl, ctx, r.dec, s.Interceptor)
		r.b = nil
		requests.Put(r)
		if err == nil {
			if resp, err = (proto.MarshalOptions{}).MarshalAppend(resp, v.(proto.Message)); err == nil {
				return resp, nil
			}
		}
		return resp, Status(err)
	}
}

// Status makes of an error what grpc-go makes of it.
func Status(err error) *grpcproxy.Status {
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

// value makes what grpc-go's helpers look for in a context only when they look. Their keys are private: probes learn them.
func value(k *grpcproxy.Call, key any) any {
	switch key {
	case mdKey:
		md := metadata.MD{}
		for _, f := range k.Fields() {
			if f.Name[0] == ':' && f.Name != ":authority" || reserved[f.Name] {
				continue
			}
			if strings.HasSuffix(f.Name, "-bin") {
				for v := range strings.SplitSeq(f.Value, ",") {
					b, err := base64.RawStdEncoding.DecodeString(strings.TrimRight(v, "="))
					if err == nil {
						md[f.Name] = append(md[f.Name], string(b))
					}
				}
				continue
			}
			md[f.Name] = append(md[f.Name], f.Value)
		}
		return md
	case peerKey:
		h := k.Headers()
		return &peer.Peer{Addr: h.Conn.RemoteAddr(), LocalAddr: h.Conn.LocalAddr()}
	case streamKey:
		return transport{k}
	}
	return nil
}

var reserved = map[string]bool{"te": true, "grpc-timeout": true, "grpc-encoding": true, "grpc-accept-encoding": true, "grpc-status": true, "grpc-message": true}

type probe struct {
	context.Context
	key any
}

func (p *probe) Value(key any) any { p.key = key; return nil }

func learn(f func(context.Context)) any {
	p := &probe{Context: context.Background()}
	f(p)
	return p.key
}

var (
	mdKey     = learn(func(c context.Context) { metadata.FromIncomingContext(c) })
	peerKey   = learn(func(c context.Context) { peer.FromContext(c) })
	streamKey = learn(func(c context.Context) { grpc.ServerTransportStreamFromContext(c) })
)

// transport is what grpc.SetHeader and the like write to.
type transport struct{ k *grpcproxy.Call }

func (t transport) Method() string                  { return t.k.Path() }
func (t transport) SetHeader(md metadata.MD) error  { each(md, t.k.SetHeader); return nil }
func (t transport) SendHeader(md metadata.MD) error { return t.SetHeader(md) } // goes out with the answer
func (t transport) SetTrailer(md metadata.MD) error { each(md, t.k.SetTrailer); return nil }

func each(md metadata.MD, set func(n, v string)) {
	for n, vs := range md {
		n = strings.ToLower(n)
		if strings.HasPrefix(n, "grpc-") || strings.HasPrefix(n, ":") || n == "content-type" {
			continue
		}
		for _, v := range vs {
			if strings.HasSuffix(n, "-bin") {
				v = base64.RawStdEncoding.EncodeToString([]byte(v))
			}
			set(n, v)
		}
	}
}
