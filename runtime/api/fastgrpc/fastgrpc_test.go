package fastgrpc

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/outrigger-mesh/outrigger/runtime/mesh/grpcproxy"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/encoding/gzip"
	"google.golang.org/grpc/health"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/keepalive"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/peer"
	"google.golang.org/grpc/reflection"
	reflectionpb "google.golang.org/grpc/reflection/grpc_reflection_v1"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/wrapperspb"
)

type msg = wrapperspb.BytesValue

type svc struct {
	fast, cancelled, late atomic.Int64
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
		<-ctx.Done()
		if errors.Is(ctx.Err(), context.DeadlineExceeded) {
			v.late.Add(1)
		} else {
			v.cancelled.Add(1)
		}
		return nil, status.FromContextError(ctx.Err()).Err()
	case "child": // a context made from it
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

func TestUnary(t *testing.T) {
	for _, nw := range []string{"tcp", "unix"} {
		each2(t, func(t *testing.T, m string) {
			_, v, cc, _ := start(t, nw, nil)
			for _, n := range []int{0, 1, 100, 1024, 16<<10 - 20, 16 << 10, 17 << 10, 70 << 10, 300 << 10, 3 << 20} {
				b := bytes.Repeat([]byte{byte(n)}, n)
				for range 3 {
					if got, err := unary(context.Background(), cc, m, b); err != nil || !bytes.Equal(got, b) {
						t.Fatal(n, len(got), err)
					}
				}
			}
			if v.fast.Load() != 30 {
				t.Fatal("fast", v.fast.Load())
			}
		})
	}
}

func TestErrors(t *testing.T) {
	each2(t, func(t *testing.T, m string) {
		_, v, cc, _ := start(t, "tcp", nil)
		var tr metadata.MD
		_, err := unary(do("do", "details"), cc, m, nil, grpc.Trailer(&tr))
		s := status.Convert(err)
		if s.Code() != codes.FailedPrecondition || s.Message() != "nicht möglich: 50 %" || len(s.Details()) != 1 || s.Details()[0].(*errdetails.ErrorInfo).Reason != "WHY" || tr.Get("t")[0] != "1" {
			t.Fatal(err, s.Details(), tr)
		}
		if _, err = unary(do("do", "panic"), cc, m, nil); status.Code(err) != codes.Internal {
			t.Fatal(err)
		}
		if _, err = unary(context.Background(), cc, m, make([]byte, 5<<20)); status.Code(err) != codes.ResourceExhausted {
			t.Fatal(err)
		}
		if err = cc.Invoke(context.Background(), "/t.T/Nope", &msg{}, &msg{}); status.Code(err) != codes.Unimplemented {
			t.Fatal(err)
		}
		if err = cc.Invoke(context.Background(), "/no.Such/Nope", &msg{}, &msg{}); status.Code(err) != codes.Unimplemented {
			t.Fatal(err)
		}
		if err = cc.Invoke(context.Background(), "/t.T/"+m, &healthpb.HealthCheckRequest{Service: "\x08\x96\x01"}, &msg{}); err != nil && status.Code(err) != codes.Internal {
			t.Fatal(err)
		}
		if got, err := unary(do("do", "big"), cc, m, nil); err != nil || len(got) != 10<<20 {
			t.Fatal(len(got), err)
		}
		if v.fast.Load() == 0 {
			t.Fatal("not fast")
		}
	})
}

func TestMetadata(t *testing.T) {
	each2(t, func(t *testing.T, m string) {
		_, _, cc, _ := start(t, "tcp", nil)
		for range 5 {
			var h, tr metadata.MD
			if _, err := unary(do("do", "md", "q", "v1", "q", "v2", "raw-bin", "\x00\x01\xfe"), cc, m, nil, grpc.Header(&h), grpc.Trailer(&tr)); err != nil {
				t.Fatal(err)
			}
			if h.Get("h")[0] != "v1,v2" || h.Get("h-bin")[0] != "\x00\x01\xfe" || h.Get("auth")[0] == "" || h.Get("peer")[0] != "tcp" || strings.Join(tr.Get("t"), ",") != "a,b" || tr.Get("t-bin")[0] != "\x00\xff" {
				t.Fatal(h, tr)
			}
		}
	})
}

func TestDeadlineAndCancel(t *testing.T) {
	_, v, cc, _ := start(t, "tcp", nil)
	ctx, cancel := context.WithTimeout(do("do", "hang"), 50*time.Millisecond)
	_, err := unary(ctx, cc, "Block", nil)
	cancel()
	if status.Code(err) != codes.DeadlineExceeded {
		t.Fatal(err)
	}
	eventually(t, "deadline in the handler", func() bool { return v.late.Load()+v.cancelled.Load() == 1 })
	for i, d := range []string{"hang", "child"} {
		ctx, cancel = context.WithCancel(do("do", d))
		go func() { time.Sleep(30 * time.Millisecond); cancel() }()
		if _, err = unary(ctx, cc, "Block", nil); status.Code(err) != codes.Canceled {
			t.Fatal(err)
		}
		eventually(t, "cancelled "+d, func() bool { return v.late.Load()+v.cancelled.Load() == int64(i+2) })
	}
	go unary(do("do", "hang"), cc, "Block", nil) // the connection goes
	time.Sleep(50 * time.Millisecond)
	cc.Close()
	eventually(t, "lost", func() bool { return v.late.Load()+v.cancelled.Load() == 4 })
}

func TestCompression(t *testing.T) {
	each2(t, func(t *testing.T, m string) {
		_, v, cc, addr := start(t, "tcp", nil)
		b := bytes.Repeat([]byte("abc"), 1000)
		got, err := unary(context.Background(), cc, m, b, grpc.UseCompressor(gzip.Name))
		if err != nil || !bytes.Equal(got, b) || v.fast.Load() != 0 {
			t.Fatal(len(got), err)
		}
		// an encoding nobody knows, and a compressed message without one
		for enc, want := range map[string]string{"snoppy": "12", "": "13"} {
			st := raw(t, addr, "/t.T/"+m, enc, []byte{1, 0, 0, 0, 2, 8, 1}, true)
			if st["grpc-status"] != want {
				t.Fatal(enc, st)
			}
		}
		for body, want := range map[string]string{"": "13", "\x00\x00\x00\x00\x00": "0", "\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00": "13", "\x00\x00\x00\x00\x09x": "13", "\x00\xff\xff\xff\xff": "8", "\x00\x00\x00\x00\x02\x0a\x09": "13"} {
			if st := raw(t, addr, "/t.T/"+m, "", []byte(body), false); st["grpc-status"] != want {
				t.Fatalf("%q %v", body, st)
			}
			if st := raw(t, addr, "/t.T/"+m, "", []byte(body), true); st["grpc-status"] != want {
				t.Fatalf("split %q %v", body, st)
			}
		}
	})
}

// raw sends a request by frames, in pieces of one byte if split, and returns the last header list.
func raw(t *testing.T, addr, path, enc string, body []byte, split bool) map[string]string {
	nc, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	defer nc.Close()
	nc.SetDeadline(time.Now().Add(5 * time.Second))
	io.WriteString(nc, http2.ClientPreface)
	f := http2.NewFramer(nc, nc)
	f.WriteSettings()
	var hb bytes.Buffer
	e := hpack.NewEncoder(&hb)
	kv := []string{":method", "POST", ":scheme", "http", ":path", path, ":authority", "a", "content-type", "application/grpc", "te", "trailers"}
	if enc != "" {
		kv = append(kv, "grpc-encoding", enc)
	}
	for i := 0; i < len(kv); i += 2 {
		e.WriteField(hpack.HeaderField{Name: kv[i], Value: kv[i+1]})
	}
	f.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: hb.Bytes(), EndHeaders: true})
	if split {
		for i := range body {
			time.Sleep(time.Millisecond)
			f.WriteData(1, false, body[i:i+1])
		}
		f.WriteData(1, true, nil)
	} else {
		f.WriteData(1, true, body)
	}
	out := map[string]string{}
	d := hpack.NewDecoder(4096, func(h hpack.HeaderField) { out[h.Name] = h.Value })
	for {
		fr, err := f.ReadFrame()
		if err != nil {
			t.Fatal(err)
		}
		switch fr := fr.(type) {
		case *http2.HeadersFrame:
			d.Write(fr.HeaderBlockFragment())
			if fr.StreamEnded() {
				return out
			}
		case *http2.RSTStreamFrame:
			t.Fatal(fr)
		}
	}
}

