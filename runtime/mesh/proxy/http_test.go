package proxy_test

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/outrigger-mesh/outrigger/components"
	"github.com/outrigger-mesh/outrigger/runtime/mesh"
	"github.com/outrigger-mesh/outrigger/runtime/mesh/httpproxy"
	"github.com/outrigger-mesh/outrigger/runtime/mesh/proxy"
)

// webApp is an application of HTTP/1.1 that tells what it was sent.
func webApp(t *testing.T, h http.HandlerFunc) string {
	s := httptest.NewServer(h)
	t.Cleanup(s.Close)
	return s.Listener.Addr().String()
}

func serveHTTP1(t *testing.T, r *httpproxy.Relay, secure *proxy.Secure) string {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	d := &proxy.Dispatch{Logger: slog.New(slog.DiscardHandler), Secure: secure, Protocols: []proxy.Protocol{proxy.HTTPProtocol(r)}}
	done := make(chan error, 1)
	go func() { done <- d.Serve(ln) }()
	t.Cleanup(func() { ln.Close(); <-done; r.Close(); d.Close() })
	return ln.Addr().String()
}

// httpIn is the inbound side before an application.
func httpIn(t *testing.T, app string, gate *mesh.Gate, m *monitor) string {
	return httpInSecure(t, app, gate, m, nil)
}

func httpInSecure(t *testing.T, app string, gate *mesh.Gate, m *monitor, secure *proxy.Secure) string {
	_, p, _ := net.SplitHostPort(app)
	port := 0
	fmt.Sscan(p, &port)
	in := &proxy.HTTPInbound{Inbound: &proxy.Inbound{Gate: gate, Monitor: m, App: components.Caller{Namespace: "shop", App: "stock"},
		Port: func(s string) (int, bool) { return port, s == "stock" }}}
	r := &httpproxy.Relay{FromSidecars: true}
	in.Bind(r)
	return serveHTTP1(t, r, secure)
}

func httpOut(t *testing.T, e mesh.Engine, m *monitor, set ...func(*proxy.HTTPOutbound)) string {
	o := &proxy.HTTPOutbound{Engine: e, Monitor: m, Caller: caller, Dial: func(ctx context.Context, to *mesh.Instance) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, "tcp", to.Address)
	}}
	for _, f := range set {
		f(o)
	}
	r := &httpproxy.Relay{ToSidecars: true}
	o.Bind(r)
	return serveHTTP1(t, r, nil)
}

func ask(t *testing.T, addr, request string) (*http.Response, string) {
	t.Helper()
	nc, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	defer nc.Close()
	nc.SetDeadline(time.Now().Add(20 * time.Second))
	io.WriteString(nc, request)
	method, _, _ := strings.Cut(request, " ")
	rp, err := http.ReadResponse(bufio.NewReader(nc), &http.Request{Method: method})
	if err != nil {
		t.Fatal(err)
	}
	b, _ := io.ReadAll(rp.Body)
	return rp, string(b)
}

// A tunnel would have what comes in looked at by nobody.
func TestConnectDoesNotComeIn(t *testing.T) {
	app := webApp(t, func(http.ResponseWriter, *http.Request) { t.Error("it came in") })
	m := &monitor{}
	in := httpIn(t, app, &mesh.Gate{Concurrency: 9, MaxHops: 16}, m)
	rp, _ := ask(t, in, "CONNECT stock:1 HTTP/1.1\r\nHost: stock:1\r\n\r\n")
	if rp.StatusCode != http.StatusNotImplemented || rp.Header.Get("outrigger-reason") != "UNKNOWN_METHOD" {
		t.Errorf("%d %v", rp.StatusCode, rp.Header)
	}
	m.all(t, 1)
}

