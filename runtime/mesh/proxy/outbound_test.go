package proxy_test

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"github.com/outrigger-mesh/outrigger/components"
	"github.com/outrigger-mesh/outrigger/runtime/mesh"
	"github.com/outrigger-mesh/outrigger/runtime/mesh/grpcproxy"
	"github.com/outrigger-mesh/outrigger/runtime/mesh/proxy"
)

// outbound is a sidecar's outbound side over an engine and a monitor of the test's.
type outbound struct {
	engine  *engine
	monitor *monitor
	conn    *grpc.ClientConn
	healthpb.HealthClient
}

func newOutbound(t *testing.T, addresses ...string) *outbound {
	o := &outbound{engine: &engine{addresses: addresses}, monitor: &monitor{}}
	r := &grpcproxy.Relay{}
	dialing(o.engine, o.monitor).Bind(r, nil)
	o.conn, o.HealthClient = serveRelay(t, r)
	return o
}

func dialing(e mesh.Engine, m *monitor) *proxy.Outbound {
	return &proxy.Outbound{Engine: e, Monitor: m, Caller: caller, Dial: func(ctx context.Context, in *mesh.Instance) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, "tcp", in.Address)
	}}
}

func (o *outbound) call(ctx context.Context, what string) (origin string, err error) {
	var trailer metadata.MD
	_, err = o.Check(ctx, &healthpb.HealthCheckRequest{Service: what}, grpc.Trailer(&trailer))
	if got := trailer.Get(proxy.HeaderOrigin); len(got) == 1 {
		origin = got[0]
	}
	return origin, err
}

const toStock = proxy.HeaderService

func TestAnsweredAttempts(t *testing.T) {
	a := startApp(t)
	o := newOutbound(t, a.address)
	if _, err := o.call(within(t, 10*time.Second, toStock, "stock"), ""); err != nil {
		t.Fatal(err)
	}
	if _, err := o.call(within(t, 10*time.Second, toStock, "stock"), "fail"); status.Code(err) != codes.Aborted {
		t.Fatal(err)
	}
	o.engine.reported(t, a.address+" answered", a.address+" answered") // an error is an answer too
	all := o.monitor.all(t, 2)
	if r := all[0]; r.Upstream != a.address || r.Attempts != 1 || r.Rule != "turns" || r.Service.String() != "shop/stock" || r.Method != "grpc.health.v1.Health/Check" || r.Code != 0 || r.Source != "shop/orders" {
		t.Errorf("recorded %+v", r)
	}
	if r := all[1]; r.Code != int(codes.Aborted) {
		t.Errorf("recorded %+v", r)
	}
}

func TestUnreachableInstanceIsBlamedAndAnotherTried(t *testing.T) {
	t.Log("feature: grpc, a call that was sent to nobody goes to another instance")
	a := startApp(t)
	dead := deadPort(t)
	o := newOutbound(t, dead, a.address)
	for range 5 { // the first waits for the connection, the others fail at once
		if _, err := o.call(within(t, 10*time.Second, toStock, "stock"), ""); err != nil {
			t.Fatal(err)
		}
	}
	var want []string
	for range 5 {
		want = append(want, dead+" unreachable", a.address+" answered")
	}
	o.engine.reported(t, want...)
	for _, r := range o.monitor.all(t, 5) {
		if r.Attempts != 2 || r.Upstream != a.address || r.Flag != "" {
			t.Errorf("recorded %+v", r)
		}
	}
}

func TestNoInstanceCanBeReached(t *testing.T) {
	dead := deadPort(t)
	o := newOutbound(t, dead)
	origin, err := o.call(within(t, 10*time.Second, toStock, "stock"), "")
	if status.Code(err) != codes.Unavailable || origin != "sidecar" {
		t.Fatalf("%v from %q", err, origin)
	}
	o.engine.reported(t, dead+" unreachable", dead+" unreachable", dead+" unreachable")
	if r := o.monitor.all(t, 1)[0]; r.Flag != grpcproxy.FlagConnectFailed || r.Attempts != 3 {
		t.Errorf("recorded %+v", r)
	}
}

