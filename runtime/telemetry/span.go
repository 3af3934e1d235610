package telemetry

import (
	"context"
	"time"

	"go.opentelemetry.io/otel/attribute"
	otelcodes "go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/trace"
	"google.golang.org/grpc/codes"

	"github.com/outrigger-mesh/outrigger/components"
)

// Result is how a request ended.
type Result struct {
	End      time.Time // zero: now
	Code     int       // the status of its protocol; -1: it ended without one
	Upstream string    // the address it went to, if it got to one
	Attempts int
	Flag     string // why it failed, as in the access log
}

// Sampled says whether the span is recorded.
func (s Span) Sampled() bool { return s.span != nil }

// End records the span, which must not be ended again. It does nothing for one that is not sampled.
func (s Span) End(r Result) {
	if s.span == nil {
		return
	}
	code := codeName(s.protocol, r.Code)
	attrs := make([]attribute.KeyValue, 0, 4)
	attrs = append(attrs, attribute.String("outrigger.code", code))
	if r.Upstream != "" {
		attrs = append(attrs, attribute.String("server.address", r.Upstream))
	}
	if r.Attempts > 0 {
		attrs = append(attrs, attribute.Int("outrigger.attempts", r.Attempts))
	}
	if r.Flag != "" {
		attrs = append(attrs, attribute.String("outrigger.flag", r.Flag))
	}
	s.span.SetAttributes(attrs...)
	if failed(s.protocol, r) {
		s.span.SetStatus(otelcodes.Error, code)
	}
	s.span.End(trace.WithTimestamp(r.End))
}

// failed answers whether an operator would call the request an error.
func failed(protocol string, r Result) bool {
	switch protocol {
	case "grpc":
		return r.Code != 0
	case "http":
		return r.Code < 0 || r.Code >= 500 || r.Flag != ""
	}
	return r.Code < 0 || r.Flag != ""
}

// component records the span of a component's call that has ended, if the request it was made for is sampled. The error's text
// stays out: it may name keys.
func (t *Tracer) component(ctx context.Context, id components.ID, op string, start time.Time, took time.Duration, code codes.Code) {
	if !trace.SpanContextFromContext(ctx).IsSampled() {
		return
	}
	name := codeName("grpc", int(code))
	_, span := t.tracer.Start(ctx, id.Capability+" "+op, trace.WithSpanKind(trace.SpanKindClient), trace.WithTimestamp(start),
		trace.WithAttributes(attribute.String("outrigger.capability", id.Capability), attribute.String("outrigger.component", id.Name),
			attribute.String("outrigger.driver", id.Driver), attribute.String("outrigger.op", op), attribute.String("outrigger.code", name)))
	if code != codes.OK {
		span.SetStatus(otelcodes.Error, name)
	}
	span.End(trace.WithTimestamp(start.Add(took)))
}