// Headers that only sidecars may say are taken out at both edges, and the trace passes the monitor of each.
func TestHTTPThroughTwoSidecars(t *testing.T) {
	t.Log("feature: http, passes through two sidecars, unchanged")
	t.Log("feature: http, headers of sidecars are taken out at both edges")
	seen := make(chan http.Header, 10)
	app := webApp(t, func(w http.ResponseWriter, r *http.Request) {
		seen <- r.Header
		w.Header().Set("Outrigger-Origin", "sidecar")
		w.Header().Set("Outrigger_Secret", "s")
		w.Header().Set("X-Host", r.Host)
		io.WriteString(w, "hello")
	})
	in, out := &monitor{}, &monitor{}
	e := &engine{addresses: []string{httpIn(t, app, &mesh.Gate{Concurrency: 9, MaxHops: 16}, in)}}
	addr := httpOut(t, e, out)
	for _, host := range []string{"stock", "stock.shop", "stock:7090", "127.0.0.1\r\nOutrigger-Service: stock"} {
		rp, body := ask(t, addr, "GET /a?secret=1 HTTP/1.1\r\nHost: "+host+"\r\nOutrigger-Source: forged\r\noutrigger_hops: 99\r\nOutrigger-Hops: 2\r\ntraceparent: mine\r\n\r\n")
		if rp.StatusCode != 200 || body != "hello" || rp.Header.Get("outrigger-origin") != "app" || rp.Header.Get("Outrigger_secret") != "" {
			t.Fatalf("%s: %d %s %v", host, rp.StatusCode, body, rp.Header)
		}
		h := <-seen
		if want, _, _ := strings.Cut(host, "\r"); rp.Header.Get("X-Host") != want {
			t.Errorf("the application sees the host %q", rp.Header.Get("X-Host"))
		}
		for name := range h {
			if strings.HasPrefix(strings.ToLower(strings.ReplaceAll(name, "_", "-")), "outrigger-") && name != "Outrigger-Hops" {
				t.Errorf("the application sees %s", name)
			}
		}
		if h.Get("outrigger-hops") != "3" || h.Get("traceparent") != "changed" {
			t.Errorf("%v", h)
		}
	}
	for _, m := range []*monitor{in, out} {
		for _, r := range m.all(t, 4) {
			if r.Protocol != "http" || r.Service.String() != "shop/stock" || r.Method != "GET /a" || r.Status != "200" || r.Code != 0 || r.Source != "shop/orders" ||
				r.Attempts != 1 || r.Received != 5 || r.Flag != "" {
				t.Errorf("%+v", r)
			}
		}
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	for _, r := range e.reports {
		if !strings.HasSuffix(r, " answered") {
			t.Error(r)
		}
	}
	for _, r := range e.requests { // where HTTP's applications register themselves is looked at by this
		if r.Service.Protocol != mesh.HTTP {
			t.Errorf("asked for %+v", r.Service)
		}
	}
}

func TestHTTPErrors(t *testing.T) {
	t.Log("feature: http, errors of the sidecar in the protocol's own form, with a reason")
	dead := deadPort(t)
	resets := rawServer(t, func(nc net.Conn) {
		nc.Read(make([]byte, 1000))
		nc.(*net.TCPConn).SetLinger(0)
	})
	hangs := rawServer(t, func(nc net.Conn) { io.Copy(io.Discard, nc) })
	garbage := rawServer(t, func(nc net.Conn) { nc.Read(make([]byte, 1000)); io.WriteString(nc, "hello?\r\n\r\n") })
	busy := &mesh.Gate{Concurrency: 0, MaxHops: 16}
	peer := httpIn(t, dead, &mesh.Gate{Concurrency: 9, MaxHops: 16}, &monitor{})
	gone := httpIn(t, dead, busy, &monitor{})
	for _, c := range []struct {
		name, request string
		e             *engine
		status        int
		reason        string
		origin        string
	}{
		{"no service", "GET / HTTP/1.1\r\nHost: 127.0.0.1:7090\r\n\r\n", &engine{}, 404, "SERVICE_UNNAMED", "sidecar"},
		{"no instance", "GET / HTTP/1.1\r\nHost: stock\r\n\r\n", &engine{refuse: components.WithReason(fmt.Errorf("%w: none", components.ErrUnavailable), mesh.ReasonNoInstance)}, 503, "NO_INSTANCE", "sidecar"},
		{"circle", "GET / HTTP/1.1\r\nHost: stock\r\n\r\n", &engine{refuse: components.WithReason(components.ErrPrecondition, mesh.ReasonTooManyHops)}, 508, "TOO_MANY_HOPS", "sidecar"},
		{"limited", "GET / HTTP/1.1\r\nHost: stock\r\n\r\n", &engine{refuse: components.ErrExhausted}, 429, "EXHAUSTED", "sidecar"},
		{"breaker", "GET / HTTP/1.1\r\nHost: stock\r\n\r\n", &engine{refuse: components.WithReason(components.ErrExhausted, mesh.ReasonBreaker)}, 429, "BREAKER_OPEN", "sidecar"},
		{"refused", "POST / HTTP/1.1\r\nHost: stock\r\n\r\n", &engine{addresses: []string{dead}}, 503, "CONNECT_FAILED", "sidecar"},
		{"reset", "POST / HTTP/1.1\r\nHost: stock\r\n\r\n", &engine{addresses: []string{resets}}, 502, "CONNECTION_LOST", "sidecar"},
		{"timeout", "POST / HTTP/1.1\r\nHost: stock\r\n\r\n", &engine{addresses: []string{hangs}, timeout: 200 * time.Millisecond}, 504, "TIMEOUT", "sidecar"},
		{"no HTTP", "POST / HTTP/1.1\r\nHost: stock\r\n\r\n", &engine{addresses: []string{garbage}}, 502, "MALFORMED", "sidecar"},
		{"its application is dead", "POST / HTTP/1.1\r\nHost: stock\r\n\r\n", &engine{addresses: []string{peer}}, 503, "CONNECT_FAILED", "peer"},
		{"its application is busy", "POST / HTTP/1.1\r\nHost: stock\r\n\r\n", &engine{addresses: []string{gone}}, 429, "APP_BUSY", "peer"},
	} {
		t.Run(c.name, func(t *testing.T) {
			m := &monitor{}
			addr := httpOut(t, c.e, m)
			rp, body := ask(t, addr, c.request)
			var told struct {
				Reason, Message string
				Metadata        map[string]string
			}
			if err := json.Unmarshal([]byte(body), &told); err != nil {
				t.Fatal(err, body)
			}
			if rp.StatusCode != c.status || rp.Header.Get("outrigger-reason") != c.reason || told.Reason != c.reason || told.Message == "" ||
				rp.Header.Get("outrigger-origin") != c.origin {
				t.Errorf("%d %v %s", rp.StatusCode, rp.Header, body)
			}
			if c.origin == "sidecar" && c.reason != "SERVICE_UNNAMED" && told.Metadata["service"] != "shop/stock" {
				t.Errorf("which service? %s", body)
			}
			if want := map[string]string{"refused": "unreachable", "reset": "failed", "timeout": "failed"}[c.name]; want != "" {
				eventually(t, func() error { // held against the instance
					c.e.mu.Lock()
					defer c.e.mu.Unlock()
					if n := len(c.e.reports); n == 0 || n != c.e.begun || !strings.HasSuffix(c.e.reports[n-1], " "+want) {
						return fmt.Errorf("%d attempts, reported %q, want %s", c.e.begun, c.e.reports, want)
					}
					return nil
				})
			}
			if r := m.all(t, 1)[0]; r.Status != fmt.Sprint(c.status) || r.Code == 0 || (r.Flag == mesh.FlagBreaker) != (c.name == "breaker") {
				t.Errorf("%+v", r)
			}
		})
	}
}

func rawServer(t *testing.T, serve func(net.Conn)) string {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { ln.Close() })
	go func() {
		for {
			nc, err := ln.Accept()
			if err != nil {
				return
			}
			go func() { defer nc.Close(); serve(nc) }()
		}
	}()
	return ln.Addr().String()
}

