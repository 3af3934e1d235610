package telemetry

import (
	"context"
	"errors"
	"fmt"
	"io"
	"iter"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"google.golang.org/grpc/codes"

	"github.com/outrigger-mesh/outrigger/components"
	"github.com/outrigger-mesh/outrigger/runtime/config"
)

var sessions = components.ID{Capability: "cache", Name: "sessions", Driver: "memory"}

// scrape reads the metrics as Prometheus does.
func scrape(t *testing.T, tel *Telemetry) string {
	t.Helper()
	w := httptest.NewRecorder()
	tel.Metrics.Handler().ServeHTTP(w, httptest.NewRequest("GET", "/metrics", nil))
	body, err := io.ReadAll(w.Result().Body)
	if err != nil || w.Code != 200 {
		t.Fatalf("status %d, %v: %s", w.Code, err, body)
	}
	return string(body)
}

func expectLine(t *testing.T, metrics, line string) {
	t.Helper()
	if !strings.Contains("\n"+metrics, "\n"+line+"\n") {
		t.Errorf("no line %s", line)
	}
}

func TestComponentCalls(t *testing.T) {
	full := errors.New("full")
	tel := open(t, config.Telemetry{}, Info{Code: func(err error) codes.Code {
		if errors.Is(err, full) {
			return codes.ResourceExhausted
		}
		return codes.Internal
	}})
	for _, err := range []error{nil, nil, full, errors.New("odd")} {
		tel.Observer().Observe(t.Context(), sessions, "get", time.Now(), err)
	}
	got := scrape(t, tel)
	for code, n := range map[string]int{"OK": 2, "RESOURCE_EXHAUSTED": 1, "INTERNAL": 1} {
		expectLine(t, got, fmt.Sprintf(`outrigger_component_call_seconds_count{capability="cache",code="%s",component="sessions",driver="memory",op="get"} %d`, code, n))
	}
}

func TestInfoAndProcessMetrics(t *testing.T) {
	got := scrape(t, open(t, config.Telemetry{}, Info{Version: "1.2.3", App: "orders", Namespace: "shop"}))
	expectLine(t, got, `outrigger_info{app="orders",namespace="shop",version="1.2.3"} 1`)
	for _, name := range []string{"go_goroutines", "process_resident_memory_bytes"} {
		if !strings.Contains(got, "\n"+name+" ") {
			t.Errorf("no %s", name)
		}
	}
}

func TestTwoTelemetriesShareNothing(t *testing.T) {
	a, b := open(t, config.Telemetry{}, Info{}), open(t, config.Telemetry{}, Info{})
	a.Observer().Observe(t.Context(), sessions, "get", time.Now(), nil)
	if strings.Contains(scrape(t, b), "sessions") {
		t.Error("a call seen by one is counted by the other")
	}
}

func TestComponentUp(t *testing.T) {
	tel := open(t, config.Telemetry{}, Info{})
	states := map[components.ID]bool{sessions: true, {Capability: "lock", Name: "jobs"}: false}
	tel.ShowComponents(func() iter.Seq2[components.ID, bool] {
		return func(yield func(components.ID, bool) bool) {
			for id, up := range states {
				if !yield(id, up) {
					return
				}
			}
		}
	})
	got := scrape(t, tel)
	expectLine(t, got, `outrigger_component_up{capability="cache",component="sessions"} 1`)
	expectLine(t, got, `outrigger_component_up{capability="lock",component="jobs"} 0`)
	delete(states, sessions)
	if strings.Contains(scrape(t, tel), "sessions") {
		t.Error("a component that was removed is still shown")
	}
}

func TestComponentMetersGoWithTheInstance(t *testing.T) {
	tel := open(t, config.Telemetry{}, Info{})
	gauge := func(value float64) prometheus.Gauge {
		g := prometheus.NewGauge(prometheus.GaugeOpts{Name: "outrigger_cache_items", Help: "Items held."})
		g.Set(value)
		return g
	}
	line := func(driver string, value int) string {
		return fmt.Sprintf(`outrigger_cache_items{capability="cache",component="sessions",driver="%s"} %d`, driver, value)
	}
	first, closeFirst := tel.ComponentRegisterer(sessions)
	first.MustRegister(gauge(1))
	carts, closeCarts := tel.ComponentRegisterer(components.ID{Capability: "cache", Name: "carts", Driver: "memory"})
	carts.MustRegister(gauge(7))
	expectLine(t, scrape(t, tel), line("memory", 1))

	second, closeSecond := tel.ComponentRegisterer(sessions) // a reload, whose instances overlap
	second.MustRegister(gauge(2))
	expectLine(t, scrape(t, tel), line("memory", 2))
	closeFirst()
	closeFirst()
	expectLine(t, scrape(t, tel), line("memory", 2))
	closeSecond()
	if got := scrape(t, tel); strings.Contains(got, "sessions") || !strings.Contains(got, "carts") {
		t.Error("the closed instance's metrics are shown, or another's are not")
	}
	closeCarts()
	if len(tel.Metrics.instances.all) != 0 {
		t.Error("closed instances are kept")
	}
}

