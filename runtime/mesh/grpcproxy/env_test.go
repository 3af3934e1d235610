package grpcproxy

import (
	"context"
	"fmt"
	"io"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/wrapperspb"
)

type msg = wrapperspb.BytesValue

// service is the server side of the tests: what a call does is asked for by metadata.
type service struct {
	cancelled, running, most atomic.Int64
	seen                     func(metadata.MD, context.Context)
	t                        testing.TB
}

func (v *service) stream(_ any, ss grpc.ServerStream) error {
	ctx := ss.Context()
	md, _ := metadata.FromIncomingContext(ctx)
	get := func(k string) string { return strings.Join(md.Get(k), ",") }
	if v.seen != nil {
		v.seen(md, ctx)
	}
	n := v.running.Add(1)
	defer v.running.Add(-1)
	for {
		m := v.most.Load()
		if n <= m || v.most.CompareAndSwap(m, n) {
			break
		}
	}
	ss.SetHeader(metadata.Pairs("h", get("q"), "added", get("x-added"), "peer-bin", get("raw-bin")))
	ss.SetTrailer(metadata.Pairs("t", "trailer-value", "t", "second"))
	switch get("do") {
	case "details":
		s, _ := status.New(codes.FailedPrecondition, "nicht möglich: 50 %").WithDetails(&errdetails.ErrorInfo{Reason: "WHY", Domain: "test"})
		return s.Err()
	case "hang":
		<-ctx.Done()
		v.cancelled.Add(1)
		return ctx.Err()
	case "early": // ends before the client has
		var m msg
		ss.RecvMsg(&m)
		return status.Error(codes.Aborted, "enough")
	case "flood":
		for range 1 << 20 {
			if err := ss.SendMsg(&msg{Value: make([]byte, 32<<10)}); err != nil {
				v.cancelled.Add(1)
				return err
			}
		}
		return nil
	case "slow":
		time.Sleep(20 * time.Millisecond)
	case "bigheader":
		ss.SetHeader(metadata.Pairs("big", strings.Repeat("x", 40<<10)))
	}
	for {
		var m msg
		if err := ss.RecvMsg(&m); err == io.EOF {
			return nil
		} else if err != nil {
			return err
		}
		if err := ss.SendMsg(&m); err != nil {
			return err
		}
	}
}

func (v *service) serve(ln net.Listener, opts ...grpc.ServerOption) *grpc.Server {
	opts = append(opts, grpc.MaxRecvMsgSize(1<<30), grpc.MaxSendMsgSize(1<<30), grpc.UnknownServiceHandler(v.stream))
	s := grpc.NewServer(opts...)
	go s.Serve(ln)
	return s
}

type env struct {
	t     testing.TB
	v     *service
	srv   *grpc.Server
	r     *Relay
	up    *Upstream
	addr  string
	cc    *grpc.ClientConn
	mu    sync.Mutex
	outs  []Outcome
	live  atomic.Int64
	saddr string
}

func listen(t testing.TB) net.Listener {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	return ln
}

func tcp(addr string) func(context.Context) (net.Conn, error) {
	return func(ctx context.Context) (net.Conn, error) { return (&net.Dialer{}).DialContext(ctx, "tcp", addr) }
}

func newEnv(t testing.TB, set func(*Relay), opts ...grpc.ServerOption) *env {
	e := &env{t: t, v: &service{t: t}}
	sln, ln := listen(t), listen(t)
	e.saddr, e.addr = sln.Addr().String(), ln.Addr().String()
	e.srv = e.v.serve(sln, opts...)
	e.r = &Relay{}
	if set != nil {
		set(e.r)
	}
	e.up = e.r.NewUpstream("srv", 1, tcp(e.saddr))
	if e.r.Route == nil {
		e.r.Route = func(h *Headers) (*Upstream, error) {
			if h.Get("refuse") != "" {
				return nil, &Error{Code: int(codes.PermissionDenied), Message: "refused: 100 %"}
			}
			h.Set("x-added", "by-relay")
			h.Del("drop-me")
			e.live.Add(1)
			return e.up, nil
		}
	}
	e.r.Done = func(o *Outcome) {
		e.mu.Lock()
		e.outs = append(e.outs, *o)
		e.mu.Unlock()
	}
	go e.r.Serve(ln)
	e.cc = client(t, e.addr)
	t.Cleanup(func() { e.cc.Close(); e.r.Close(); ln.Close(); e.srv.Stop() })
	return e
}

func client(t testing.TB, addr string, opts ...grpc.DialOption) *grpc.ClientConn {
	opts = append([]grpc.DialOption{grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(1<<30), grpc.MaxCallSendMsgSize(1<<30))}, opts...)
	cc, err := grpc.NewClient("passthrough:///"+addr, opts...)
	if err != nil {
		t.Fatal(err)
	}
	return cc
}

var desc = &grpc.StreamDesc{ServerStreams: true, ClientStreams: true}

func do(kv ...string) context.Context {
	return metadata.NewOutgoingContext(context.Background(), metadata.Pairs(kv...))
}

func unary(ctx context.Context, cc *grpc.ClientConn, b []byte, opts ...grpc.CallOption) ([]byte, error) {
	var out msg
	err := cc.Invoke(ctx, "/test.Echo/Unary", &msg{Value: b}, &out, opts...)
	return out.Value, err
}

func (e *env) outcome(ok func(Outcome) bool) {
	e.t.Helper()
	eventually(e.t, "outcome", func() bool {
		e.mu.Lock()
		defer e.mu.Unlock()
		for _, o := range e.outs {
			if ok(o) {
				return true
			}
		}
		return false
	})
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

// empty checks that no stream is left anywhere, and no byte held.
func (e *env) empty() {
	e.t.Helper()
	eventually(e.t, "no streams left", func() bool {
		e.r.mu.Lock()
		defer e.r.mu.Unlock()
		for c := range e.r.conns {
			c.mu.Lock()
			n := len(c.streams) + len(c.blocked)
			c.mu.Unlock()
			if n != 0 || c.held.Load() != 0 {
				return false
			}
		}
		return true
	})
}

func (e *env) dump() {
	e.r.mu.Lock()
	defer e.r.mu.Unlock()
	for c := range e.r.conns {
		c.mu.Lock()
		fmt.Printf("conn up=%v %v streams=%d out=%d writing=%v closed=%v draining=%v win=%d blocked=%d rp=%d rw=%d pingHeld=%v pinging=%v max=%d\n", c.up != nil, c.nc.RemoteAddr(), len(c.streams), len(c.out), c.writing, c.closed, c.draining, c.win, len(c.blocked), c.rp, c.rw, c.pingHeld, c.pinging, c.maxStreams)
		for id, s := range c.streams {
			fmt.Printf("   %d: %+v\n      %+v began=%v\n", id, s.h[0], s.h[1], s.began)
			break
		}
		c.mu.Unlock()
		if c.up != nil {
			fmt.Println("  up", c.up.Name, len(c.up.waiting), c.up.dialing, c.up.starting, len(c.up.list()))
		}
	}
}