func TestHowAttemptsEnd(t *testing.T) {
	for _, c := range []struct {
		name, what string
		patience   time.Duration
		want       string
		flag       string
	}{
		{"the client gives up", "wait", 300 * time.Millisecond, "", ""}, // by its deadline, which the relay knows too
		{"the instance breaks off", "stop", 10 * time.Second, "failed", grpcproxy.FlagClosed},
	} {
		t.Run(c.name, func(t *testing.T) {
			a := startApp(t)
			o := newOutbound(t, a.address)
			if _, err := o.call(within(t, c.patience, toStock, "stock"), c.what); err == nil {
				t.Fatal("it was answered")
			}
			r := o.monitor.all(t, 1)[0]
			if c.want != "" {
				o.engine.reported(t, a.address+" "+c.want)
				if r.Flag != c.flag {
					t.Errorf("recorded %+v", r)
				}
				return
			}
			eventually(t, func() error { // once, whoever was first
				o.engine.mu.Lock()
				defer o.engine.mu.Unlock()
				if len(o.engine.reports) != 1 {
					return fmt.Errorf("reported %q", o.engine.reports)
				}
				return nil
			})
		})
	}
}

func TestTimeoutIsHeldAgainstTheInstance(t *testing.T) {
	address := raw(t, func(*http2.Framer, uint32) {}) // takes calls and says nothing
	o := newOutbound(t, address)
	o.engine.timeout = 200 * time.Millisecond // the operator's: the client knows of none
	if _, err := o.call(within(t, 20*time.Second, toStock, "stock"), ""); status.Code(err) != codes.DeadlineExceeded {
		t.Fatal(err)
	}
	o.engine.reported(t, address+" failed")
	if r := o.monitor.all(t, 1)[0]; r.Flag != grpcproxy.FlagTimeout {
		t.Errorf("recorded %+v", r)
	}
}

// A call is answered before its client gives up, and the answer says what it was that did not come, and from where. An instance
// whose answer had begun is not to blame: some streams have no other end.
func TestDeadlineIsAnswered(t *testing.T) {
	t.Log("feature: grpc, a deadline or timeout is answered in time")
	mute := raw(t, func(*http2.Framer, uint32) {})
	endless := raw(t, func(fr *http2.Framer, stream uint32) {
		var block bytes.Buffer
		enc := hpack.NewEncoder(&block)
		enc.WriteField(hpack.HeaderField{Name: ":status", Value: "200"})
		enc.WriteField(hpack.HeaderField{Name: "content-type", Value: "application/grpc"})
		fr.WriteHeaders(http2.HeadersFrameParam{StreamID: stream, BlockFragment: block.Bytes(), EndHeaders: true})
	})
	for address, want := range map[string]struct{ outcome, says string }{
		mute:    {"failed", "the request was sent, no answer"},
		endless: {"answered", "whose answer has begun and not ended"},
	} {
		var o *outbound
		var origin string
		var err error
		for tries := 0; origin == "" && tries < 5; tries++ { // on a busy machine a client's own timer may be looked at before the answer
			o = newOutbound(t, address)
			origin, err = o.call(within(t, 2*time.Second, toStock, "stock"), "")
		}
		st := status.Convert(err)
		if st.Code() != codes.DeadlineExceeded || origin != "sidecar" || !strings.HasPrefix(st.Message(), "shop/stock: deadline exceeded after ") ||
			!strings.HasSuffix(st.Message(), "connected to "+address+", "+want.says) {
			t.Fatalf("%v from %q", err, origin)
		}
		info, ok := st.Details()[0].(*errdetails.ErrorInfo)
		if !ok || info.GetReason() != grpcproxy.ReasonTimeout || info.GetMetadata()["service"] != "shop/stock" || info.GetMetadata()["instance"] != address {
			t.Errorf("details %v", st.Details())
		}
		o.engine.reported(t, address+" "+want.outcome)
		if r := o.monitor.all(t, 1)[0]; r.Flag != grpcproxy.FlagTimeout || r.Code != int(codes.DeadlineExceeded) {
			t.Errorf("recorded %+v", r)
		}
	}
}

func TestCancelledCallTellsNothing(t *testing.T) {
	a := startApp(t)
	o := newOutbound(t, a.address)
	ctx, cancel := context.WithCancel(within(t, 20*time.Second, toStock, "stock"))
	go func() { <-a.seen; cancel() }()
	if _, err := o.call(ctx, "wait"); status.Code(err) != codes.Canceled {
		t.Fatal(err)
	}
	o.engine.reported(t, a.address+" unknown")
	if r := o.monitor.all(t, 1)[0]; r.Code != int(codes.Canceled) {
		t.Errorf("recorded %+v", r)
	}
}

