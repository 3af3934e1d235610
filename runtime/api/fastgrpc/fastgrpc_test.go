package fastgrpc

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"os"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/health"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/peer"
	"google.golang.org/grpc/reflection"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/wrapperspb"
)

type msg = wrapperspb.BytesValue

type svc struct {
	fast, cancelled, late atomic.Int64
	hung                  atomic.Int64 // calls that came to wait for their end
}

func (v *svc) call(ctx context.Context, in *msg) (*msg, error) {
	if _, ok := grpc.ServerTransportStreamFromContext(ctx).(transport); ok {
		v.fast.Add(1)
	}
	md, _ := metadata.FromIncomingContext(ctx)
	get := func(k string) string { return strings.Join(md.Get(k), ",") }
	switch get("do") {
	case "details":
		s, _ := status.New(codes.FailedPrecondition, "nicht möglich: 50 %").WithDetails(&errdetails.ErrorInfo{Reason: "WHY", Domain: "test"})
		grpc.SetTrailer(ctx, metadata.Pairs("t", "1"))
		return nil, s.Err()
	case "md":
		p, _ := peer.FromContext(ctx)
		grpc.SetHeader(ctx, metadata.Pairs("h", get("q"), "h-bin", get("raw-bin"), "auth", get(":authority"), "peer", p.Addr.Network()))
		grpc.SetTrailer(ctx, metadata.Pairs("t", "a", "t", "b", "t-bin", "\x00\xff"))
	case "hang":
		v.hung.Add(1)
		<-ctx.Done()
		if errors.Is(ctx.Err(), context.DeadlineExceeded) {
			v.late.Add(1)
		} else {
			v.cancelled.Add(1)
		}
		return nil, status.FromContextError(ctx.Err()).Err()
	case "child": // a context made from it
		v.hung.Add(1)
		c, cancel := context.WithTimeout(ctx, time.Minute)
		defer cancel()
		<-c.Done()
		v.cancelled.Add(1)
		return nil, c.Err()
	case "big":
		return &msg{Value: bytes.Repeat([]byte{7}, 10<<20)}, nil
	case "panic":
		panic("as asked")
	case "slow":
		time.Sleep(30 * time.Millisecond)
	}
	return in, nil
}

func desc() *grpc.ServiceDesc {
	h := func(srv any, ctx context.Context, dec func(any) error, i grpc.UnaryServerInterceptor) (any, error) {
		in := new(msg)
		if err := dec(in); err != nil {
			return nil, err
		}
		if i != nil {
			return i(ctx, in, &grpc.UnaryServerInfo{Server: srv, FullMethod: "x"}, func(ctx context.Context, in any) (any, error) { return srv.(*svc).call(ctx, in.(*msg)) })
		}
		return srv.(*svc).call(ctx, in)
	}
	return &grpc.ServiceDesc{ServiceName: "t.T", HandlerType: (*any)(nil), Methods: []grpc.MethodDesc{{MethodName: "Inline", Handler: h}, {MethodName: "Block", Handler: h}},
		Streams: []grpc.StreamDesc{{StreamName: "Echo", ClientStreams: true, ServerStreams: true, Handler: func(_ any, ss grpc.ServerStream) error {
			for {
				m := new(msg)
				if err := ss.RecvMsg(m); err == io.EOF {
					return nil
				} else if err != nil {
					return err
				}
				if err := ss.SendMsg(m); err != nil {
					return err
				}
			}
		}}}}
}

func start(t testing.TB, network string, set func(*Options), opts ...grpc.DialOption) (*Server, *svc, *grpc.ClientConn, string) {
	return startWith(t, network, set, nil, opts...)
}

func startWith(t testing.TB, network string, set func(*Options), more func(*Server), opts ...grpc.DialOption) (*Server, *svc, *grpc.ClientConn, string) {
	addr := "127.0.0.1:0"
	if network == "unix" {
		d, err := os.MkdirTemp("", "api") // short, and without the marks of a test's name
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { os.RemoveAll(d) })
		addr = d + "/s"
	}
	ln, err := net.Listen(network, addr)
	if err != nil {
		t.Fatal(err)
	}
	o := Options{Inline: inline}
	if set != nil {
		set(&o)
	}
	s := New(o)
	if more != nil {
		more(s)
	}
	v := &svc{}
	s.RegisterService(desc(), v)
	healthpb.RegisterHealthServer(s, health.NewServer())
	reflection.Register(s.GRPC)
	go s.Serve(ln)
	target := "passthrough:///" + ln.Addr().String()
	if network == "unix" {
		target = "unix://" + addr
	}
	opts = append([]grpc.DialOption{grpc.WithTransportCredentials(insecure.NewCredentials()), grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(64 << 20))}, opts...)
	cc, err := grpc.NewClient(target, opts...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { cc.Close(); s.Close(); ln.Close() })
	return s, v, cc, ln.Addr().String()
}

func inline(m string) bool { return strings.HasSuffix(m, "Inline") }

func do(kv ...string) context.Context {
	return metadata.NewOutgoingContext(context.Background(), metadata.Pairs(kv...))
}

func unary(ctx context.Context, cc *grpc.ClientConn, m string, b []byte, opts ...grpc.CallOption) ([]byte, error) {
	var out msg
	err := cc.Invoke(ctx, "/t.T/"+m, &msg{Value: b}, &out, opts...)
	return out.Value, err
}

func eventually(t testing.TB, what string, ok func() bool) {
	t.Helper()
	for range 500 {
		if ok() {
			return
		}
		time.Sleep(10 * time.Millisecond)
	}
	t.Fatal("never: " + what)
}

func each2(t *testing.T, f func(t *testing.T, m string)) {
	for _, m := range []string{"Inline", "Block"} {
		t.Run(m, func(t *testing.T) { f(t, m) })
	}
}
