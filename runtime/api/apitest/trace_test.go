package apitest

import (
	"context"
	"fmt"
	"net"
	"sync"
	"testing"

	"github.com/outrigger-mesh/outrigger/components"
	"github.com/outrigger-mesh/outrigger/components/cache"
	cachev1 "github.com/outrigger-mesh/outrigger/proto/outrigger/cache/v1"
	configv1 "github.com/outrigger-mesh/outrigger/proto/outrigger/config/v1"
	"github.com/outrigger-mesh/outrigger/runtime/api"
	"github.com/outrigger-mesh/outrigger/runtime/api/server"
	"github.com/outrigger-mesh/outrigger/runtime/config"
	"github.com/outrigger-mesh/outrigger/runtime/telemetry"

	collectorpb "go.opentelemetry.io/proto/otlp/collector/trace/v1"
	tracepb "go.opentelemetry.io/proto/otlp/trace/v1"
	"google.golang.org/grpc"
	"google.golang.org/grpc/metadata"
)

// spans is an OTLP receiver.
type spans struct {
	collectorpb.UnimplementedTraceServiceServer
	mu  sync.Mutex
	all map[string]*tracepb.Span // by name
}

func (s *spans) Export(_ context.Context, in *collectorpb.ExportTraceServiceRequest) (*collectorpb.ExportTraceServiceResponse, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, r := range in.GetResourceSpans() {
		for _, scope := range r.GetScopeSpans() {
			for _, span := range scope.GetSpans() {
				s.all[span.GetName()] = span
			}
		}
	}
	return &collectorpb.ExportTraceServiceResponse{}, nil
}

func (s *spans) named(name string) *tracepb.Span {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.all[name]
}

func startTracing(t *testing.T) (*telemetry.Telemetry, *spans) {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	to, receiver := &spans{all: map[string]*tracepb.Span{}}, grpc.NewServer()
	collectorpb.RegisterTraceServiceServer(receiver, to)
	done := make(chan error, 1)
	go func() { done <- receiver.Serve(ln) }()
	t.Cleanup(func() { receiver.Stop(); <-done })
	conf := config.Telemetry{Tracing: config.Trace{Endpoint: ln.Addr().String(), Insecure: true}}
	tel, err := telemetry.New(t.Context(), conf, telemetry.Info{App: app.App, Namespace: app.Namespace, Code: api.Code, Output: t.Output()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { tel.Close(context.Background()) })
	return tel, to
}

// A call that its caller has sampled has a span, and so has each call of a component below it, on either engine.
func TestSpansOfCalls(t *testing.T) {
	const traceID, parent = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
	for _, relayed := range []bool{false, true} {
		t.Run(fmt.Sprint("relayed ", relayed), func(t *testing.T) {
			tel, to := startTracing(t)
			s := start(t, func(o *server.Options) { o.Tracer, o.Relayed = tel.Tracer, relayed })
			watched := components.NewComponent[cache.Driver](components.ID{Capability: "cache", Name: "watched", Driver: "memory"}, components.Limits{}, tel.Observer())
			watched.Set(open(t, cache.Drivers, "memory"))
			s.caches["watched"] = cache.New(watched)
			cc := dial(t, s.grpc)
			ctx, cancel := context.WithCancel(metadata.AppendToOutgoingContext(within(t), "traceparent", "00-"+traceID+"-"+parent+"-01"))
			defer cancel()
			if _, err := cachev1.NewCacheClient(cc).Get(ctx, &cachev1.GetRequest{Component: "watched", Key: "k"}); err == nil {
				t.Error("there is nothing under the key")
			}
			w, err := configv1.NewConfigClient(cc).Watch(ctx, &configv1.WatchRequest{Keys: []string{"k"}})
			if err == nil {
				_, err = w.Recv()
			}
			if err != nil {
				t.Fatal(err)
			}
			cancel()
			get, below, watch := "outrigger.cache.v1.Cache/Get", "cache get", "outrigger.config.v1.Config/Watch"
			for _, name := range []string{get, below, watch} {
				eventually(t, "the span "+name, func() bool { return to.named(name) != nil })
			}
			for child, above := range map[string]string{get: parent, watch: parent, below: fmt.Sprintf("%x", to.named(get).GetSpanId())} {
				span := to.named(child)
				if id, p := fmt.Sprintf("%x", span.GetTraceId()), fmt.Sprintf("%x", span.GetParentSpanId()); id != traceID || p != above {
					t.Errorf("%s is in trace %s under %s, want %s under %s", child, id, p, traceID, above)
				}
			}
		})
	}
}
