package proxy

import (
	"context"
	"errors"
	"testing"

	"github.com/outrigger-mesh/outrigger/runtime/mesh/grpcproxy"
	"github.com/outrigger-mesh/outrigger/runtime/mesh/httpproxy"
	"github.com/outrigger-mesh/outrigger/runtime/mesh/rpcproxy"
)

func count[K comparable, U interface{ Close() }](p *pool[K, U]) (n int) {
	p.all.Range(func(any, any) bool { n++; return true })
	return n
}

// What an application has published once and does not any more is not kept: of each side that calls come in by, a port that nothing was sent to
// for a while is forgotten, and one that is used is not.
func TestPortsOfTheApplicationAreForgotten(t *testing.T) {
	grpc, http, rpc := &grpcproxy.Relay{}, &httpproxy.Relay{}, &rpcproxy.Relay{}
	t.Cleanup(func() { // they have no connection to wait for
		rpc.Close()
		if err := errors.Join(grpc.Shutdown(context.Background()), http.Shutdown(context.Background())); err != nil {
			t.Error(err)
		}
	})
	in := &Inbound{}
	web, framed := &HTTPInbound{Inbound: in}, &RPCInbound{Codecs: map[string]rpcproxy.Codec{}}
	in.Bind(grpc, nil)
	web.Bind(http)
	framed.Bind(rpc)
	use := func(port int) any {
		return [...]any{in.apps.get(port), web.apps.get(port), framed.apps.get(app{"bolt", port})}
	}
	first := use(1)
	for port := range 1000 {
		use(1 + port)
	}
	for range idleSweeps {
		for _, s := range []Side{in, web, framed} {
			s.sweep()
		}
		if use(1) != first {
			t.Fatal("a port that is used was forgotten")
		}
	}
	for name, n := range map[string]int{"grpc": count(&in.apps), "http": count(&web.apps), "rpc": count(&framed.apps)} {
		if n != 1000 {
			t.Errorf("%s: %d ports are known of 1000 that were used a while ago", name, n)
		}
	}
	for _, s := range []Side{in, web, framed} {
		s.sweep()
	}
	for name, n := range map[string]int{"grpc": count(&in.apps), "http": count(&web.apps), "rpc": count(&framed.apps)} {
		if n != 1 {
			t.Errorf("%s: %d ports are known, and one is used", name, n)
		}
	}
}
