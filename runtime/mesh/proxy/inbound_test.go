package proxy_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"github.com/outrigger-mesh/outrigger/components"
	invocationv1 "github.com/outrigger-mesh/outrigger/proto/outrigger/invocation/v1"
	"github.com/outrigger-mesh/outrigger/runtime/api/fastgrpc"
	"github.com/outrigger-mesh/outrigger/runtime/mesh"
	"github.com/outrigger-mesh/outrigger/runtime/mesh/grpcproxy"
	"github.com/outrigger-mesh/outrigger/runtime/mesh/proxy"
)

// gate counts who is within.
type gate struct {
	admitted, left atomic.Int64
	refuse         atomic.Bool
}

func (g *gate) Admit(*mesh.Request) error {
	if g.refuse.Load() {
		return fmt.Errorf("%w: busy", components.ErrExhausted)
	}
	g.admitted.Add(1)
	return nil
}

func (g *gate) Leave() { g.left.Add(1) }

func (g *gate) empty(t *testing.T, calls int64) {
	t.Helper()
	eventually(t, func() error {
		if g.admitted.Load() != calls || g.left.Load() != calls {
			return fmt.Errorf("%d calls were let in and %d left, want %d", g.admitted.Load(), g.left.Load(), calls)
		}
		return nil
	})
}

// callee is an application called by Invoke, in the hands of a test.
type callee func(ctx context.Context, in *invocationv1.InvokeRequest, md metadata.MD) (*invocationv1.InvokeResponse, error)

func (c callee) Invoke(ctx context.Context, in *invocationv1.InvokeRequest, md metadata.MD) (*invocationv1.InvokeResponse, error) {
	return c(ctx, in, md)
}

// inbound is a sidecar's inbound side before the application at a port.
type inbound struct {
	gate    *gate
	monitor *monitor
	conn    *grpc.ClientConn
	health  healthpb.HealthClient
	invoke  invocationv1.InvocationClient
}

func newInbound(t *testing.T, port int, app proxy.Callee) *inbound {
	i := &inbound{gate: &gate{}, monitor: &monitor{}}
	server := fastgrpc.New(fastgrpc.Options{})
	in := &proxy.Inbound{Gate: i.gate, Monitor: i.monitor, App: components.Caller{Namespace: "shop", App: "stock"}, Port: func(service string) (int, bool) {
		return port, port != 0 && (service == "stock" || service == "prices")
	}}
	invocationv1.RegisterInvocationServer(server, &proxy.InvokeServer{Inbound: in, App: func(service string, _ *invocationv1.InvokeRequest) (proxy.Callee, bool) {
		_, ok := in.Port(service)
		return app, ok
	}})
	in.Bind(server.Relay, func(h *grpcproxy.Headers) (*grpcproxy.Upstream, error, bool) {
		if !strings.HasPrefix(h.Path(), "/outrigger.invocation.v1.Invocation/") {
			return nil, nil, false
		}
		up, err := server.Route(h)
		return up, err, true
	})
	t.Cleanup(server.Close) // after the relay's end
	i.conn, i.health = serveRelay(t, server.Relay)
	i.invoke = invocationv1.NewInvocationClient(i.conn)
	return i
}

func (i *inbound) call(ctx context.Context, what string) (origin string, err error) {
	var trailer metadata.MD
	err = i.conn.Invoke(ctx, "/shop.v1.Stock/Check", &healthpb.HealthCheckRequest{Service: what}, &healthpb.HealthCheckResponse{}, grpc.Trailer(&trailer))
	return strings.Join(trailer.Get(proxy.HeaderOrigin), ","), err
}

func TestCallsThatComeIn(t *testing.T) {
	a := startApp(t)
	i := newInbound(t, a.port(), nil)
	origin, err := i.call(within(t, 10*time.Second, toStock, "shop/stock", "outrigger-source", "shop/orders", "outrigger-hops", "2", "outrigger-token", "x", "traceparent", "mine"), "")
	if err != nil || origin != "app" { // whatever the application says
		t.Fatalf("%v from %q", err, origin)
	}
	md := <-a.seen
	if got := md.Get("outrigger-hops"); len(got) != 1 || got[0] != "2" || md.Get("traceparent")[0] != "changed" {
		t.Errorf("the application saw %v", md)
	}
	for name := range md {
		if strings.HasPrefix(name, "outrigger-") && name != proxy.HeaderHops {
			t.Errorf("the application saw %s", name)
		}
	}
	i.gate.empty(t, 1)
	if r := i.monitor.all(t, 1)[0]; r.Source != "shop/orders" || r.Code != 0 || r.Service.String() != "shop/stock" {
		t.Errorf("recorded %+v", r)
	}
}

