package runtime

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"strings"

	invocationv1 "github.com/outrigger-mesh/outrigger/proto/outrigger/invocation/v1"
	"github.com/outrigger-mesh/outrigger/runtime/api/fastgrpc"
	"github.com/outrigger-mesh/outrigger/runtime/callback"
	"github.com/outrigger-mesh/outrigger/runtime/mesh"
	"github.com/outrigger-mesh/outrigger/runtime/mesh/grpcproxy"
	"github.com/outrigger-mesh/outrigger/runtime/mesh/httpproxy"
	"github.com/outrigger-mesh/outrigger/runtime/mesh/proxy"
	"github.com/outrigger-mesh/outrigger/runtime/mesh/rpcproxy"
)

// inbound is the side that other sidecars call.
type inbound struct {
	server   *fastgrpc.Server // the Invoke calls, and the relay of all others
	dispatch *proxy.Dispatch
	app      *callback.App
	gate     *mesh.Gate
	rpc      *rpcproxy.Relay  // calls of Bolt and Dubbo
	http1    *httpproxy.Relay // requests of HTTP/1.1
	tcp      *proxy.TCPInbound

	leaving chan error         // once turned away: how that ended
	cancel  context.CancelFunc // cuts it off
}

const (
	maxConns  = 50_000 // connections of other sidecars at once
	maxEach   = 12_500 // of these from one address
	localPath = "/outrigger.invocation.v1.Invocation/"
)

// peerResets is what a connection from another sidecar may reset in a second: it carries what many clients reset, each of which
// that sidecar holds to less.
const peerResets = 10_000

// webPort is where a call of HTTP or gRPC goes: not to what speaks a protocol of frames, which would wait for the rest of one.
func (s *sidecar) webPort(service string) (port int, ok bool) {
	return s.publisher.Port(service, "grpc", mesh.HTTP, "")
}

// invoked is the application for a call by Invoke: by the protocol of the service. One that is served by gRPC and by HTTP is called as the call is written.
func (s *sidecar) invoked(service string, in *invocationv1.InvokeRequest) (proxy.Callee, bool) {
	order := []string{mesh.HTTP, "grpc", ""}
	if callback.ForGRPC(in) {
		order[0], order[1] = order[1], order[0]
	}
	protocol, port, ok := s.publisher.Door(service, order...)
	return s.inbound.app.At(protocol, port, s.publisher.Uses), ok
}

func (s *sidecar) startInbound(context.Context) (err error) {
	c := s.config()
	i := &inbound{gate: &mesh.Gate{Concurrency: c.Mesh.Inbound.Concurrency, MaxHops: c.Mesh.MaxHops}}
	if i.app, err = callback.New(c.App.Protocol, c.App.Port, int64(c.API.MaxMessageBytes)); err != nil {
		return err
	}
	i.server = fastgrpc.New(fastgrpc.Options{MaxRequest: int(c.API.MaxMessageBytes), Hop: "inbound", Limit: "max_message_bytes",
		Patient: func(string) bool { return true }}) // each waits for the application; the gate bounds them
	i.server.Relay.MaxResets = peerResets
	in := &proxy.Inbound{Gate: i.gate, Monitor: monitor{s.telemetry}, App: s.app, Port: s.webPort}
	invocationv1.RegisterInvocationServer(i.server, &proxy.InvokeServer{Inbound: in, App: s.invoked})
	i.http1 = &httpproxy.Relay{FromSidecars: true}
	web := &proxy.HTTPInbound{Inbound: in}
	web.Bind(i.http1)
	s.tasks.Go(func() { proxy.Sweep(s.bg, in, web) })
	in.Bind(i.server.Relay, func(h *grpcproxy.Headers) (*grpcproxy.Upstream, error, bool) {
		if !strings.HasPrefix(h.Path(), localPath) {
			return nil, nil, false
		}
		up, err := i.server.Route(h)
		return up, err, true
	})
	i.rpc, i.tcp = s.rpcInbound(i.gate), s.tcpInbound(i.gate)
	i.dispatch = &proxy.Dispatch{Logger: s.log, Secure: s.secure(), MaxConns: maxConns, MaxEach: maxEach, Protocols: append([]proxy.Protocol{
		{Name: "grpc", Match: proxy.Prefix(proxy.HTTP2), Serve: func(nc net.Conn, head []byte) { i.server.ServeConn(grpcproxy.Prefixed(nc, head)) }},
		proxy.HTTPProtocol(i.http1), i.tcp.Protocol(),
	}, proxy.RPCProtocols(i.rpc, rpcCodecs)...)}
	s.inbound = i
	s.serve("inbound", func() error { return i.dispatch.Serve(s.sockets.inbound) })
	return nil
}

// serve runs an accept loop until its listener is closed. One that fails before that ends the sidecar: nobody could connect.
func (s *sidecar) serve(what string, loop func() error) {
	s.tasks.Go(func() {
		err := loop()
		if err == nil || errors.Is(err, net.ErrClosed) || errors.Is(err, http.ErrServerClosed) {
			return
		}
		s.log.Error("listener failed: the sidecar ends", "listener", what, "err", err)
		select {
		case s.broken <- fmt.Errorf("the %s listener failed: %w", what, err):
		default: // one is reason enough
		}
	})
}
