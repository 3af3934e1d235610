package proxy_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/outrigger-mesh/outrigger/runtime/mesh"
	"github.com/outrigger-mesh/outrigger/runtime/mesh/grpcproxy"
)

const traced = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"

// TestHopsTravelInTheTrace: an application that hands on its trace hands on how many sidecars were passed.
func TestHopsTravelInTheTrace(t *testing.T) {
	a := startApp(t)
	o := newOutbound(t, a.address)
	for _, c := range []struct{ send, want []string }{
		{[]string{"traceparent", traced}, []string{"outrigger=h:1"}},
		{[]string{"traceparent", traced, "tracestate", "a=1,outrigger=h:4", "tracestate", "b=2"}, []string{"outrigger=h:5,a=1,b=2"}},
		{[]string{"traceparent", traced, "tracestate", "outrigger=h:4", "outrigger-hops", "6"}, []string{"outrigger=h:7"}},
		{[]string{"tracestate", "a=1"}, []string{"a=1"}}, // no trace
		{nil, nil},
	} {
		if _, err := o.call(within(t, 10*time.Second, append([]string{toStock, "stock"}, c.send...)...), ""); err != nil {
			t.Fatal(err)
		}
		md := <-a.seen
		if got := md.Get("tracestate"); fmt.Sprint(got) != fmt.Sprint(c.want) {
			t.Errorf("of %q the peer sees the tracestate %q, want %q", c.send, got, c.want)
		}
		if got := md.Get("traceparent"); len(c.send) > 0 && c.send[0] == "traceparent" && fmt.Sprint(got) != "["+traced+"]" {
			t.Errorf("the traceparent became %q", got)
		}
	}
	if got := o.engine.requests[2].Hops; got != 6 {
		t.Errorf("the engine was told of %d hops, want the larger, 6", got)
	}
}

// TestCallsToItselfAreBounded, those to others are not, and whoever has ended makes room.
func TestCallsToItselfAreBounded(t *testing.T) {
	a := startApp(t)
	e, m := &engine{addresses: []string{a.address}}, &monitor{}
	out := dialing(e, m)
	out.Self = &mesh.SelfCalls{Limit: 2, App: caller, Own: func(name string) bool { return name == "orders" }}
	r := &grpcproxy.Relay{}
	out.Bind(r, nil)
	o := &outbound{engine: e, monitor: m}
	o.conn, o.HealthClient = serveRelay(t, r)

	ended := make(chan error, 8)
	begin := func(service string) {
		go func() {
			_, err := o.call(within(t, 2*time.Second, toStock, service), "wait")
			ended <- err
		}()
		<-a.seen
	}
	begin("orders")
	begin("orders")
	for range 6 {
		begin("stock")
	}
	_, err := o.call(within(t, 10*time.Second, toStock, "orders"), "")
	if status.Code(err) != codes.FailedPrecondition || !strings.Contains(err.Error(), "mesh.outbound.self_calls") {
		t.Fatalf("a third call to itself: %v", err)
	}
	for range 8 {
		if err := <-ended; status.Code(err) != codes.DeadlineExceeded {
			t.Fatal(err)
		}
	}
	m.all(t, 9)
	for n := range 5 { // one after the other there may be any number
		if _, err := o.call(within(t, 10*time.Second, toStock, "orders"), ""); err != nil {
			t.Fatal(err)
		}
		m.all(t, 10+n)
	}
}
