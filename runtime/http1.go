package runtime

import (
	"context"
	"net"
	"strings"

	"github.com/outrigger-mesh/outrigger/runtime/access"
	"github.com/outrigger-mesh/outrigger/runtime/mesh"
	"github.com/outrigger-mesh/outrigger/runtime/mesh/httpproxy"
	"github.com/outrigger-mesh/outrigger/runtime/mesh/proxy"
)

// httpOutbound is the way of the application's requests of HTTP/1.1 to others.
type httpOutbound struct {
	relay *httpproxy.Relay
	out   *proxy.HTTPOutbound
}

func (s *sidecar) httpOutbound(e mesh.Engine, self *mesh.SelfCalls, policy *access.Policy) httpOutbound {
	addresses := &mesh.Addresses{Directory: s.directory, Watched: s.watched}
	addresses.Begin()
	h := httpOutbound{relay: &httpproxy.Relay{ToSidecars: true, OnConn: func(nc net.Conn) any { return policy.Identify(nc) }}, out: &proxy.HTTPOutbound{Engine: e,
		Monitor: monitor{s.telemetry}, Caller: s.app, Self: self, ServiceAt: addresses.Service, Passthrough: s.config().Mesh.Outbound.Passthrough,
		Admit: func(tag any, header func(string) string) error { return policy.Admit(tag.(access.Peer), header) },
		Dial: func(ctx context.Context, to *mesh.Instance) (net.Conn, error) {
			return s.dial(ctx, to, "http")
		}}}
	h.out.Bind(h.relay)
	s.tasks.Go(func() { proxy.Sweep(s.bg, h.out) })
	return h
}

// watched are the services whose instances' addresses the application names instead of them.
func (s *sidecar) watched() []mesh.Service {
	var all []mesh.Service
	for _, name := range s.config().Mesh.Outbound.Watch {
		namespace, name, ok := strings.Cut(name, "/")
		if !ok {
			namespace, name = s.app.Namespace, namespace
		}
		all = append(all, mesh.Service{Namespace: namespace, Name: name, Protocol: mesh.HTTP})
	}
	return all
}
