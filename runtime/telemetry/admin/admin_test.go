package admin_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/outrigger-mesh/outrigger/runtime/telemetry/admin"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// sidecar is what the server under test tells of.
type sidecar struct {
	ready     atomic.Bool
	level     atomic.Value
	reloadErr error
	drained   atomic.Int32
	refuse    error
}

func (s *sidecar) options() admin.Options {
	s.level.Store("info")
	return admin.Options{
		Ready: func() (bool, string) {
			return s.ready.Load(), map[bool]string{false: "inbound is draining", true: "cache a is failing"}[s.ready.Load()]
		},
		ReadyOutbound: func() (bool, string) { return !s.ready.Load(), "a required component is failing" },
		Info: func() admin.Info {
			return admin.Info{Version: "1.2.3", App: "orders", Ports: map[string]int{"grpc": 7070}, Advertise: "10.0.0.1:7080",
				Config:     admin.Config{Generation: 2, LastError: "f.yaml:1:1: no"},
				Components: []admin.Component{{Name: "sessions", Capability: "cache", Driver: "redis", State: "failing", Error: "refused"}},
				Offers:     []admin.Offer{{Name: "orders", Port: 8080, Error: "the port does not answer"}},
				Services:   []admin.Service{{Name: "stock", Instances: 3}}}
		},
		Metrics: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, "some_metric 1\n") }),
		Pprof:   true,
		Level:   func() string { return s.level.Load().(string) },
		SetLevel: func(level string) error {
			if level == "loud" {
				return errors.New("not a level")
			}
			s.level.Store(level)
			return nil
		},
		Reload: func(context.Context) error { return s.reloadErr },
		Drain:  func() { s.drained.Add(1) },
		Bundle: func(w io.Writer) error { _, err := io.WriteString(w, "all of it"); return err },
		Admit:  func(net.Conn) error { return s.refuse },
		Logger: slog.New(slog.DiscardHandler),
	}
}

// doors are clients of the three listeners.
type doors struct {
	tcp, probes, unix func(method, path, body string, header ...string) (int, string)
}

func serve(t *testing.T, o admin.Options) doors {
	t.Helper()
	s := admin.New(o)
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
		defer cancel()
		if err := s.Close(ctx); err != nil {
			t.Error(err)
		}
	})
	door := func(network, address string, serve func(net.Listener)) func(string, string, string, ...string) (int, string) {
		l, err := net.Listen(network, address)
		if err != nil {
			t.Fatal(err)
		}
		serve(l)
		return client(t, network, l.Addr().String())
	}
	return doors{door("tcp", "127.0.0.1:0", s.ServeTCP), door("tcp", "127.0.0.1:0", s.ServeProbes),
		door("unix", filepath.Join(t.TempDir(), "a.sock"), s.ServeUnix)}
}

func client(t *testing.T, network, address string) func(string, string, string, ...string) (int, string) {
	transport := &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, network, address)
	}}
	t.Cleanup(transport.CloseIdleConnections)
	return func(method, path, body string, header ...string) (int, string) {
		t.Helper()
		r, err := http.NewRequestWithContext(t.Context(), method, "http://localhost"+path, strings.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		for i := 0; i+1 < len(header); i += 2 {
			if header[i] == "Host" {
				r.Host = header[i+1]
			} else {
				r.Header.Set(header[i], header[i+1])
			}
		}
		answer, err := transport.RoundTrip(r)
		if err != nil {
			t.Fatal(err)
		}
		defer answer.Body.Close()
		text, err := io.ReadAll(answer.Body)
		if err != nil {
			t.Fatal(err)
		}
		return answer.StatusCode, string(text)
	}
}

