package proxy_test

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/outrigger-mesh/outrigger/components"
	"github.com/outrigger-mesh/outrigger/runtime/mesh"
	"github.com/outrigger-mesh/outrigger/runtime/mesh/proxy"
	"github.com/outrigger-mesh/outrigger/runtime/mesh/rpcproxy"
	"github.com/outrigger-mesh/outrigger/runtime/mesh/rpcproxy/rpctest"
)

// listenRPC serves a relay on a port.
func listenRPC(t *testing.T, r *rpcproxy.Relay, d rpctest.Dialect, secure *proxy.Secure) string {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	dispatch := &proxy.Dispatch{Logger: slog.New(slog.DiscardHandler), Secure: secure, Protocols: proxy.RPCProtocols(r, map[string]rpcproxy.Codec{d.Name(): d})}
	var tasks sync.WaitGroup
	tasks.Go(func() { dispatch.Serve(ln) })
	t.Cleanup(func() {
		ln.Close()
		r.Close()
		dispatch.Close()
		tasks.Wait()
	})
	return ln.Addr().String()
}

// rpcBed is a client before an outbound side, whose engine sends to the inbound side before a server, or elsewhere.
type rpcBed struct {
	engine       *engine
	out, in      *monitor
	gate         *mesh.Gate
	server       *rpctest.Server
	client       *rpctest.Wire
	inboundPort  string
	outboundPort string
	named        string // the service, in a header
}

func newRPCBed(t *testing.T, d rpctest.Dialect, app string) *rpcBed {
	return newSecureRPCBed(t, d, app, nil, &proxy.Dialer{})
}

func newSecureRPCBed(t *testing.T, d rpctest.Dialect, app string, secure *proxy.Secure, dialer *proxy.Dialer) *rpcBed {
	b := &rpcBed{engine: &engine{}, out: &monitor{}, in: &monitor{}, gate: &mesh.Gate{Concurrency: 10, MaxHops: 3}, server: rpctest.Serve(t, d)}
	if app == "" {
		app = b.server.Addr()
	}
	_, text, _ := net.SplitHostPort(app)
	port, _ := strconv.Atoi(text)
	codecs := map[string]rpcproxy.Codec{d.Name(): d}
	in, out := &rpcproxy.Relay{}, &rpcproxy.Relay{}
	(&proxy.RPCInbound{Gate: b.gate, Monitor: b.in, App: components.Caller{Namespace: "shop", App: "stock"}, Codecs: codecs,
		Port: func(s mesh.Service) (int, bool) { return port, s.Name == "peer.Hello" }}).Bind(in)
	(&proxy.RPCOutbound{Engine: b.engine, Monitor: b.out, Caller: components.Caller{Namespace: "shop", App: "orders"}, Codecs: codecs,
		Dial: func(ctx context.Context, in *mesh.Instance) (net.Conn, error) { return dialer.Dial(ctx, in, d.Name()) }}).Bind(out)
	b.inboundPort, b.outboundPort = listenRPC(t, in, d, secure), listenRPC(t, out, d, nil)
	b.engine.addresses = []string{b.inboundPort}
	nc, err := net.Dial("tcp", b.outboundPort)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { nc.Close() })
	nc.SetDeadline(time.Now().Add(20 * time.Second))
	b.client = &rpctest.Wire{Conn: nc, Dialect: d}
	return b
}

func TestRPCThroughTwoSidecars(t *testing.T) {
	t.Log("feature: bolt dubbo, passes through two sidecars, unchanged")
	t.Log("feature: bolt dubbo, headers of sidecars are taken out at both edges")
	rpctest.Both(t, func(t *testing.T, d rpctest.Dialect) {
		b := newRPCBed(t, d, "")
		frame, err := d.AppendRequest(nil, d.Request(7, false, 5*time.Second, "echo", "body"), 7, rpcproxy.Edit{Set: []rpcproxy.Header{
			{Name: "outrigger-old", Value: "1"}, {Name: "x-set", Value: "kept"}, {Name: proxy.HeaderHops, Value: "2"}}})
		if err != nil {
			t.Fatal(err)
		}
		b.client.Write(frame)
		if f, err := b.client.Next(); err != nil || f.ID != 7 || !strings.Contains(d.Body(f.Bytes), "body") {
			t.Fatalf("answered %q, %v", f.Bytes, err)
		}
		if !slices.Equal(b.server.Texts, []string{"kept", "", ""}) {
			t.Errorf("the application saw the headers %q", b.server.Texts)
		}
		b.engine.reported(t, b.inboundPort+" answered")
		version := map[string]string{"bolt": "1.0", "dubbo": ""}[d.Name()]
		want := mesh.Service{Namespace: "shop", Name: "peer.Hello", Version: version, Protocol: d.Name()}
		if r := b.engine.requests[0]; r.Service != want || r.Method != "echo" || r.Hops != 2 || r.Timeout != 5*time.Second {
			t.Errorf("the engine was asked for %+v", r)
		}
		for side, m := range map[string]*monitor{"outbound": b.out, "inbound": b.in} {
			r := m.all(t, 1)[0]
			if r.Direction != side || r.Protocol != d.Name() || r.Service != want || r.Method != "echo" || r.Source != "shop/orders" || r.Code != 0 || r.Attempts != 1 || r.Flag != "" {
				t.Errorf("%s: %+v", side, r)
			}
		}
		if b.gate.Active() != 0 {
			t.Errorf("the gate has %d calls inside", b.gate.Active())
		}
	})
}

