package proxy_test

import (
	"context"
	"io"
	"log/slog"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/outrigger-mesh/outrigger/components"
	"github.com/outrigger-mesh/outrigger/runtime/mesh"
	"github.com/outrigger-mesh/outrigger/runtime/mesh/proxy"
	"github.com/outrigger-mesh/outrigger/runtime/mesh/rpcproxy"
	"github.com/outrigger-mesh/outrigger/runtime/mesh/rpcproxy/rpctest"
)

// One call with all of it: by mutual TLS to an instance that the engine names, whose application hangs; when the attempt's time is over to the
// other one, once and from the budget; and what came of both is reported.
func TestOneCallOfBoltWithAllOfIt(t *testing.T) {
	d, ca := rpctest.Bolt, newAuthority(t)
	secure := &proxy.Secure{Identity: ca.store(t, stockID, later, ca), Only: true}
	dialer := &proxy.Dialer{Identity: ca.store(t, "spiffe://mesh.test/bank/pay", later, ca), Only: true}
	hangs := newSecureRPCBed(t, d, rawServer(t, func(nc net.Conn) { io.Copy(io.Discard, nc) }), secure, dialer)
	fine := newSecureRPCBed(t, d, "", secure, dialer)

	directory := mesh.NewDirectory(static{{Address: hangs.inboundPort, Weight: 100, Identity: stockID}, {Address: fine.inboundPort, Weight: 100, Identity: stockID}}, slog.New(slog.DiscardHandler))
	t.Cleanup(directory.Close)
	e := &mesh.Router{Directory: directory, Policies: &mesh.Table{}, MaxHops: 8}
	if err := e.Policies.Apply(mesh.Policies{Defaults: mesh.DefaultRule(), Routes: []mesh.Route{{Service: "peer.Hello", Idempotent: true,
		Rule: mesh.Rule{Balance: mesh.RoundRobin, Retry: mesh.Retry{PerTry: time.Second}}}}}, "shop"); err != nil {
		t.Fatal(err)
	}
	m, r := &monitor{}, &rpcproxy.Relay{}
	(&proxy.RPCOutbound{Engine: e, Monitor: m, Caller: components.Caller{Namespace: "bank", App: "pay"}, Codecs: map[string]rpcproxy.Codec{"bolt": d},
		Dial: func(ctx context.Context, in *mesh.Instance) (net.Conn, error) { return dialer.Dial(ctx, in, "bolt") }}).Bind(r)
	nc, err := net.Dial("tcp", listenRPC(t, r, d, nil))
	if err != nil {
		t.Fatal(err)
	}
	defer nc.Close()
	nc.SetDeadline(time.Now().Add(20 * time.Second))
	client := &rpctest.Wire{Conn: nc, Dialect: d}

	calls := 0
	for met := false; !met; { // until its turn has come
		calls++
		frame, err := d.AppendRequest(nil, d.Request(7, false, 10*time.Second, "echo", "body"), 7, rpcproxy.Edit{Set: []rpcproxy.Header{{Name: proxy.HeaderService, Value: "shop/peer.Hello"}}})
		if err != nil {
			t.Fatal(err)
		}
		client.Write(frame)
		if f, err := client.Next(); err != nil || f.ID != 7 || !strings.Contains(d.Body(f.Bytes), "body") {
			t.Fatalf("answered %q, %v", f.Bytes, err)
		}
		hangs.in.mu.Lock()
		met = hangs.in.begun > 0
		hangs.in.mu.Unlock()
	}
	if last := m.all(t, calls)[calls-1]; last.Attempts != 2 || last.Code != 0 {
		t.Errorf("recorded %+v", last)
	}
	if n := fine.server.Times("echo"); n != calls {
		t.Errorf("%d calls came to the instance that answers, of %d", n, calls)
	}
	if r := fine.in.all(t, calls)[calls-1]; r.Source != "bank/pay" {
		t.Errorf("the caller is %s, its certificate says bank/pay", r.Source)
	}
	x := e.Explain(&mesh.Request{Protocol: "bolt", Service: mesh.Service{Namespace: "shop", Name: "peer.Hello", Version: "1.0", Protocol: "bolt"}})
	for _, in := range x.Instances {
		if want := map[string]int64{hangs.inboundPort: 1}[in.Address]; in.Failures != want || in.Active != 0 {
			t.Errorf("%s has %d failures and %d calls under way, want %d failures", in.Address, in.Failures, in.Active, want)
		}
	}
	if len(x.Instances) != 2 || x.Budget != 1 {
		t.Errorf("%d instances, %v repetitions are left of the 2 that are lent", len(x.Instances), x.Budget)
	}
}
