package runtime

import (
	"strconv"

	"github.com/outrigger-mesh/outrigger/runtime/mesh/proxy"
	"github.com/outrigger-mesh/outrigger/runtime/telemetry"
)

// monitor tells telemetry of each proxied request: its metrics, its line in the access log, its span.
type monitor struct{ t *telemetry.Telemetry }

func (m monitor) Begin(r *proxy.Record) {
	if m.t.Tracer == nil {
		return // the trace context passes as it came
	}
	span := m.t.Tracer.StartMesh(r.Direction, telemetry.Request{Protocol: r.Protocol, Service: r.Service.Name, Method: r.Method,
		Traceparent: r.Traceparent, Tracestate: r.Tracestate, Start: r.Start})
	r.Traceparent, r.Tracestate = span.Traceparent, span.Tracestate
	if span.Sampled() {
		r.Span = span
	}
}

func (m monitor) End(r *proxy.Record) {
	service, attempts := r.Service.Name, r.Attempts
	if r.Upstream == "" {
		service, attempts = "", 0 // it led nowhere: its name may be made up, and asking for a way was no attempt
	}
	code := ownStatus(r)
	m.t.Metrics.Mesh(r.Direction, r.Protocol, service, r.Service.Version).Observe(code, r.Duration)
	if m.t.Access != nil {
		m.t.Access.Write(&telemetry.Entry{Time: r.Start, Direction: r.Direction, Protocol: r.Protocol, Service: r.Service.String(),
			Method: r.Method, Source: r.Source, Rule: r.Rule, Upstream: r.Upstream, Attempts: attempts, Flag: r.Flag, Code: code,
			Duration: r.Duration, BytesIn: r.Sent, BytesOut: r.Received})
	}
	if span, ok := r.Span.(telemetry.Span); ok {
		span.End(telemetry.Result{End: r.Start.Add(r.Duration), Code: code, Upstream: r.Upstream, Attempts: attempts, Flag: r.Flag})
	}
}

// ownStatus is the one that a record shows: the protocol's own of HTTP, whose statuses everybody knows.
func ownStatus(r *proxy.Record) int {
	if r.Protocol != "http" {
		return r.Code
	}
	status, err := strconv.Atoi(r.Status)
	if err != nil {
		return -1
	}
	return status
}