func TestMetersThatContradictDoNotHideOthers(t *testing.T) {
	tel := open(t, config.Telemetry{}, Info{})
	for i, name := range []string{"a", "b"} {
		r, _ := tel.ComponentRegisterer(components.ID{Capability: "cache", Name: name})
		r.MustRegister(prometheus.NewGauge(prometheus.GaugeOpts{Name: "outrigger_cache_items", Help: fmt.Sprint("Help ", i)}))
	}
	if got := scrape(t, tel); !strings.Contains(got, "\noutrigger_info") {
		t.Error("two components that disagree on a metric's help hide all metrics")
	}
}

func TestMeshRequests(t *testing.T) {
	tel := open(t, config.Telemetry{}, Info{})
	m := tel.Metrics
	m.Mesh("outbound", "grpc", "stock", "v2").Observe(14, time.Second)
	m.Mesh("outbound", "grpc", "stock", "v2").Observe(99, time.Second)
	m.Mesh("inbound", "http", "stock", "").Observe(404, time.Second)
	m.Mesh("inbound", "http", "stock", "").Observe(123456, time.Second)
	m.Mesh("inbound", "http", "stock", "").Observe(-1, time.Second)
	m.Mesh("outbound", "grpc", "", "v2").Observe(0, time.Second)
	got := scrape(t, tel)
	for _, labels := range []string{
		`code="UNAVAILABLE",direction="outbound",protocol="grpc",service="stock",version="v2"`,
		`code="other",direction="outbound",protocol="grpc",service="stock",version="v2"`,
		`code="404",direction="inbound",protocol="http",service="stock",version=""`,
		`code="other",direction="inbound",protocol="http",service="stock",version=""`,
		`code="none",direction="inbound",protocol="http",service="stock",version=""`,
		`code="OK",direction="outbound",protocol="grpc",service="other",version=""`,
	} {
		expectLine(t, got, "outrigger_mesh_request_seconds_count{"+labels+"} 1")
	}
}

func TestServicesAreBounded(t *testing.T) {
	m := open(t, config.Telemetry{}, Info{}).Metrics
	for i := range 3 * maxMeshMeters {
		m.Mesh("outbound", "grpc", fmt.Sprint("made-up-", i), "").Observe(0, time.Second)
	}
	if n := len(*m.mesh.all.Load()); n > maxMeshMeters {
		t.Errorf("%d meters, allowed are %d", n, maxMeshMeters)
	}
	if a, b := m.Mesh("outbound", "grpc", "late", ""), m.Mesh("outbound", "grpc", "later", ""); a != b || a.key.service != other {
		t.Errorf("services over the bound do not share a meter: %v, %v", a.key, b.key)
	}
	families, err := m.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range families {
		if f.GetName() == "outrigger_mesh_request_seconds" && len(f.GetMetric()) != maxMeshMeters+1 {
			t.Errorf("%d series, expected one a service and one for the others", len(f.GetMetric()))
		}
	}
}

func TestHotPathsDoNotAllocate(t *testing.T) {
	tel := open(t, config.Telemetry{}, Info{})
	o, m, now, ctx := tel.Observer(), tel.Metrics, time.Now(), context.Background()
	for name, f := range map[string]func(){
		"observe a call":    func() { o.Observe(ctx, sessions, "get", now, nil) },
		"observe a request": func() { m.Mesh("outbound", "grpc", "stock", "v2").Observe(0, time.Millisecond) },
		"mesh span, off":    func() { s := tel.Tracer.StartMesh("outbound", Request{Traceparent: sampled}); s.End(Result{}) },
	} {
		f()
		if n := testing.AllocsPerRun(1000, f); n != 0 {
			t.Errorf("%s: %v allocations", name, n)
		}
	}
}

func BenchmarkObserve(b *testing.B) {
	o, ctx, now := open(b, config.Telemetry{}, Info{}).Observer(), context.Background(), time.Now()
	b.ReportAllocs()
	for b.Loop() {
		o.Observe(ctx, sessions, "get", now, nil)
	}
}

func BenchmarkMeshObserve(b *testing.B) {
	m := open(b, config.Telemetry{}, Info{}).Metrics
	b.Run("found", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			m.Mesh("outbound", "grpc", "stock", "v2").Observe(0, time.Millisecond)
		}
	})
	b.Run("kept", func(b *testing.B) {
		meter := m.Mesh("outbound", "grpc", "stock", "v2")
		b.ReportAllocs()
		for b.Loop() {
			meter.Observe(0, time.Millisecond)
		}
	})
}
