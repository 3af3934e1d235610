package integration

import (
	"context"
	"fmt"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	collectorpb "go.opentelemetry.io/proto/otlp/collector/trace/v1"
	"google.golang.org/grpc"
	"google.golang.org/grpc/metadata"

	"github.com/outrigger-mesh/outrigger/integration/echopb"
	"github.com/outrigger-mesh/outrigger/integration/harness"
)

// collector is an OTLP receiver.
type collector struct {
	collectorpb.UnimplementedTraceServiceServer
	address string
	mu      sync.Mutex
	spans   []recorded
}

// recorded is a span, as APP DIRECTION NAME.
type recorded struct{ what, trace, id, parent string }

func startCollector(t *testing.T) *collector {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	c, server := &collector{address: ln.Addr().String()}, grpc.NewServer()
	collectorpb.RegisterTraceServiceServer(server, c)
	go server.Serve(ln)
	t.Cleanup(server.Stop)
	return c
}

func (c *collector) Export(_ context.Context, in *collectorpb.ExportTraceServiceRequest) (*collectorpb.ExportTraceServiceResponse, error) {
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
				c.spans = append(c.spans, recorded{fmt.Sprint(app, " ", direction, s.GetName()), fmt.Sprintf("%x", s.GetTraceId()), fmt.Sprintf("%x", s.GetSpanId()), fmt.Sprintf("%x", s.GetParentSpanId())})
			}
		}
	}
	return &collectorpb.ExportTraceServiceResponse{}, nil
}

// chain waits until a trace has the named spans, each under the one before, the first under root, and answers the last one's id.
func (c *collector) chain(t *testing.T, trace, root string, names ...string) (last string) {
	t.Helper()
	harness.Eventually(t, 30*time.Second, func() error {
		c.mu.Lock()
		defer c.mu.Unlock()
		last = root
		for _, name := range names {
			found := ""
			for _, s := range c.spans {
				if s.trace == trace && s.what == name && s.parent == last {
					found = s.id
				}
			}
			if found == "" {
				return fmt.Errorf("there is no span %q under %s of trace %s; there are %q", name, last, trace, c.spans)
			}
			last = found
		}
		return nil
	})
	return last
}

// TestOneTrace follows calls from an application through both sidecars to another: each part is a span of the one trace, and the
// called application is told the last.
func TestOneTrace(t *testing.T) {
	c := startCollector(t)
	p := newPair(t, fmt.Sprintf("telemetry: {tracing: {endpoint: %q, insecure: true}}\n", c.address))
	const root = "b7ad6b7169203331"
	in := func(trace string) context.Context {
		return metadata.AppendToOutgoingContext(within(t, 20*time.Second), "traceparent", "00-"+trace+"-"+root+"-01")
	}

	proxied := strings.Repeat("a", 32)
	var trailer metadata.MD
	if _, err := p.echo.Unary(in(proxied), &echopb.Message{}, grpc.Trailer(&trailer)); err != nil {
		t.Fatal(err)
	}
	const method = "integration.echo.v1.Echo/Unary"
	last := c.chain(t, proxied, root, "caller outbound "+method, "echo inbound "+method)
	if seen := p.app.Traceparent.Load(); seen == nil || *seen != "00-"+proxied+"-"+last+"-01" {
		t.Errorf("the application was told %v, want the span %s", seen, last)
	}

	invoked := strings.Repeat("b", 32)
	if _, err := p.client.Invoke(in(invoked), "echo", method, []byte("\x0a\x02hi")); err != nil {
		t.Fatal(err)
	}
	const invoke = "outrigger.invocation.v1.Invocation/Invoke"
	c.chain(t, invoked, root, "caller api "+invoke, "caller outbound "+invoke)
	last = c.chain(t, invoked, root, "caller api "+invoke, "caller outbound "+invoke, "echo inbound "+method)
	if seen := p.app.Traceparent.Load(); seen == nil || *seen != "00-"+invoked+"-"+last+"-01" {
		t.Errorf("the application was told %v, want the span %s", seen, last)
	}

	cached := strings.Repeat("c", 32)
	if _, err := p.client.Cache("").Exists(in(cached), "k"); err != nil {
		t.Fatal(err)
	}
	c.chain(t, cached, root, "caller api outrigger.cache.v1.Cache/Exists", "caller cache exists")
}