func TestCallsThatAreNotLetIn(t *testing.T) {
	a := startApp(t)
	i := newInbound(t, a.port(), nil)
	for _, name := range []string{"shop/orders", "other/stock", "a/b/c"} {
		if origin, err := i.call(within(t, 10*time.Second, toStock, name), ""); status.Code(err) != codes.NotFound || origin != "sidecar" {
			t.Errorf("%s: %v from %q", name, err, origin)
		}
	}
	i.gate.refuse.Store(true)
	if origin, err := i.call(within(t, 10*time.Second, toStock, "shop/stock"), ""); status.Code(err) != codes.ResourceExhausted || origin != "sidecar" {
		t.Errorf("%v from %q", err, origin)
	}
	i.gate.empty(t, 0)
	i.monitor.all(t, 4)
}

// What is a sidecar's own does not reach the application, though it has such a method.
func TestOwnMethodsDoNotComeIn(t *testing.T) {
	i := newInbound(t, startApp(t).port(), callee(func(_ context.Context, in *invocationv1.InvokeRequest, _ metadata.MD) (*invocationv1.InvokeResponse, error) {
		t.Errorf("the application was called by %s", in.GetMethod())
		return &invocationv1.InvokeResponse{}, nil
	}))
	refused := func(what string, err error) {
		t.Helper()
		if status.Code(err) != codes.Unimplemented || !strings.Contains(fmt.Sprint(status.Convert(err).Details()), "UNKNOWN_METHOD") {
			t.Errorf("%s: %v", what, err)
		}
	}
	_, err := i.health.Check(within(t, 10*time.Second, toStock, "shop/stock"), &healthpb.HealthCheckRequest{})
	refused("a call", err)
	for _, method := range []string{"outrigger.cache.v1.Cache/Get", "/grpc.health.v1.Health/Check", "//dapr.X/Y"} {
		_, err := i.invoke.Invoke(within(t, 10*time.Second), &invocationv1.InvokeRequest{Service: "shop/stock", Method: method})
		refused("Invoke of "+method, err)
	}
	i.gate.empty(t, 0)
	i.monitor.all(t, 4)
}

// However a call ends, the gate hears of it once.
func TestGateIsLeftOnce(t *testing.T) {
	a := startApp(t)
	i := newInbound(t, a.port(), nil)
	if _, err := i.call(within(t, 10*time.Second, toStock, "shop/prices"), "fail"); status.Code(err) != codes.Aborted {
		t.Error(err)
	}
	i.gate.empty(t, 1)
	ctx, cancel := context.WithCancel(within(t, 20*time.Second, toStock, "shop/stock")) // reset by the client
	<-a.seen
	go func() { <-a.seen; cancel() }()
	if _, err := i.call(ctx, "wait"); status.Code(err) != codes.Canceled {
		t.Error(err)
	}
	i.gate.empty(t, 2)
	if _, err := i.call(within(t, 200*time.Millisecond, toStock, "shop/stock"), "wait"); status.Code(err) != codes.DeadlineExceeded {
		t.Error(err)
	}
	i.gate.empty(t, 3)
	if origin, err := i.call(within(t, 20*time.Second, toStock, "shop/stock"), "stop"); status.Code(err) != codes.Unavailable || origin != "sidecar" { // the application's connection is lost
		t.Errorf("%v from %q", err, origin)
	}
	i.gate.empty(t, 4)
	if origin, err := i.call(within(t, 20*time.Second, toStock, "shop/stock"), ""); status.Code(err) != codes.Unavailable || origin != "sidecar" { // and it has gone
		t.Errorf("%v from %q", err, origin)
	}
	i.gate.empty(t, 5)
	i.monitor.all(t, 5)
}

func TestGateIsLeftWhenThePeerGoes(t *testing.T) {
	a := startApp(t)
	i := newInbound(t, a.port(), nil)
	done := make(chan error, 1)
	go func() { _, err := i.call(within(t, 20*time.Second, toStock, "shop/stock"), "wait"); done <- err }()
	<-a.seen
	i.conn.Close()
	if err := <-done; err == nil {
		t.Error("it was answered")
	}
	i.gate.empty(t, 1)
	i.monitor.all(t, 1)
}

