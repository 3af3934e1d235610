package fastgrpc

import (
	"context"
	"errors"
	"io"
	"net"
	"sync/atomic"
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/encoding/gzip"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/peer"
	"google.golang.org/grpc/status"
)

// paths are the ways a unary call can take.
var paths = map[string]struct {
	method string
	opts   []grpc.CallOption
	plain  bool
}{
	"inline":  {method: "Inline"},
	"worker":  {method: "Block"},
	"relayed": {method: "Block", opts: []grpc.CallOption{grpc.UseCompressor(gzip.Name)}},
	"off":     {method: "Inline", plain: true},
}

// Who calls is known on every path, whatever the client claims.
func TestConnTag(t *testing.T) {
	for name, p := range paths {
		t.Run(name, func(t *testing.T) {
			var tags, streams atomic.Value
			see := func(ctx context.Context, to *atomic.Value) {
				md, _ := metadata.FromIncomingContext(ctx)
				pr, _ := peer.FromContext(ctx)
				if len(md.Get(callerHeader)) != 0 || pr.Addr.Network() != "tcp" {
					t.Error(md, pr)
				}
				child, cancel := context.WithCancel(ctx)
				defer cancel()
				to.Store(ConnTag(child))
			}
			_, _, cc, _ := start(t, "tcp", func(o *Options) {
				o.Relayed = p.plain
				o.OnConn = func(nc net.Conn) (any, error) { return "caller at " + nc.RemoteAddr().String(), nil }
				o.Unary = append(o.Unary, func(ctx context.Context, req any, _ *grpc.UnaryServerInfo, h grpc.UnaryHandler) (any, error) {
					see(ctx, &tags)
					return h(ctx, req)
				})
				o.Stream = append(o.Stream, func(srv any, ss grpc.ServerStream, _ *grpc.StreamServerInfo, h grpc.StreamHandler) error {
					see(ss.Context(), &streams)
					return h(srv, ss)
				})
			})
			if _, err := unary(do(callerHeader, "1", callerHeader, "2"), cc, p.method, nil, p.opts...); err != nil {
				t.Fatal(err)
			}
			if tag, _ := tags.Load().(string); len(tag) < 20 || tag[:10] != "caller at " {
				t.Fatal(tag)
			}
			ss, err := cc.NewStream(do(callerHeader, "7"), &grpc.StreamDesc{ClientStreams: true, ServerStreams: true}, "/t.T/Echo")
			if err != nil {
				t.Fatal(err)
			}
			ss.CloseSend()
			if err := ss.RecvMsg(&msg{}); err != io.EOF {
				t.Fatal(err)
			}
			if streams.Load() != tags.Load() {
				t.Fatal(streams.Load(), tags.Load())
			}
		})
	}
}

// Interceptors run once for each call, in order, on every path.
func TestInterceptorsOnEveryPath(t *testing.T) {
	for name, p := range paths {
		t.Run(name, func(t *testing.T) {
			var order atomic.Value
			note := func(s string) grpc.UnaryServerInterceptor {
				return func(ctx context.Context, req any, _ *grpc.UnaryServerInfo, h grpc.UnaryHandler) (any, error) {
					was, _ := order.Load().(string)
					order.Store(was + s)
					if md, _ := metadata.FromIncomingContext(ctx); s == "b" && len(md.Get("stop")) > 0 {
						return nil, status.Error(codes.Unauthenticated, "no")
					}
					return h(ctx, req)
				}
			}
			_, _, cc, _ := start(t, "tcp", func(o *Options) {
				o.Relayed = p.plain
				o.Unary = []grpc.UnaryServerInterceptor{note("a"), note("b"), note("c")}
			})
			if _, err := unary(context.Background(), cc, p.method, []byte("x"), p.opts...); err != nil || order.Load() != "abc" {
				t.Fatal(err, order.Load())
			}
			if _, err := unary(do("stop", "1"), cc, p.method, nil, p.opts...); status.Code(err) != codes.Unauthenticated || order.Load() != "abcab" {
				t.Fatal(err, order.Load())
			}
		})
	}
}

// A connection that is not let in learns why on every path, health included.
func TestRefusedConnection(t *testing.T) {
	_, v, cc, _ := start(t, "tcp", func(o *Options) {
		o.OnConn = func(net.Conn) (any, error) { return nil, errors.New("another user") }
	})
	for name, p := range paths {
		_, err := unary(context.Background(), cc, p.method, nil, p.opts...)
		if status.Code(err) != codes.PermissionDenied || status.Convert(err).Message() != "another user" {
			t.Fatal(name, err)
		}
	}
	if _, err := healthpb.NewHealthClient(cc).Check(context.Background(), &healthpb.HealthCheckRequest{}); status.Code(err) != codes.PermissionDenied {
		t.Fatal(err)
	}
	if v.fast.Load() != 0 {
		t.Fatal("answered")
	}
}

// A handler's panic is INTERNAL on every path, and the process goes on.
func TestPanicOnEveryPath(t *testing.T) {
	for name, p := range paths {
		t.Run(name, func(t *testing.T) {
			var told atomic.Int64
			_, _, cc, _ := start(t, "tcp", func(o *Options) {
				o.Relayed = p.plain
				o.Panic = func(context.Context, any) { told.Add(1) }
			})
			if _, err := unary(do("do", "panic"), cc, p.method, nil, p.opts...); status.Code(err) != codes.Internal {
				t.Fatal(err)
			}
			if _, err := unary(do(), cc, p.method, nil, p.opts...); err != nil || told.Load() != 1 {
				t.Fatal(err, told.Load())
			}
		})
	}
}