func TestProbes(t *testing.T) {
	var s sidecar
	d := serve(t, s.options())
	for name, get := range map[string]func(string, string, string, ...string) (int, string){"tcp": d.tcp, "probes": d.probes, "unix": d.unix} {
		for _, ready := range []bool{false, true} {
			s.ready.Store(ready)
			status, text := get("GET", "/readyz", "")
			if ready && (status != 200 || text != "ready, but cache a is failing\n") || !ready && (status != 503 || text != "not ready: inbound is draining\n") {
				t.Errorf("%s: ready %v answers %d %q", name, ready, status, text)
			}
			if status, text := get("GET", "/readyz/outbound", ""); (status == 200) == ready {
				t.Errorf("%s: outbound answers %d %q", name, status, text)
			}
			if status, _ := get("GET", "/healthz", ""); status != 200 {
				t.Errorf("%s: healthz answers %d", name, status)
			}
		}
		if status, text := get("GET", "/metrics", ""); status != 200 || text != "some_metric 1\n" {
			t.Errorf("%s: metrics answer %d %q", name, status, text)
		}
	}
}

func TestInfo(t *testing.T) {
	var s sidecar
	status, text := serve(t, s.options()).tcp("GET", "/info", "")
	var got, want any
	if err := json.Unmarshal([]byte(text), &got); err != nil || status != 200 {
		t.Fatalf("%d, %v: %s", status, err, text)
	}
	json.Unmarshal([]byte(`{"version": "1.2.3", "app": "orders", "ports": {"grpc": 7070}, "advertise": "10.0.0.1:7080",
		"config": {"generation": 2, "last_error": "f.yaml:1:1: no"},
		"components": [{"name": "sessions", "capability": "cache", "driver": "redis", "state": "failing", "error": "refused"}],
		"offers": [{"name": "orders", "port": 8080, "announced": false, "error": "the port does not answer"}], "services": [{"name": "stock", "instances": 3}]}`), &want)
	a, _ := json.Marshal(got)
	b, _ := json.Marshal(want)
	if string(a) != string(b) {
		t.Errorf("got  %s\nwant %s", a, b)
	}
}

func TestEmptyInfoHasNoNull(t *testing.T) {
	var s sidecar
	o := s.options()
	o.Info = func() admin.Info { return admin.Info{} }
	if _, text := serve(t, o).tcp("GET", "/info", ""); strings.Contains(text, "null") {
		t.Errorf("got %s", text)
	}
}

// TestWhoMayDoWhat holds which door answers what.
func TestWhoMayDoWhat(t *testing.T) {
	var s sidecar
	d := serve(t, s.options())
	for _, tc := range []struct {
		method, path      string
		tcp, probes, unix int
	}{
		{"GET", "/", 200, 404, 200},
		{"GET", "/info", 200, 404, 200},
		{"GET", "/log/level", 200, 404, 200},
		{"GET", "/debug/pprof/", 200, 404, 200},
		{"GET", "/debug/pprof/cmdline", 404, 404, 404},
		{"GET", "/debug/pprof/goroutine", 200, 404, 200},
		{"PUT", "/log/level", 403, 404, 200},
		{"POST", "/reload", 403, 404, 200},
		{"POST", "/drain", 403, 404, 202},
		{"POST", "/metrics", 405, 405, 405},
		{"GET", "/elsewhere", 404, 404, 404},
	} {
		for name, door := range map[string]struct {
			do   func(string, string, string, ...string) (int, string)
			want int
		}{"tcp": {d.tcp, tc.tcp}, "probes": {d.probes, tc.probes}, "unix": {d.unix, tc.unix}} {
			if status, text := door.do(tc.method, tc.path, "debug"); status != door.want {
				t.Errorf("%s: %s %s answers %d, expected %d: %.100s", name, tc.method, tc.path, status, door.want, text)
			}
		}
	}
	if s.drained.Load() != 1 || s.level.Load() != "debug" {
		t.Errorf("drained %d times, level %v", s.drained.Load(), s.level.Load())
	}
}

