package runtime

import (
	"context"
	"net"

	"github.com/outrigger-mesh/outrigger/runtime/access"
	"github.com/outrigger-mesh/outrigger/runtime/mesh"
	"github.com/outrigger-mesh/outrigger/runtime/mesh/proxy"
)

// startTCP serves mesh.outbound.tcp: a port for each service that is called by TCP.
func (s *sidecar) startTCP(e mesh.Engine, self *mesh.SelfCalls, policy *access.Policy) *proxy.TCPOutbound {
	o := &proxy.TCPOutbound{Engine: e, Monitor: monitor{s.telemetry}, Caller: s.app, Self: self,
		Admit: func(nc net.Conn) error { return policy.Admit(policy.Identify(nc), func(string) string { return "" }) },
		Dial: func(ctx context.Context, in *mesh.Instance) (net.Conn, error) {
			return s.dial(ctx, in, mesh.TCP)
		}}
	for i, to := range s.config().Mesh.Outbound.TCP {
		service, _ := proxy.ParseService(to.Service, s.app.Namespace) // it was checked
		s.serve("tcp of "+to.Service, func() error { return o.Serve(s.sockets.tcp[i], service, s.log.Warn) })
	}
	return o
}

func (s *sidecar) tcpInbound(gate *mesh.Gate) *proxy.TCPInbound {
	return &proxy.TCPInbound{Gate: gate, Monitor: monitor{s.telemetry}, App: s.app, Port: func(service string) (int, bool) {
		return s.publisher.Port(service, mesh.TCP)
	}}
}