func TestStreamsHealthReflection(t *testing.T) {
	_, _, cc, _ := start(t, "tcp", nil)
	ctx := context.Background()
	if r, err := healthpb.NewHealthClient(cc).Check(ctx, &healthpb.HealthCheckRequest{}); err != nil || r.Status != healthpb.HealthCheckResponse_SERVING {
		t.Fatal(err)
	}
	if w, err := healthpb.NewHealthClient(cc).Watch(ctx, &healthpb.HealthCheckRequest{}); err != nil {
		t.Fatal(err)
	} else if r, err := w.Recv(); err != nil || r.Status != healthpb.HealthCheckResponse_SERVING {
		t.Fatal(err)
	}
	rs, err := reflectionpb.NewServerReflectionClient(cc).ServerReflectionInfo(ctx)
	if err != nil {
		t.Fatal(err)
	}
	rs.Send(&reflectionpb.ServerReflectionRequest{MessageRequest: &reflectionpb.ServerReflectionRequest_ListServices{}})
	r, err := rs.Recv()
	if err != nil || len(r.GetListServicesResponse().GetService()) < 2 {
		t.Fatal(r, err)
	}
	ss, err := cc.NewStream(ctx, &grpc.StreamDesc{ClientStreams: true, ServerStreams: true}, "/t.T/Echo")
	if err != nil {
		t.Fatal(err)
	}
	for i := range 200 {
		if err := ss.SendMsg(&msg{Value: make([]byte, i*1000)}); err != nil {
			t.Fatal(err)
		}
		var m msg
		if err := ss.RecvMsg(&m); err != nil || len(m.Value) != i*1000 {
			t.Fatal(i, err)
		}
	}
	ss.CloseSend()
	if err := ss.RecvMsg(&msg{}); err != io.EOF {
		t.Fatal(err)
	}
}