// An application that is dead behind its sidecar has got nothing: even a POST goes to another instance, and the dead one is reported.
func TestHTTPGoesElsewhereFromADeadApplication(t *testing.T) {
	t.Log("feature: http, a call that was sent to nobody goes to another instance")
	var calls atomic.Int32
	app := webApp(t, func(w http.ResponseWriter, r *http.Request) { calls.Add(1); io.Copy(w, r.Body) })
	gate := &mesh.Gate{Concurrency: 9, MaxHops: 16}
	refused := &monitor{}
	dead, good := httpIn(t, deadPort(t), gate, refused), httpIn(t, app, gate, &monitor{})
	const head = "POST / HTTP/1.1\r\nHost: stock\r\nContent-Length: 3\r\n"
	for i, parts := range [][]string{{head + "\r\nabc"}, {head + "\r\n", "abc"}, {head + "Expect: 100-continue\r\n\r\n", "abc"}} {
		e, m := &engine{addresses: []string{dead, good}}, &monitor{}
		nc, err := net.Dial("tcp", httpOut(t, e, m))
		if err != nil {
			t.Fatal(err)
		}
		defer nc.Close()
		nc.SetDeadline(time.Now().Add(20 * time.Second))
		io.WriteString(nc, parts[0])
		refused.all(t, i+1) // only then comes the body, if it is not there yet
		for _, p := range parts[1:] {
			io.WriteString(nc, p)
		}
		br := bufio.NewReader(nc)
		rp, err := http.ReadResponse(br, nil)
		if err == nil && rp.StatusCode == http.StatusContinue {
			rp, err = http.ReadResponse(br, nil)
		}
		if err != nil {
			t.Fatal(err)
		}
		if body, _ := io.ReadAll(rp.Body); rp.StatusCode != 200 || string(body) != "abc" || int(calls.Load()) != i+1 {
			t.Fatal(rp.StatusCode, string(body), calls.Load())
		}
		if r := m.all(t, 1)[0]; r.Attempts != 2 || r.Upstream != good || r.Flag != "" {
			t.Errorf("%+v", r)
		}
		e.reported(t, dead+" unreachable", good+" answered")
	}
}