func TestCancelledWhileParked(t *testing.T) {
	a := startApp(t)
	o := newOutbound(t, a.address)
	var resume atomic.Pointer[func()]
	o.engine.pending = &mesh.Pending{Wait: func(f func()) { resume.Store(&f) }}
	ctx, cancel := context.WithCancel(within(t, 20*time.Second, toStock, "stock"))
	done := make(chan error, 1)
	go func() { _, err := o.call(ctx, ""); done <- err }()
	eventually(t, func() error {
		if resume.Load() == nil {
			return fmt.Errorf("it does not wait")
		}
		return nil
	})
	cancel()
	if err := <-done; status.Code(err) != codes.Canceled {
		t.Fatal(err)
	}
	o.monitor.all(t, 1)
	o.engine.mu.Lock()
	o.engine.pending = nil
	o.engine.mu.Unlock()
	(*resume.Load())()
	if _, err := o.call(within(t, 10*time.Second, toStock, "stock"), ""); err != nil {
		t.Fatal(err)
	}
	o.engine.reported(t, a.address+" answered") // the second call's alone
	o.monitor.all(t, 2)
}

func TestParkedCallGoesOn(t *testing.T) {
	a := startApp(t)
	o := newOutbound(t, a.address)
	o.engine.pending = &mesh.Pending{Wait: func(f func()) {
		go func() {
			time.Sleep(20 * time.Millisecond)
			o.engine.mu.Lock()
			o.engine.pending = nil
			o.engine.mu.Unlock()
			f()
		}()
	}}
	if _, err := o.call(within(t, 10*time.Second, toStock, "stock"), ""); err != nil {
		t.Fatal(err)
	}
	o.engine.reported(t, a.address+" answered")
	if r := o.monitor.all(t, 1)[0]; r.Attempts != 1 {
		t.Errorf("recorded %+v", r)
	}
}

// raw is an HTTP/2 server that answers the headers of each request as a test says.
func raw(t *testing.T, answer func(fr *http2.Framer, stream uint32)) string {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var tasks sync.WaitGroup
	tasks.Go(func() {
		for {
			nc, err := ln.Accept()
			if err != nil {
				return
			}
			tasks.Go(func() { serveRaw(nc, answer) })
		}
	})
	t.Cleanup(func() { ln.Close(); tasks.Wait() })
	return ln.Addr().String()
}

func serveRaw(nc net.Conn, answer func(fr *http2.Framer, stream uint32)) {
	defer nc.Close()
	nc.SetDeadline(time.Now().Add(30 * time.Second))
	if _, err := io.ReadFull(nc, make([]byte, len(http2.ClientPreface))); err != nil {
		return
	}
	fr := http2.NewFramer(nc, nc)
	fr.WriteSettings()
	for {
		f, err := fr.ReadFrame()
		if err != nil {
			return
		}
		switch f := f.(type) {
		case *http2.SettingsFrame:
			if !f.IsAck() {
				fr.WriteSettingsAck()
			}
		case *http2.HeadersFrame:
			answer(fr, f.StreamID)
		}
	}
}

func TestInstanceThatSendsCallsAwayIsNotBlamed(t *testing.T) {
	address := raw(t, func(fr *http2.Framer, stream uint32) { fr.WriteRSTStream(stream, http2.ErrCodeRefusedStream) })
	o := newOutbound(t, address)
	if _, err := o.call(within(t, 10*time.Second, toStock, "stock"), ""); err == nil {
		t.Fatal("it was answered")
	}
	eventually(t, func() error { // the client tries again by itself
		o.engine.mu.Lock()
		defer o.engine.mu.Unlock()
		if len(o.engine.reports) == 0 || len(o.engine.reports) != o.engine.begun {
			return fmt.Errorf("%d attempts, reported %q", o.engine.begun, o.engine.reports)
		}
		return nil
	})
	for _, r := range o.engine.reports {
		if r != address+" unknown" {
			t.Fatalf("reported %q", r)
		}
	}
}

