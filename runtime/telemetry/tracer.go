package telemetry

import (
	"context"
	"crypto/tls"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/exporters/otlp/otlptrace/otlptracegrpc"
	"go.opentelemetry.io/otel/sdk/resource"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/trace"
	"google.golang.org/grpc/credentials"

	"github.com/outrigger-mesh/outrigger/runtime/config"
)

// Tracer makes the sidecar's spans and sends them over OTLP. A caller's decision to sample or not is kept; new traces are
// sampled by ratio, and a ratio of 0 means that the sidecar begins none. Nothing is made of what is not sampled.
//
// A nil *Tracer is one that is off: it passes on the headers that came in.
type Tracer struct {
	ratio    float64
	provider *sdktrace.TracerProvider
	tracer   trace.Tracer
}

func newTracer(ctx context.Context, conf config.Trace, info Info, log *slog.Logger, dropped *prometheus.CounterVec) (*Tracer, error) {
	security := otlptracegrpc.WithTLSCredentials(credentials.NewTLS(&tls.Config{MinVersion: tls.VersionTLS12}))
	if conf.Insecure {
		security = otlptracegrpc.WithInsecure()
	}
	// No retries: while the receiver is away the queue is the place to wait, and it is bounded.
	exporter, err := otlptracegrpc.New(ctx, security, otlptracegrpc.WithEndpoint(conf.Endpoint),
		otlptracegrpc.WithTimeout(exportTimeout), otlptracegrpc.WithRetry(otlptracegrpc.RetryConfig{}))
	if err != nil {
		return nil, fmt.Errorf("tracing to %s: %w", conf.Endpoint, err)
	}
	provider := sdktrace.NewTracerProvider(
		sdktrace.WithSampler(sdktrace.AlwaysSample()), // Tracer has decided before it starts a span
		sdktrace.WithSpanProcessor(newQueue(exporter, log, dropped)),
		sdktrace.WithResource(resource.NewSchemaless(
			attribute.String("service.name", info.App),
			attribute.String("service.namespace", info.Namespace),
			attribute.String("outrigger.version", info.Version),
		)))
	return &Tracer{ratio: conf.Ratio, provider: provider, tracer: provider.Tracer("outrigger")}, nil
}

func (t *Tracer) close(ctx context.Context) error {
	if t == nil {
		return nil
	}
	return t.provider.Shutdown(ctx)
}

// Request is what a span is started from.
type Request struct {
	Protocol, Service, Method string // the method as on the wire, for gRPC /package.Service/Method
	// Traceparent and Tracestate are the headers that came with it.
	Traceparent, Tracestate string
	Start                   time.Time // zero: now
}

// Span is one request's part of a trace. Traceparent and Tracestate are the headers to send on; empty means to send none.
type Span struct {
	Traceparent, Tracestate string

	span     trace.Span // nil: not sampled
	protocol string
}

// StartMesh starts the span of a proxied request, in the direction inbound or outbound. End ends it.
func (t *Tracer) StartMesh(direction string, r Request) Span {
	kind := trace.SpanKindClient
	if direction == "inbound" {
		kind = trace.SpanKindServer
	}
	_, s := t.start(context.Background(), kind, r, direction)
	return s
}

// StartCall starts the span of a call of the sidecar's API. Spans of components that are called with the context it answers
// go under it. End ends it.
func (t *Tracer) StartCall(ctx context.Context, r Request) (context.Context, Span) {
	return t.start(ctx, trace.SpanKindServer, r, "api")
}

func (t *Tracer) start(ctx context.Context, kind trace.SpanKind, r Request, direction string) (context.Context, Span) {
	s := Span{Traceparent: r.Traceparent, Tracestate: r.Tracestate, protocol: r.Protocol}
	if t == nil {
		return ctx, s
	}
	parent, ok := ParseTraceparent(r.Traceparent)
	if ok && !parent.Flags.IsSampled() {
		return ctx, s
	}
	if !ok {
		s.Traceparent, s.Tracestate = "", "" // a state without a parent means nothing
		if t.ratio <= 0 {
			return ctx, s
		}
		if rand.Float64() >= t.ratio {
			s.Traceparent = unsampled().String() // tells the next sidecar not to decide again
			return ctx, s
		}
	}
	ctx = trace.ContextWithRemoteSpanContext(ctx, trace.NewSpanContext(trace.SpanContextConfig{
		TraceID: parent.TraceID, SpanID: parent.SpanID, TraceFlags: parent.Flags, Remote: true}))
	ctx, s.span = t.tracer.Start(ctx, strings.TrimPrefix(r.Method, "/"), trace.WithSpanKind(kind), trace.WithTimestamp(r.Start),
		trace.WithAttributes(attribute.String("outrigger.direction", direction), attribute.String("rpc.system", r.Protocol),
			attribute.String("rpc.service", r.Service), attribute.String("rpc.method", r.Method)))
	own := s.span.SpanContext()
	s.Traceparent = Traceparent{own.TraceID(), own.SpanID(), own.TraceFlags()}.String()
	return ctx, s
}

// unsampled is a new trace that nobody records.
func unsampled() (p Traceparent) {
	for !p.TraceID.IsValid() || !p.SpanID.IsValid() {
		for i := range p.TraceID {
			p.TraceID[i] = byte(rand.Uint32())
		}
		for i := range p.SpanID {
			p.SpanID[i] = byte(rand.Uint32())
		}
	}
	return p
}
