package runtime

import (
	"context"
	"net"

	"github.com/outrigger-mesh/outrigger/runtime/access"
	"github.com/outrigger-mesh/outrigger/runtime/mesh"
	"github.com/outrigger-mesh/outrigger/runtime/mesh/proxy"
	"github.com/outrigger-mesh/outrigger/runtime/mesh/rpcproxy"
	"github.com/outrigger-mesh/outrigger/runtime/mesh/rpcproxy/bolt"
	"github.com/outrigger-mesh/outrigger/runtime/mesh/rpcproxy/dubbo"
)

// rpcCodecs are the framed protocols that the mesh carries.
var rpcCodecs = map[string]rpcproxy.Codec{"bolt": bolt.Codec{}, "dubbo": dubbo.Codec{}}

// rpcOutbound is the way that the application's calls of these protocols leave by.
type rpcOutbound struct {
	relay *rpcproxy.Relay
	out   *proxy.RPCOutbound
}

func (s *sidecar) rpcOutbound(e mesh.Engine, self *mesh.SelfCalls, policy *access.Policy) rpcOutbound {
	o := rpcOutbound{relay: s.newRPC("outbound"), out: &proxy.RPCOutbound{Engine: e, Monitor: monitor{s.telemetry}, Caller: s.app, Self: self, Codecs: rpcCodecs,
		Admit: func(tag any, header func(string) string) error { return policy.Admit(tag.(access.Peer), header) },
		Dial: func(ctx context.Context, in *mesh.Instance) (net.Conn, error) {
			return s.dial(ctx, in, in.Protocol)
		}}}
	o.relay.OnConn = func(nc net.Conn) any { return policy.Identify(nc) }
	o.out.Bind(o.relay)
	s.tasks.Go(func() { proxy.Sweep(s.bg, o.out) })
	return o
}

func (s *sidecar) rpcInbound(gate *mesh.Gate) *rpcproxy.Relay {
	r := s.newRPC("inbound")
	in := &proxy.RPCInbound{Gate: gate, Monitor: monitor{s.telemetry}, App: s.app, Codecs: rpcCodecs, Port: s.rpcPort}
	in.Bind(r)
	s.tasks.Go(func() { proxy.Sweep(s.bg, in) })
	return r
}

// metadataService is what Dubbo's consumers ask each application for, which does not publish it.
const metadataService = "org.apache.dubbo.metadata.MetadataService"

func (s *sidecar) rpcPort(of mesh.Service) (port int, ok bool) {
	if port, ok = s.publisher.Port(of.Name, of.Protocol); ok || of.Name != metadataService {
		return port, ok
	}
	c := s.config()
	if c.App.Protocol == "dubbo" && c.App.Port != 0 {
		return c.App.Port, true
	}
	for _, service := range c.App.Services {
		if service.Protocol == "dubbo" {
			return service.Port, true
		}
	}
	return 0, false
}

func (s *sidecar) newRPC(side string) *rpcproxy.Relay {
	return &rpcproxy.Relay{Fault: func(nc net.Conn, upstream bool, err error) {
		s.log.Warn("connection ended for a fault of the peer's", "side", side, "peer", nc.RemoteAddr().String(), "upstream", upstream, "err", err)
	}}
}