func TestRefusalsOfTheEngine(t *testing.T) {
	t.Log("feature: grpc, errors of the sidecar in the protocol's own form, with a reason")
	o := newOutbound(t, deadPort(t))
	o.engine.refuse = components.WithReason(fmt.Errorf("%w: a circle", components.ErrPrecondition), mesh.ReasonTooManyHops)
	origin, err := o.call(within(t, 10*time.Second, toStock, "stock"), "")
	if status.Code(err) != codes.FailedPrecondition || origin != "sidecar" {
		t.Fatalf("%v from %q", err, origin)
	}
	if _, err := o.call(within(t, 10*time.Second), ""); status.Code(err) != codes.InvalidArgument {
		t.Fatalf("a call that names no service: %v", err)
	}
	o.engine.reported(t)
	for _, r := range o.monitor.all(t, 2) {
		if r.Flag != grpcproxy.FlagNoRoute || r.Upstream != "" {
			t.Errorf("recorded %+v", r)
		}
	}
}

func TestWhatPeersSee(t *testing.T) {
	t.Log("feature: grpc, headers of sidecars are taken out at both edges")
	a := startApp(t)
	o := newOutbound(t, a.address)
	_, err := o.call(within(t, 10*time.Second, toStock, "stock", "outrigger-token", "secret", "outrigger-source", "shop/admin", "outrigger-connection", "1",
		"outrigger-hops", "3", "traceparent", "mine", "x-own", "kept"), "")
	if err != nil {
		t.Fatal(err)
	}
	md := <-a.seen
	for name, want := range map[string]string{"outrigger-service": "shop/stock", "outrigger-source": "shop/orders", "outrigger-hops": "4", "traceparent": "changed", "x-own": "kept"} {
		if got := md.Get(name); len(got) != 1 || got[0] != want {
			t.Errorf("%s is %q, want %q", name, got, want)
		}
	}
	for _, name := range []string{"outrigger-token", "outrigger-connection"} {
		if got := md.Get(name); got != nil {
			t.Errorf("%s went to the peer: %q", name, got)
		}
	}
	if r := o.engine.requests[0]; r.Hops != 3 || r.Source != caller || r.Timeout <= 0 {
		t.Errorf("the engine was asked %+v", r)
	}
}

// A peer's sidecar says of its own answers that they are its own; everything else of that kind is taken out.
func TestOriginOfAnswers(t *testing.T) {
	a := startApp(t)
	o := newOutbound(t, a.address)
	var header, trailer metadata.MD
	if _, err := o.Check(within(t, 10*time.Second, toStock, "stock"), &healthpb.HealthCheckRequest{}, grpc.Header(&header), grpc.Trailer(&trailer)); err != nil {
		t.Fatal(err)
	}
	if got := trailer.Get(proxy.HeaderOrigin); len(got) != 1 || got[0] != "peer" { // what spoke as a sidecar is the peer
		t.Errorf("origin is %q", got)
	}
	if header.Get(proxy.HeaderOrigin) != nil || trailer.Get("outrigger-secret") != nil || header.Get("x-header") == nil || trailer.Get("x-trailer") == nil {
		t.Errorf("header %v, trailer %v", header, trailer)
	}
	err := o.conn.Invoke(within(t, 10*time.Second, toStock, "stock"), "/no.Such/Method", &healthpb.HealthCheckRequest{}, &healthpb.HealthCheckResponse{}, grpc.Trailer(&trailer))
	if got := trailer.Get(proxy.HeaderOrigin); status.Code(err) != codes.Unimplemented || len(got) != 1 || got[0] != "app" { // an answer of trailers only
		t.Errorf("%v from %q", err, got)
	}
}

func TestParseService(t *testing.T) {
	for text, want := range map[string]string{
		"stock": "shop/stock", "other/stock": "other/stock", "peer.Hello:1.0": "shop/peer.Hello:1.0",
		"": "", "/stock": "", "other/": "", "a/b/c": "", "st ock": "", "st\nock": "", "st\x00ock": "", "\xff": "",
	} {
		s, ok := proxy.ParseService(text, "shop")
		if ok != (want != "") || ok && s.String() != want || !ok && s != (mesh.Service{}) {
			t.Errorf("%q is %v, %v; want %q", text, s, ok, want)
		}
	}
}

// What is a service's name is written as it was read.
func FuzzParseService(f *testing.F) {
	for _, text := range []string{"stock", "shop/stock", "a/b/c", "", "\x00", "peer.Hello:1.0"} {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		s, ok := proxy.ParseService(text, "shop")
		if !ok {
			return
		}
		if again, ok := proxy.ParseService(s.String(), "none"); !ok || again != s {
			t.Fatalf("%q became %v and then %v", text, s, again)
		}
	})
}