func TestInvokeThatComesIn(t *testing.T) {
	var saw metadata.MD
	i := newInbound(t, 1, callee(func(_ context.Context, in *invocationv1.InvokeRequest, md metadata.MD) (*invocationv1.InvokeResponse, error) {
		switch saw = md; in.GetMethod() {
		case "panic":
			panic("bug")
		case "away":
			return nil, fmt.Errorf("%w: connection refused", components.ErrUnavailable)
		case "fail":
			return nil, status.Error(codes.Aborted, "no")
		}
		return &invocationv1.InvokeResponse{Data: []byte("answer")}, nil
	}))
	for _, c := range []struct {
		service, method, origin string
		code                    codes.Code
	}{
		{"shop/stock", "ok", "app", codes.OK}, {"shop/stock", "fail", "app", codes.Aborted}, {"shop/stock", "away", "sidecar", codes.Unavailable},
		{"shop/stock", "panic", "", codes.Internal}, {"shop/orders", "ok", "sidecar", codes.NotFound},
	} {
		var trailer metadata.MD
		_, err := i.invoke.Invoke(within(t, 10*time.Second, "outrigger-hops", "2", "outrigger-source", "shop/orders", "traceparent", "mine", "baggage", "b=1"),
			&invocationv1.InvokeRequest{Service: c.service, Method: c.method}, grpc.Trailer(&trailer))
		if origin := strings.Join(trailer.Get(proxy.HeaderOrigin), ","); status.Code(err) != c.code || origin != c.origin {
			t.Errorf("%s of %s: %v from %q, want %v from %q", c.method, c.service, err, origin, c.code, c.origin)
		}
	}
	if want := (metadata.MD{"outrigger-hops": {"2"}, "traceparent": {"changed"}, "baggage": {"b=1"}}); fmt.Sprint(saw) != fmt.Sprint(want) {
		t.Errorf("the application saw %v, want %v", saw, want)
	}
	i.gate.empty(t, 4)
	for n, r := range i.monitor.all(t, 5) {
		want := []codes.Code{codes.OK, codes.Aborted, codes.Unavailable, codes.Internal, codes.NotFound}[n]
		upstream, attempts, flag := "app", 1, ""
		if want == codes.NotFound { // it was not let in
			upstream, attempts, flag = "", 0, "no-route"
		}
		if r.Code != int(want) || r.Upstream != upstream || r.Attempts != attempts || r.Flag != flag {
			t.Errorf("call %d was recorded with code %d to %q in %d attempts (%s), want %d to %q in %d (%s)",
				n, r.Code, r.Upstream, r.Attempts, r.Flag, want, upstream, attempts, flag)
		}
	}
}

// Invoke goes from the caller's API through both sidecars.
func TestInvokeFromEndToEnd(t *testing.T) {
	t.Log("feature: grpc, passes through two sidecars, unchanged")
	var calls atomic.Int64
	in := newInbound(t, 1, callee(func(_ context.Context, in *invocationv1.InvokeRequest, _ metadata.MD) (*invocationv1.InvokeResponse, error) {
		if calls.Add(1) < 3 {
			return nil, fmt.Errorf("%w: connection refused", components.ErrUnavailable)
		}
		return &invocationv1.InvokeResponse{Data: in.GetData()}, nil
	}))
	e := &engine{addresses: []string{in.conn.Target()[len("passthrough:///"):]}}
	invoker, err := proxy.NewInvoker(dialing(e, &monitor{}), 1<<20)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { invoker.Close(context.Background()) })
	ctx := metadata.NewIncomingContext(grpc.NewContextWithServerTransportStream(within(t, 20*time.Second), &trailers{}), metadata.MD{"traceparent": {"t"}})
	request := &invocationv1.InvokeRequest{Service: "stock", Method: "m", Data: []byte("d")}
	if _, err := invoker.Invoke(ctx, caller, request); status.Code(err) != codes.Unavailable || calls.Load() != 1 {
		t.Fatalf("tried %d times: %v", calls.Load(), err)
	}
	request.Idempotent = true
	if out, err := invoker.Invoke(ctx, caller, request); err != nil || string(out.GetData()) != "d" || calls.Load() != 3 {
		t.Fatalf("tried %d times: %v, %v", calls.Load(), out, err)
	}
	if _, err := invoker.Invoke(ctx, caller, &invocationv1.InvokeRequest{Service: "stock", Method: "outrigger.cache.v1.Cache/Get"}); !errors.Is(err, components.ErrUnsupported) {
		t.Errorf("a sidecar's own method: %v", err)
	}
	for _, bad := range []*invocationv1.InvokeRequest{{Service: "", Method: "m"}, {Service: "a/b/c", Method: "m"}, {Service: "stock"}} {
		if _, err := invoker.Invoke(ctx, caller, bad); !errors.Is(err, components.ErrInvalid) {
			t.Errorf("%v: %v", bad, err)
		}
	}
}