// As an HTTP proxy: the host is a service, an instance's address that is looked up, or somebody else's, if that is allowed.
func TestHTTPAsAProxy(t *testing.T) {
	t.Log("feature: http, as an HTTP proxy, by a service or by the address of an instance")
	app := webApp(t, func(w http.ResponseWriter, r *http.Request) {
		fmt.Fprint(w, r.Host, " ", r.Header.Get("Via"), " ", r.Header.Get("Outrigger-Secret"))
	})
	e := &engine{addresses: []string{httpIn(t, app, &mesh.Gate{Concurrency: 9, MaxHops: 16}, &monitor{})}}
	lookup := func(o *proxy.HTTPOutbound) {
		o.ServiceAt = func(address string) (mesh.Service, bool) {
			return mesh.Service{Namespace: "shop", Name: "stock"}, address == "10.1.2.3:7080"
		}
	}
	addr := httpOut(t, e, &monitor{}, lookup)
	open := httpOut(t, e, &monitor{}, lookup, func(o *proxy.HTTPOutbound) { o.Passthrough = true })
	for _, url := range []string{"http://stock/x", "http://10.1.2.3:7080/x"} {
		rp, body := ask(t, addr, "GET "+url+" HTTP/1.1\r\nHost: other\r\n\r\n")
		if rp.StatusCode != 200 || rp.Header.Get("outrigger-origin") != "app" || strings.Contains(body, "Via") {
			t.Errorf("%s: %d %s", url, rp.StatusCode, body)
		}
	}
	elsewhere := "GET http://" + app + "/x HTTP/1.1\r\nHost: other\r\nOutrigger-Secret: s\r\n\r\n"
	if rp, body := ask(t, addr, elsewhere); rp.StatusCode != 404 || !strings.Contains(body, "passthrough") {
		t.Errorf("%d %s", rp.StatusCode, body)
	}
	if rp, body := ask(t, open, elsewhere); rp.StatusCode != 200 || body != app+" 1.1 outrigger-shop/orders " {
		t.Errorf("%d %q", rp.StatusCode, body)
	}
	if rp, body := ask(t, open, "GET http://"+open+"/x HTTP/1.1\r\nHost: other\r\n\r\n"); rp.StatusCode != 404 && rp.StatusCode != 508 {
		t.Errorf("a circle: %d %s", rp.StatusCode, body)
	}
	nc, err := net.Dial("tcp", open)
	if err != nil {
		t.Fatal(err)
	}
	defer nc.Close()
	nc.SetDeadline(time.Now().Add(20 * time.Second))
	fmt.Fprintf(nc, "CONNECT %s HTTP/1.1\r\nHost: %[1]s\r\n\r\nGET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n", app)
	b, _ := io.ReadAll(nc)
	if s := string(b); !strings.HasPrefix(s, "HTTP/1.1 200 OK\r\n\r\nHTTP/1.1 200 OK") {
		t.Errorf("%q", s)
	}
}

