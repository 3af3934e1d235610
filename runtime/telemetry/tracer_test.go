package telemetry

import (
	"context"
	"encoding/hex"
	"errors"
	"net"
	"sync"
	"testing"
	"time"

	collectorpb "go.opentelemetry.io/proto/otlp/collector/trace/v1"
	tracepb "go.opentelemetry.io/proto/otlp/trace/v1"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"

	"github.com/outrigger-mesh/outrigger/runtime/config"
)

// collector is an OTLP receiver.
type collector struct {
	collectorpb.UnimplementedTraceServiceServer
	addr     string
	mu       sync.Mutex
	spans    map[string]*tracepb.Span // by name
	resource map[string]string
}

func startCollector(t *testing.T) *collector {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	c := &collector{addr: l.Addr().String(), spans: map[string]*tracepb.Span{}, resource: map[string]string{}}
	s := grpc.NewServer()
	collectorpb.RegisterTraceServiceServer(s, c)
	done := make(chan struct{})
	go func() { defer close(done); s.Serve(l) }()
	t.Cleanup(func() { s.Stop(); <-done })
	return c
}

func (c *collector) Export(_ context.Context, in *collectorpb.ExportTraceServiceRequest) (*collectorpb.ExportTraceServiceResponse, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, r := range in.GetResourceSpans() {
		for _, a := range r.GetResource().GetAttributes() {
			c.resource[a.GetKey()] = a.GetValue().GetStringValue()
		}
		for _, scope := range r.GetScopeSpans() {
			for _, s := range scope.GetSpans() {
				c.spans[s.GetName()] = s
			}
		}
	}
	return &collectorpb.ExportTraceServiceResponse{}, nil
}

func (c *collector) count() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return len(c.spans)
}

func attributes(s *tracepb.Span) map[string]any {
	all := map[string]any{}
	for _, a := range s.GetAttributes() {
		if all[a.GetKey()] = a.GetValue().GetStringValue(); a.GetValue().GetStringValue() == "" {
			all[a.GetKey()] = a.GetValue().GetIntValue()
		}
	}
	return all
}

func traced(endpoint string, ratio float64) config.Telemetry {
	return config.Telemetry{Tracing: config.Trace{Endpoint: endpoint, Ratio: ratio, Insecure: true}}
}

func TestSpansOfOneTraceArriveLinked(t *testing.T) {
	to := startCollector(t)
	a := open(t, traced(to.addr, 0), Info{App: "orders", Namespace: "shop", Code: func(error) codes.Code { return codes.NotFound }})
	b := open(t, traced(to.addr, 0), Info{App: "orders", Namespace: "shop"})

	ctx, call := a.Tracer.StartCall(t.Context(), Request{Protocol: "grpc", Method: "/outrigger.invocation.v1.Invocation/Invoke", Traceparent: sampled, Tracestate: "vendor=1"})
	a.Observer().Observe(ctx, sessions, "get", time.Now(), errors.New("not there"))
	begun := time.Unix(1700000000, 5000)
	out := a.Tracer.StartMesh("outbound", Request{Protocol: "grpc", Service: "stock", Method: "/stock.Stock/Reserve", Traceparent: call.Traceparent, Tracestate: call.Tracestate, Start: begun})
	in := b.Tracer.StartMesh("inbound", Request{Protocol: "grpc", Service: "stock", Method: "/stock.Stock/Inbound", Traceparent: out.Traceparent, Tracestate: out.Tracestate})
	if !in.Sampled() || in.Tracestate != "vendor=1" {
		t.Errorf("the caller's decision or state is lost: %+v", in)
	}
	in.End(Result{})
	out.End(Result{End: begun.Add(time.Second), Code: 14, Upstream: "10.0.0.1:7080", Attempts: 2, Flag: "connect-failed"})
	call.End(Result{Code: 14})

	until(t, "four spans", func() bool { return to.count() == 4 })
	root, component := to.spans["outrigger.invocation.v1.Invocation/Invoke"], to.spans["cache get"]
	outbound, inbound := to.spans["stock.Stock/Reserve"], to.spans["stock.Stock/Inbound"]
	for child, parent := range map[*tracepb.Span][]byte{component: root.GetSpanId(), outbound: root.GetSpanId(), inbound: outbound.GetSpanId()} {
		if string(child.GetParentSpanId()) != string(parent) {
			t.Errorf("%s is under %x, expected %x", child.GetName(), child.GetParentSpanId(), parent)
		}
	}
	if hex.EncodeToString(root.GetParentSpanId()) != sampled[36:52] {
		t.Errorf("the first span is under %x, expected the caller's", root.GetParentSpanId())
	}
	for name, s := range to.spans {
		if hex.EncodeToString(s.GetTraceId()) != sampled[3:35] {
			t.Errorf("%s is in trace %x", name, s.GetTraceId())
		}
	}
	if outbound.GetStartTimeUnixNano() != uint64(begun.UnixNano()) || outbound.GetEndTimeUnixNano() != uint64(begun.Add(time.Second).UnixNano()) {
		t.Errorf("outbound lasts from %d to %d", outbound.GetStartTimeUnixNano(), outbound.GetEndTimeUnixNano())
	}
	got := attributes(outbound)
	for k, want := range map[string]any{"outrigger.direction": "outbound", "rpc.service": "stock", "rpc.method": "/stock.Stock/Reserve", "outrigger.code": "UNAVAILABLE",
		"outrigger.attempts": int64(2), "outrigger.flag": "connect-failed", "server.address": "10.0.0.1:7080"} {
		if got[k] != want {
			t.Errorf("outbound: %s is %v, expected %v", k, got[k], want)
		}
	}
	if outbound.GetKind() != tracepb.Span_SPAN_KIND_CLIENT || inbound.GetKind() != tracepb.Span_SPAN_KIND_SERVER {
		t.Errorf("kinds are %v and %v", outbound.GetKind(), inbound.GetKind())
	}
	const failure = tracepb.Status_STATUS_CODE_ERROR
	if outbound.GetStatus().GetCode() != failure || inbound.GetStatus().GetCode() == failure || component.GetStatus().GetMessage() != "NOT_FOUND" {
		t.Errorf("statuses: %v, %v, %v", outbound.GetStatus(), inbound.GetStatus(), component.GetStatus())
	}
	if to.resource["service.name"] != "orders" || to.resource["service.namespace"] != "shop" {
		t.Errorf("resource is %v", to.resource)
	}
}