func TestKeepaliveAndWindows(t *testing.T) {
	_, _, cc, _ := start(t, "tcp", nil, grpc.WithKeepaliveParams(keepalive.ClientParameters{Time: 10 * time.Second, Timeout: time.Second, PermitWithoutStream: true}),
		grpc.WithStaticStreamWindowSize(65535), grpc.WithStaticConnWindowSize(65535))
	var wg sync.WaitGroup
	for range 20 {
		wg.Go(func() {
			for i := range 30 {
				m := []string{"Inline", "Block"}[i%2]
				b := make([]byte, rand.IntN(200<<10))
				if got, err := unary(context.Background(), cc, m, b); err != nil || len(got) != len(b) {
					t.Error(len(b), len(got), err)
					return
				}
			}
		})
	}
	wg.Wait()
}

func TestStorm(t *testing.T) {
	_, v, cc, _ := startWith(t, "tcp", nil, func(s *Server) { s.Relay.MaxWorkers = 8 })
	var wg sync.WaitGroup
	var n atomic.Int64
	for w := range 32 {
		wg.Go(func() {
			for i := range 150 {
				what := []string{"", "md", "details", "slow"}[(i+w)%4]
				m := []string{"Inline", "Block"}[rand.IntN(2)]
				if what == "slow" { // inline it would hold up the connection
					m = "Block"
				}
				ctx, cancel := context.WithTimeout(do("do", what, "raw-bin", "x", "id", fmt.Sprint(i)), time.Duration(1+rand.IntN(200))*time.Millisecond)
				b := []byte(fmt.Sprint(w, " ", i))
				got, err := unary(ctx, cc, m, b)
				switch status.Code(err) {
				case codes.OK:
					n.Add(1)
					if !bytes.Equal(got, b) {
						t.Errorf("%q %q", got, b)
					}
				case codes.FailedPrecondition, codes.DeadlineExceeded:
				default:
					t.Error(err)
				}
				cancel()
			}
		})
	}
	wg.Wait()
	if n.Load() < 500 || v.fast.Load() < 1000 {
		t.Fatal(n.Load(), v.fast.Load())
	}
}