// Who may not call is told so, and nothing leaves.
func TestHTTPIsAdmitted(t *testing.T) {
	m := &monitor{}
	addr := httpOut(t, &engine{}, m, func(o *proxy.HTTPOutbound) {
		o.Admit = func(_ any, header func(string) string) error {
			if header("outrigger-token") == "t" {
				return nil
			}
			return fmt.Errorf("%w: no", components.ErrUnauthenticated)
		}
	})
	if rp, body := ask(t, addr, "GET / HTTP/1.1\r\nHost: stock\r\n\r\n"); rp.StatusCode != 401 {
		t.Errorf("%d %s", rp.StatusCode, body)
	}
	m.all(t, 1)
}

// The gate is left once for each request that it let in, however that ends.
func TestHTTPLeavesTheGate(t *testing.T) {
	block := make(chan struct{})
	app := webApp(t, func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/wait" {
			select {
			case <-block:
			case <-r.Context().Done():
			}
		}
	})
	gate := &mesh.Gate{Concurrency: 1, MaxHops: 16}
	m := &monitor{}
	addr := httpIn(t, app, gate, m)
	nc, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	io.WriteString(nc, "GET /wait HTTP/1.1\r\nHost: stock\r\n\r\n")
	eventually(t, func() error {
		if gate.Active() != 1 {
			return errors.New("not in")
		}
		return nil
	})
	if rp, _ := ask(t, addr, "GET / HTTP/1.1\r\nHost: stock\r\n\r\n"); rp.StatusCode != 429 || rp.Header.Get("Retry-After") == "" {
		t.Errorf("%d %v", rp.StatusCode, rp.Header)
	}
	nc.Close()
	m.all(t, 2)
	if gate.Active() != 0 {
		t.Error(gate.Active(), "are still in")
	}
	close(block)
	if rp, _ := ask(t, addr, "GET / HTTP/1.1\r\nHost: stock\r\nOutrigger-Service: other\r\n\r\n"); rp.StatusCode != 404 || rp.Header.Get("outrigger-reason") != "SERVICE_NOT_HERE" {
		t.Errorf("%d %v", rp.StatusCode, rp.Header)
	}
}

func TestHTTP1Match(t *testing.T) {
	t.Log("feature: http, told apart by its first bytes, on one port")
	for head, want := range map[string]proxy.Verdict{"": proxy.More, "G": proxy.More, "GET /": proxy.Yes, "PROPFIND /": proxy.Yes, "PRI * HT": proxy.No, "PRI": proxy.More,
		"get /": proxy.No, "\x16\x03": proxy.No, "\xda\xbb": proxy.No, " GET": proxy.No} {
		if got := proxy.HTTP1([]byte(head)); got != want {
			t.Errorf("%q: %v, want %v", head, got, want)
		}
	}
}