func TestSamplingDecision(t *testing.T) {
	to := startCollector(t)
	for name, tc := range map[string]struct {
		in    string
		ratio float64
		want  string // of the flags sent on; empty: no header
	}{
		"parent sampled, ratio 0":     {sampled, 0, "01"},
		"parent not sampled, ratio 1": {unwanted, 1, "00"},
		"no parent, ratio 1":          {"", 1, "01"},
		"no parent, ratio 0":          {"", 0, ""},
		"no parent, tiny ratio":       {"", 1e-12, "00"},
		"broken parent, ratio 0":      {zeroSpan, 0, ""},
		"broken parent, ratio 1":      {zeroTrace, 1, "01"},
		"other flags stay":            {sampled[:53] + "03", 0, "03"},
	} {
		t.Run(name, func(t *testing.T) {
			s := open(t, traced(to.addr, tc.ratio), Info{}).Tracer.StartMesh("outbound", Request{Protocol: "grpc", Traceparent: tc.in, Tracestate: "vendor=1"})
			s.End(Result{})
			p, ok := ParseTraceparent(s.Traceparent)
			if ok != (tc.want != "") || ok && s.Traceparent[53:] != tc.want || s.Sampled() != (ok && p.Flags.IsSampled()) {
				t.Fatalf("sends on %q, sampled %v, expected flags %q", s.Traceparent, s.Sampled(), tc.want)
			}
			parent, hadParent := ParseTraceparent(tc.in)
			if hadParent != (s.Tracestate == "vendor=1") || hadParent && parent.TraceID != p.TraceID {
				t.Errorf("sends on %q, state %q", s.Traceparent, s.Tracestate)
			}
			if hadParent && !parent.Flags.IsSampled() && s.Traceparent != tc.in {
				t.Errorf("%q passes as %q: nothing was recorded here to stand between", tc.in, s.Traceparent)
			}
		})
	}
}

func TestTracingOffPassesHeadersOn(t *testing.T) {
	tel := open(t, config.Telemetry{}, Info{})
	ctx, s := tel.Tracer.StartCall(t.Context(), Request{Traceparent: "whatever", Tracestate: "vendor=1"})
	if ctx != t.Context() || s.Traceparent != "whatever" || s.Tracestate != "vendor=1" || s.Sampled() {
		t.Errorf("got %+v", s)
	}
}

func TestUnsampledComponentCallsMakeNoSpan(t *testing.T) {
	to := startCollector(t)
	tel := open(t, traced(to.addr, 1), Info{})
	ctx, s := tel.Tracer.StartCall(t.Context(), Request{Traceparent: unwanted})
	s.End(Result{})
	tel.Observer().Observe(ctx, sessions, "get", time.Now(), nil)
	tel.Observer().Observe(t.Context(), sessions, "get", time.Now(), nil)
	if err := tel.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	if n := to.count(); n != 0 {
		t.Errorf("%d spans", n)
	}
}