func TestPprofOnlyWhenSwitchedOn(t *testing.T) {
	var s sidecar
	o := s.options()
	o.Pprof = false
	d := serve(t, o)
	for _, path := range []string{"/debug/pprof/", "/debug/pprof/heap", "/debug/pprof/profile"} {
		if status, _ := d.unix("GET", path, ""); status != 404 {
			t.Errorf("%s answers %d", path, status)
		}
	}
}

func TestWebPagesAreRefused(t *testing.T) {
	var s sidecar
	s.ready.Store(true)
	d := serve(t, s.options())
	for name, header := range map[string][]string{
		"a name that leads here": {"Host", "evil.example:7072"},
		"a page of another site": {"Origin", "https://evil.example"},
	} {
		if status, text := d.tcp("GET", "/info", "", header...); status != 403 {
			t.Errorf("%s: answers %d %s", name, status, text)
		}
	}
	if status, _ := d.probes("GET", "/readyz", "", "Host", "10.1.2.3:7073"); status != 200 {
		t.Error("a probe by the pod's address is refused")
	}
}

// everywhere is a listener that says it is bound to all addresses.
type everywhere struct{ net.Listener }

func (everywhere) Addr() net.Addr { return &net.TCPAddr{IP: net.IPv4zero} }

func TestOtherAddressesGetProbesOnly(t *testing.T) {
	var s sidecar
	server := admin.New(s.options())
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	server.ServeTCP(everywhere{l})
	get := client(t, "tcp", l.Addr().String())
	if status, _ := get("GET", "/healthz", ""); status != 200 {
		t.Errorf("healthz answers %d", status)
	}
	if status, _ := get("GET", "/info", ""); status != 404 {
		t.Errorf("info answers %d", status)
	}
	if err := server.Close(t.Context()); err != nil {
		t.Error(err)
	}
}

func TestPeerIsChecked(t *testing.T) {
	var s sidecar
	s.refuse = errors.New("this socket is not for user 1001")
	d := serve(t, s.options())
	for _, request := range [][2]string{{"POST", "/drain"}, {"PUT", "/log/level"}, {"POST", "/reload"}, {"GET", "/info"}} {
		if status, text := d.unix(request[0], request[1], "debug"); status != 403 || !strings.Contains(text, "user 1001") {
			t.Errorf("%v answers %d %s", request, status, text)
		}
	}
	o := s.options()
	o.Admit = nil
	if status, _ := serve(t, o).unix("POST", "/drain", ""); status != 403 {
		t.Errorf("without a check of peers, drain answers %d", status)
	}
	if s.drained.Load() != 0 || s.level.Load() != "info" {
		t.Error("a peer that was refused has changed something")
	}
}

func TestFailedChanges(t *testing.T) {
	var s sidecar
	s.reloadErr = errors.New("f.yaml:3:1: unknown field\nf.yaml:4:1: not a duration")
	d := serve(t, s.options())
	if status, text := d.unix("POST", "/reload", ""); status != 422 || text != s.reloadErr.Error()+"\n" {
		t.Errorf("a bad file answers %d %q", status, text)
	}
	s.reloadErr = fmt.Errorf("%w: the sidecar is starting", admin.ErrNotNow)
	if status, text := d.unix("POST", "/reload", ""); status != 503 || text != s.reloadErr.Error()+"\n" {
		t.Errorf("at the wrong time it answers %d %q", status, text)
	}
	if status, text := d.unix("PUT", "/log/level", "loud"); status != 400 || text != "not a level\n" {
		t.Errorf("a bad level answers %d %q", status, text)
	}
}

func TestListenerThatBreaksIsToldOf(t *testing.T) {
	var s sidecar
	server := admin.New(s.options())
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	server.ServeTCP(l)
	l.Close()
	select {
	case err := <-server.Failed():
		if !errors.Is(err, net.ErrClosed) {
			t.Error(err)
		}
	case <-time.After(time.Minute):
		t.Error("nothing is said")
	}
	if err := server.Close(t.Context()); err != nil {
		t.Error(err)
	}
}