// A body of protobuf passes as it is, and so does the byte that says what it is.
func TestProtobufInBoltPassesUntouched(t *testing.T) {
	d := rpctest.Bolt
	request, response := d.Request, d.Response
	d.Request = func(id uint64, oneway bool, timeout time.Duration, method, body string) []byte {
		b := request(id, oneway, timeout, method, body)
		b[9] = 11 // protobuf
		return b
	}
	d.Response = func(of rpcproxy.Frame, body string) []byte {
		b := response(of, body)
		b[9] = of.Bytes[9]
		return b
	}
	body := make([]byte, 256)
	for i := range body {
		body[i] = byte(i)
	}
	f := newRPCBed(t, d, "").client.Call(t, 7, 5*time.Second, "echo", string(body))
	if f.Bytes[9] != 11 || d.Body(f.Bytes) != string(body) {
		t.Errorf("answered %q", f.Bytes)
	}
}

func TestRPCErrors(t *testing.T) {
	t.Log("feature: bolt dubbo, errors of the sidecar in the protocol's own form, with a reason")
	rpctest.Both(t, func(t *testing.T, d rpctest.Dialect) {
		for _, c := range []struct {
			name, method, app, text string
			code                    int
			flag, report            string
			set                     func(b *rpcBed)
		}{
			{"no instance", "echo", "", "service shop/peer.Hello has no instance", 14, "no-route", "", func(b *rpcBed) {
				b.engine.refuse = components.WithReason(fmt.Errorf("%w: service shop/peer.Hello has no instance", components.ErrUnavailable), mesh.ReasonNoInstance)
			}},
			{"breaker", "echo", "", "BREAKER_OPEN: ", 8, "breaker", "", func(b *rpcBed) {
				b.engine.refuse = components.WithReason(components.ErrExhausted, mesh.ReasonBreaker)
			}},
			{"refused", "echo", "", "CONNECT_FAILED: cannot connect to", 14, "connect-failed", "unreachable", func(b *rpcBed) { b.engine.addresses = []string{rpctest.DeadPort(t)} }},
			{"application not up", "echo", rpctest.DeadPort(t), "CONNECT_FAILED: cannot connect to", 14, "connect-failed", "unreachable", nil},
			{"connection lost", "drop", "", "CONNECTION_LOST: ", 14, "closed", "failed", nil},
			{"in a sidecar's name", "forge", "", "MALFORMED: ", 13, "protocol", "unknown", nil},
			{"timeout", "never", "", "TIMEOUT: shop/peer.Hello: deadline exceeded after", 4, "timeout", "failed", nil},
			{"circle", "echo", "", "TOO_MANY_HOPS: ", 9, "no-route", "unknown", func(b *rpcBed) { b.gate.MaxHops = 0 }},
			{"full", "echo", "", "APP_BUSY: ", 8, "no-route", "unknown", func(b *rpcBed) { b.gate.Concurrency = 0 }},
			{"another's service", "echo", "", "SERVICE_NOT_HERE: ", 5, "no-route", "unreachable", func(b *rpcBed) { b.named = "shop/other" }},
		} {
			t.Run(c.name, func(t *testing.T) {
				b := newRPCBed(t, d, c.app)
				if c.set != nil {
					c.set(b)
				}
				timeout := 10 * time.Second
				if c.method == "never" {
					timeout = 300 * time.Millisecond
				}
				frame := d.Request(5, false, timeout, c.method, "")
				if b.named != "" {
					frame, _ = d.AppendRequest(nil, frame, 5, rpcproxy.Edit{Set: []rpcproxy.Header{{Name: proxy.HeaderService, Value: b.named}}})
				}
				begun := time.Now()
				b.client.Write(frame)
				f, err := b.client.Next()
				if err != nil || f.Kind != rpcproxy.Response || f.ID != 5 || !strings.Contains(string(f.Bytes), c.text) || f.Peer != nil {
					t.Fatalf("answered %q, %v; want %q in it", f.Bytes, err, c.text)
				}
				if took := time.Since(begun); c.method != "never" && took > 100*time.Millisecond {
					t.Logf("answered after %v", took)
				}
				if r := b.out.all(t, 1)[0]; r.Code != c.code || r.Flag != c.flag {
					t.Errorf("outbound: %+v", r)
				}
				if c.report != "" {
					b.engine.mu.Lock()
					defer b.engine.mu.Unlock()
					if n := len(b.engine.reports); n != b.engine.begun || !strings.HasSuffix(b.engine.reports[n-1], c.report) {
						t.Errorf("%d attempts, reported %q", b.engine.begun, b.engine.reports)
					}
				}
			})
		}
	})
}

