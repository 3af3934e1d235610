package harness

import (
	"context"
	"fmt"
	"net"
	"slices"
	"sync"
	"testing"

	collectorpb "go.opentelemetry.io/proto/otlp/collector/trace/v1"
	"google.golang.org/grpc"
)

// Collector is an OTLP receiver that keeps what it is sent. Safe for concurrent use.
type Collector struct {
	collectorpb.UnimplementedTraceServiceServer
	Address string
	mu      sync.Mutex
	spans   []Span
}

// Span is one that was received. What is APP DIRECTION NAME; the others are in hexadecimal digits, Parent empty for a root.
type Span struct{ What, Trace, ID, Parent string }

// StartCollector starts one that ends with the test.
func StartCollector(t *testing.T) *Collector {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	c, server := &Collector{Address: ln.Addr().String()}, grpc.NewServer()
	collectorpb.RegisterTraceServiceServer(server, c)
	go server.Serve(ln)
	t.Cleanup(server.Stop)
	return c
}

// Config is the section of a sidecar that sends all its spans here.
func (c *Collector) Config() string {
	return fmt.Sprintf("telemetry: {tracing: {endpoint: %q, insecure: true}}\n", c.Address)
}

// Spans are those that have come.
func (c *Collector) Spans() []Span {
	c.mu.Lock()
	defer c.mu.Unlock()
	return slices.Clone(c.spans)
}

// Export implements the receiver.
func (c *Collector) Export(_ context.Context, in *collectorpb.ExportTraceServiceRequest) (*collectorpb.ExportTraceServiceResponse, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, r := range in.GetResourceSpans() {
		app := ""
		for _, a := range r.GetResource().GetAttributes() {
			if a.GetKey() == "service.name" {
				app = a.GetValue().GetStringValue()
			}
		}
		for _, scope := range r.GetScopeSpans() {
			for _, s := range scope.GetSpans() {
				direction := ""
				for _, a := range s.GetAttributes() {
					if a.GetKey() == "outrigger.direction" {
						direction = a.GetValue().GetStringValue() + " "
					}
				}
				c.spans = append(c.spans, Span{fmt.Sprint(app, " ", direction, s.GetName()), fmt.Sprintf("%x", s.GetTraceId()), fmt.Sprintf("%x", s.GetSpanId()), fmt.Sprintf("%x", s.GetParentSpanId())})
			}
		}
	}
	return &collectorpb.ExportTraceServiceResponse{}, nil
}
