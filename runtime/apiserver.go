package runtime

import (
	"context"
	"errors"
	"fmt"
	"net"

	"github.com/outrigger-mesh/outrigger/runtime/access"
	"github.com/outrigger-mesh/outrigger/runtime/api/native"
	"github.com/outrigger-mesh/outrigger/runtime/api/server"
	"github.com/outrigger-mesh/outrigger/runtime/config"
	"github.com/outrigger-mesh/outrigger/runtime/mesh"
	contract "github.com/outrigger-mesh/outrigger/runtime/mesh/control"
	"github.com/outrigger-mesh/outrigger/runtime/mesh/grpcproxy"
	"github.com/outrigger-mesh/outrigger/runtime/mesh/proxy"
	"github.com/outrigger-mesh/outrigger/runtime/mesh/rpcproxy"
)

// apiServer is the application's side: the API, and its calls to others through the mesh.
type apiServer struct {
	*server.Server
	doors     *proxy.Dispatch // the listeners of gRPC
	mesh      *proxy.Dispatch // that of the application's calls to others
	rpc       rpcOutbound
	control   *contract.Server // SOFARPC's registry; nil: there is none
	http1     httpOutbound
	tcp       *proxy.TCPOutbound
	invoker   *proxy.Invoker
	outbounds []*proxy.Outbound
}

func (s *sidecar) startAPI(context.Context) error {
	c := s.config()
	policy, err := accessPolicy(c, s.dataDir)
	if err != nil {
		return err
	}
	router := &mesh.Router{Directory: s.directory, Policies: s.policies, MaxHops: c.Mesh.MaxHops}
	bounded := *router // calls that pass unchanged keep the deadline they have, or none
	bounded.Timeout = c.Mesh.Outbound.Timeout
	self := &mesh.SelfCalls{Limit: c.Mesh.Outbound.SelfCalls, App: s.app, Own: s.publisher.Serves}
	calls, invocations := s.outbound(router, self), s.outbound(&bounded, self)
	invoker, err := proxy.NewInvoker(invocations, int(c.API.MaxMessageBytes))
	if err != nil {
		return err
	}
	a := &apiServer{invoker: invoker, outbounds: []*proxy.Outbound{calls, invocations}}
	a.doors = &proxy.Dispatch{Logger: s.log, Hint: httpHint(s.sockets.http.Addr()), Protocols: []proxy.Protocol{a.grpc()}}
	a.rpc, a.http1 = s.rpcOutbound(&bounded, self, policy), s.httpOutbound(router, self, policy)
	a.mesh = &proxy.Dispatch{Logger: s.log, MaxConns: maxConns,
		Protocols: append([]proxy.Protocol{a.grpc(), proxy.HTTPProtocol(a.http1.relay)}, proxy.RPCProtocols(a.rpc.relay, rpcCodecs)...)}
	a.Server, err = server.New(server.Options{Caller: s.app, Admin: s.sockets.admin.Addr().String(), Access: policy, Logger: s.log, Tracer: s.telemetry.Tracer,
		MaxMessage: c.API.MaxMessageBytes, MaxInFlight: c.API.MaxInFlight,
		Services: native.Deps{Caches: s.fronts.caches, Configs: s.fronts.configs, Secrets: s.fronts.secrets, States: s.fronts.states, PubSubs: s.fronts.pubsubs,
			Locks: s.fronts.locks, Sequences: s.fronts.sequences, Schedules: s.fronts.schedules, Transactions: s.fronts.transactions,
			Invoker: invoker, Draining: s.draining,
			Naming: &naming{publisher: s.publisher, directory: s.directory, outbound: s.sockets.outbound.Addr().String()}}})
	if err != nil {
		return errors.Join(err, invoker.Close(context.Background()))
	}
	calls.Bind(a.Relay(), a.Route)
	s.api = a
	s.branches.begin(invoker)
	s.telemetry.Metrics.Register(relayStats{map[string]*grpcproxy.Relay{"api": a.Relay(), "inbound": s.inbound.server.Relay}},
		rpcStats{map[string]*rpcproxy.Relay{"outbound": a.rpc.relay, "inbound": s.inbound.rpc}}, meshStats{s.rules, s.directory})
	s.serve("outbound", func() error { return a.mesh.Serve(s.sockets.outbound) })
	for name, ln := range map[string]net.Listener{"grpc": s.sockets.grpc, "unix": s.sockets.unix} {
		if ln != nil {
			s.serve(name, func() error { return a.doors.Serve(ln) })
		}
	}
	a.control = s.startControl(policy, a.mesh)
	a.tcp = s.startTCP(router, self, policy)
	s.http = &counted{Listener: s.sockets.http}
	s.serve("http", func() error { return a.ServeHTTP(s.http) })
	return nil
}

// grpc is all that is spoken on the sockets of the gRPC API, and a part of what is on the outbound one.
func (a *apiServer) grpc() proxy.Protocol {
	return proxy.Protocol{Name: "grpc", Match: proxy.Prefix(proxy.HTTP2), Serve: func(nc net.Conn, head []byte) {
		a.ServeConn(grpcproxy.Prefixed(nc, head))
	}}
}

// httpHint is for those who have taken one port for the other.
func httpHint(api net.Addr) string {
	return fmt.Sprintf("HTTP with JSON is on http://%[1]s, for example: curl -H 'content-type: application/json' -d '{\"key\":\"a\"}' "+
		"http://%[1]s/outrigger.cache.v1.Cache/Exists", api)
}

// Shutdown is that of the server; connections that have said nothing yet end, too.
func (a *apiServer) Shutdown(ctx context.Context) error {
	err := together(ctx, a.Server.Shutdown, a.rpc.relay.Shutdown, a.http1.relay.Shutdown, a.tcp.Shutdown)
	if a.control != nil {
		err = errors.Join(err, a.control.Shutdown(ctx))
	}
	a.doors.Close()
	a.mesh.Close()
	return err
}

// clients is how many connections the application has to the sidecar, those of the HTTP API aside.
func (a *apiServer) clients() int {
	return a.Relay().Stats().Downstream + a.rpc.relay.Stats().Downstream + a.http1.relay.Stats().Downstream + a.tcp.Open()
}

// outbound makes a side of the mesh that calls leave by; it sweeps unused connections until the sidecar ends.
func (s *sidecar) outbound(e mesh.Engine, self *mesh.SelfCalls) *proxy.Outbound {
	o := &proxy.Outbound{Engine: e, Monitor: monitor{s.telemetry}, Caller: s.app, Self: self, Dial: func(ctx context.Context, in *mesh.Instance) (net.Conn, error) {
		return s.dial(ctx, in, "grpc")
	}}
	s.tasks.Go(func() { proxy.Sweep(s.bg, o) })
	return o
}

func accessPolicy(c *config.Config, dataDir string) (*access.Policy, error) {
	token, err := access.LoadToken(dataDir)
	if err != nil {
		return nil, err
	}
	return &access.Policy{Mode: access.Mode(c.API.Access), Token: token}, nil
}
