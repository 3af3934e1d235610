package integration

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/metadata"

	"github.com/outrigger-mesh/outrigger/integration/echopb"
	"github.com/outrigger-mesh/outrigger/integration/harness"
)

// chain waits until a trace has the named spans, each under the one before, the first under root, and answers the last one's id.
func chain(t *testing.T, c *harness.Collector, trace, root string, names ...string) (last string) {
	t.Helper()
	harness.Eventually(t, 30*time.Second, func() error {
		last = root
		for _, name := range names {
			found := ""
			for _, s := range c.Spans() {
				if s.Trace == trace && s.What == name && s.Parent == last {
					found = s.ID
				}
			}
			if found == "" {
				return fmt.Errorf("there is no span %q under %s of trace %s; there are %q", name, last, trace, c.Spans())
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
	c := harness.StartCollector(t)
	p := newPair(t, c.Config())
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
	last := chain(t, c, proxied, root, "caller outbound "+method, "echo inbound "+method)
	if seen := p.app.Traceparent.Load(); seen == nil || *seen != "00-"+proxied+"-"+last+"-01" {
		t.Errorf("the application was told %v, want the span %s", seen, last)
	}

	invoked := strings.Repeat("b", 32)
	if _, err := p.client.Invoke(in(invoked), "echo", method, []byte("\x0a\x02hi")); err != nil {
		t.Fatal(err)
	}
	const invoke = "outrigger.invocation.v1.Invocation/Invoke"
	chain(t, c, invoked, root, "caller api "+invoke, "caller outbound "+invoke)
	last = chain(t, c, invoked, root, "caller api "+invoke, "caller outbound "+invoke, "echo inbound "+method)
	if seen := p.app.Traceparent.Load(); seen == nil || *seen != "00-"+invoked+"-"+last+"-01" {
		t.Errorf("the application was told %v, want the span %s", seen, last)
	}

	cached := strings.Repeat("c", 32)
	if _, err := p.client.Cache("").Exists(in(cached), "k"); err != nil {
		t.Fatal(err)
	}
	chain(t, c, cached, root, "caller api outrigger.cache.v1.Cache/Exists", "caller cache exists")
}