func TestShutdown(t *testing.T) {
	s, _, cc, _ := start(t, "tcp", nil)
	done := make(chan error, 10)
	for range 10 {
		go func() { _, err := unary(do("do", "slow"), cc, "Block", []byte("x")); done <- err }()
	}
	time.Sleep(15 * time.Millisecond)
	ctx, cancel := context.WithTimeout(context.Background(), 3*time.Second)
	defer cancel()
	if err := s.Shutdown(ctx); err != nil {
		t.Fatal(err)
	}
	for range 10 {
		if err := <-done; err != nil {
			t.Fatal(err)
		}
	}
}

func TestInterceptor(t *testing.T) {
	var n atomic.Int64
	_, _, cc, _ := start(t, "tcp", func(o *Options) {
		o.Unary = append(o.Unary, func(ctx context.Context, req any, _ *grpc.UnaryServerInfo, h grpc.UnaryHandler) (any, error) {
			n.Add(1)
			if md, _ := metadata.FromIncomingContext(ctx); len(md.Get("token")) == 0 {
				return nil, status.Error(codes.Unauthenticated, "no token")
			}
			return h(ctx, req)
		})
	})
	if _, err := unary(context.Background(), cc, "Inline", nil); status.Code(err) != codes.Unauthenticated {
		t.Fatal(err)
	}
	if _, err := unary(do("token", "x"), cc, "Block", nil); err != nil || n.Load() != 2 {
		t.Fatal(err)
	}
}

func TestWouldBlock(t *testing.T) {
	var fast, slow atomic.Int64
	_, _, cc, addr := startWith(t, "tcp", nil, func(s *Server) {
		s.Relay.Unary("/t.T/Try", grpcproxy.Method{Handler: func(ctx context.Context, req, resp []byte) ([]byte, *grpcproxy.Status) {
			if fast.Add(1); len(req) > 10 {
				return append(resp, "junk"...), grpcproxy.WouldBlock
			}
			return append(resp, req...), nil
		}, Slow: func(ctx context.Context, req, resp []byte) ([]byte, *grpcproxy.Status) {
			slow.Add(1)
			time.Sleep(time.Millisecond)
			return append(resp, req...), nil
		}})
	})
	var wg sync.WaitGroup
	for w := range 8 {
		wg.Go(func() {
			for i := range 50 {
				b := bytes.Repeat([]byte{byte(w)}, []int{1, 1000, 20000}[i%3])
				if got, err := unary(context.Background(), cc, "Try", b); err != nil || !bytes.Equal(got, b) {
					t.Error(len(b), len(got), err)
				}
			}
		})
	}
	wg.Wait()
	if fast.Load() != 400 || slow.Load() != 8*33 {
		t.Fatal(fast.Load(), slow.Load())
	}
	if st := raw(t, addr, "/t.T/Try", "", append([]byte{0, 0, 0, 0, 20}, make([]byte, 20)...), true); st["grpc-status"] != "0" {
		t.Fatal(st)
	}
}

// TestRotate replaces the server under load again and again: no call may fail.
func TestRotate(t *testing.T) {
	var cur atomic.Pointer[Server]
	next := func() *Server {
		s := New(Options{Inline: inline})
		s.RegisterService(desc(), &svc{})
		return s
	}
	cur.Store(next())
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	go func() {
		for {
			nc, err := ln.Accept()
			if err != nil {
				return
			}
			go cur.Load().ServeConn(nc)
		}
	}()
	cc, err := grpc.NewClient("passthrough:///"+ln.Addr().String(), grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	defer cc.Close()
	var stop atomic.Bool
	var wg sync.WaitGroup
	var n atomic.Int64
	for w := range 12 {
		wg.Go(func() {
			for i := 0; !stop.Load(); i++ {
				if _, err := unary(context.Background(), cc, []string{"Inline", "Block"}[(i+w)%2], []byte("x")); err != nil {
					t.Error(err)
					return
				}
				n.Add(1)
			}
		})
	}
	for range 100 {
		time.Sleep(20 * time.Millisecond)
		old := cur.Swap(next())
		ctx, cancel := context.WithTimeout(context.Background(), 3*time.Second)
		if err := old.Shutdown(ctx); err != nil {
			t.Error(err)
		}
		cancel()
	}
	stop.Store(true)
	wg.Wait()
	cc.Close()
	cur.Load().Close()
	t.Log(n.Load(), "calls")
}