// An instance that has stopped to serve what it is called for says so, and nothing of the call was begun: another one gets it. If there is none, the
// application's own words are passed on.
func TestServiceThatIsGoneIsCalledElsewhere(t *testing.T) {
	t.Log("feature: bolt dubbo, a call that an application no longer serves goes to another instance")
	rpctest.Both(t, func(t *testing.T, d rpctest.Dialect) {
		b, gone := newRPCBed(t, d, ""), newRPCBed(t, d, "")
		gone.server.Gone = true
		for name, at := range map[string]string{"with a sidecar": gone.inboundPort, "without": gone.server.Addr()} {
			t.Run(name, func(t *testing.T) {
				b.engine.mu.Lock()
				b.engine.addresses, b.engine.direct, b.engine.begun, b.engine.reports = []string{at, b.inboundPort}, name == "without", 0, nil
				b.engine.mu.Unlock()
				if f := b.client.Call(t, 7, 5*time.Second, "echo", "body"); !strings.Contains(d.Body(f.Bytes), "body") {
					t.Errorf("answered %q", f.Bytes)
				}
				b.engine.reported(t, at+" unreachable", b.inboundPort+" answered")
			})
		}
		n := len(b.out.all(t, 2))
		b.engine.addresses, b.engine.direct = []string{gone.inboundPort}, false
		if f := b.client.Call(t, 8, 5*time.Second, "echo", ""); !strings.Contains(string(f.Bytes), "service: ") || !f.Gone {
			t.Errorf("answered %q", f.Bytes)
		}
		if r := b.out.all(t, n+1)[n]; r.Code != 5 || r.Attempts != 3 || r.Flag != "" {
			t.Errorf("%+v", r)
		}
	})
}

// A server of SOFARPC's that has stopped names its own address.
func TestServerThatHasStoppedIsLeft(t *testing.T) {
	d := rpctest.Bolt
	var addr string
	d.Unserved = func(of rpcproxy.Frame) []byte { return d.Thrown(of, "RPC-019990009: RPC server stopped: ["+addr+"]") }
	b, gone := newRPCBed(t, d, ""), newRPCBed(t, d, "")
	addr, gone.server.Gone = gone.server.Addr(), true
	b.engine.addresses, b.engine.direct = []string{addr, b.server.Addr()}, true
	if f := b.client.Call(t, 7, 5*time.Second, "echo", "body"); d.Body(f.Bytes) != "body" {
		t.Errorf("answered %q", f.Bytes)
	}
	b.engine.reported(t, addr+" unreachable", b.server.Addr()+" answered")
}

// By protobuf a service that throws what it was told of another one sends the same as a server that has no such service: it has begun, and is called once.
func TestServiceThatTellsOfAnotherIsCalledOnce(t *testing.T) {
	for name, said := range map[string]string{"a service": "RPC-020100010: RPC cannot find service: [peer.Inner:1.0]", "another version": "RPC-020100010: RPC cannot find service: [peer.Hello:1.0:blue]",
		"a server": "RPC-019990009: RPC server stopped: [10.0.0.1:12200]"} {
		t.Run(name, func(t *testing.T) {
			d := rpctest.Bolt
			d.Unserved = func(of rpcproxy.Frame) []byte { return d.Thrown(of, said) }
			b := newRPCBed(t, d, "")
			b.server.Gone = true
			b.engine.addresses = []string{b.inboundPort, b.server.Addr()}
			if f := b.client.Call(t, 7, 5*time.Second, "echo", ""); !strings.Contains(string(f.Bytes), said) {
				t.Errorf("answered %q", f.Bytes)
			}
			b.engine.reported(t, b.inboundPort+" answered")
			if r := b.out.all(t, 1)[0]; r.Code != 2 || r.Attempts != 1 {
				t.Errorf("%+v", r)
			}
		})
	}
}