// What is under way when an Invoker is closed comes to its end, until the time for that is up; nothing new begins.
func TestInvokerLetsCallsEnd(t *testing.T) {
	arrived, release := make(chan struct{}, 1), make(chan struct{})
	in := newInbound(t, 1, callee(func(ctx context.Context, in *invocationv1.InvokeRequest, _ metadata.MD) (*invocationv1.InvokeResponse, error) {
		if in.GetMethod() == "quick" {
			return &invocationv1.InvokeResponse{}, nil
		}
		arrived <- struct{}{}
		select {
		case <-release:
			return &invocationv1.InvokeResponse{}, nil
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}))
	begin := func() (invoke func(method string) error, close func(context.Context) error) {
		invoker, err := proxy.NewInvoker(dialing(&engine{addresses: []string{in.conn.Target()[len("passthrough:///"):]}}, &monitor{}), 1<<20)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { invoker.Close(context.Background()) })
		ctx := grpc.NewContextWithServerTransportStream(within(t, 30*time.Second), &trailers{})
		return func(method string) error {
			_, err := invoker.Invoke(ctx, caller, &invocationv1.InvokeRequest{Service: "stock", Method: method})
			return err
		}, invoker.Close
	}
	call := func(invoke func(string) error) <-chan error {
		ended := make(chan error, 1)
		go func() { ended <- invoke("slow") }()
		<-arrived
		return ended
	}

	invoke, end := begin()
	underWay := call(invoke)
	over, cancel := context.WithCancel(t.Context())
	cancel()
	if err := end(over); !errors.Is(err, context.Canceled) {
		t.Errorf("closed at once: %v", err)
	}
	if err := <-underWay; err == nil {
		t.Error("it has ended well, though there was no time")
	}

	invoke, end = begin()
	underWay = call(invoke)
	closed := make(chan error, 1)
	go func() { closed <- end(within(t, 30*time.Second)) }()
	eventually(t, func() error {
		if err := invoke("quick"); status.Code(err) == codes.Unavailable {
			return nil
		}
		return errors.New("calls still begin")
	})
	close(release)
	if err := <-underWay; err != nil {
		t.Errorf("the call under way: %v", err)
	}
	if err := <-closed; err != nil {
		t.Error(err)
	}
}

// trailers is the stream that a handler's trailers go to.
type trailers struct{ md metadata.MD }

func (s *trailers) Method() string                  { return "/outrigger.invocation.v1.Invocation/Invoke" }
func (s *trailers) SetHeader(metadata.MD) error     { return nil }
func (s *trailers) SendHeader(metadata.MD) error    { return nil }
func (s *trailers) SetTrailer(md metadata.MD) error { s.md = metadata.Join(s.md, md); return nil }

// An application that is dead behind its sidecar, or does not serve this any more, has got nothing: a call that nobody calls safe to repeat
// goes to another instance, and arrives there once; unless it is too large to be kept.
func TestGRPCGoesElsewhereFromADeadApplication(t *testing.T) {
	t.Log("feature: grpc, a call that was sent to nobody goes to another instance")
	var dead int
	fmt.Sscanf(deadPort(t), "127.0.0.1:%d", &dead)
	a := startApp(t)
	good := newInbound(t, a.port(), nil).conn.Target()[len("passthrough:///"):]
	for what, port := range map[string]int{"dead": dead, "taken back": 0} {
		t.Run(what, func(t *testing.T) {
			first := newInbound(t, port, nil)
			o := newOutbound(t, first.conn.Target()[len("passthrough:///"):], good)
			call := func(size int) error {
				return o.conn.Invoke(within(t, 10*time.Second, toStock, "stock"), "/shop.v1.Stock/Check", &healthpb.HealthCheckRequest{Service: strings.Repeat("x", size)}, &healthpb.HealthCheckResponse{})
			}
			if err := call(10 << 10); err != nil || len(a.seen) != 1 {
				t.Fatalf("it arrived %d times: %v", len(a.seen), err)
			}
			<-a.seen
			o.monitor.all(t, 1)   // a call's record may come after its answer
			err := call(20 << 10) // too large, unless the answer came before that was known
			if arrived := len(a.seen); err == nil && arrived != 1 || err != nil && arrived != 0 {
				t.Fatalf("what is large arrived %d times: %v", arrived, err)
			}
			if err == nil {
				<-a.seen
			}
			if all := o.monitor.all(t, 2); all[0].Attempts != 2 || all[0].Upstream != good || (all[1].Attempts == 1) != (err != nil) {
				t.Errorf("%+v", all)
			}
		})
	}
}
