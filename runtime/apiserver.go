package runtime

import (
	"context"
	"errors"
	"net"
	"time"

	"github.com/outrigger-mesh/outrigger/runtime/access"
	"github.com/outrigger-mesh/outrigger/runtime/api/native"
	"github.com/outrigger-mesh/outrigger/runtime/api/server"
	"github.com/outrigger-mesh/outrigger/runtime/config"
	"github.com/outrigger-mesh/outrigger/runtime/mesh"
	"github.com/outrigger-mesh/outrigger/runtime/mesh/grpcproxy"
	"github.com/outrigger-mesh/outrigger/runtime/mesh/proxy"
)

// apiServer is the application's side: the API, and its calls to others through the mesh.
type apiServer struct {
	*server.Server
	invoker *proxy.Invoker
}

func (s *sidecar) startAPI(context.Context) error {
	c := s.config()
	policy, err := accessPolicy(c, s.dataDir)
	if err != nil {
		return err
	}
	router := &mesh.Router{Directory: s.directory, MaxHops: c.Mesh.MaxHops, Timeout: c.Mesh.Outbound.Timeout}
	invoker, err := proxy.NewInvoker(s.outbound(router), int(c.API.MaxMessageBytes))
	if err != nil {
		return err
	}
	a := &apiServer{invoker: invoker}
	a.Server, err = server.New(server.Options{Caller: s.app, Access: policy, Logger: s.log,
		MaxMessage: c.API.MaxMessageBytes, MaxInFlight: c.API.MaxInFlight,
		Services: native.Deps{Caches: s.fronts.caches, Configs: s.fronts.configs, Secrets: s.fronts.secrets, Invoker: invoker,
			Naming: &naming{publisher: s.publisher, directory: s.directory, outbound: s.sockets.outbound.Addr().String()}}})
	if err != nil {
		return errors.Join(err, invoker.Close(context.Background()))
	}
	s.outbound(router).Bind(a.Relay(), a.Route)
	s.api = a
	s.telemetry.Metrics.Register(relayStats{map[string]*grpcproxy.Relay{"api": a.Relay(), "inbound": s.inbound.server.Relay}})
	for name, ln := range map[string]net.Listener{"grpc": s.sockets.grpc, "unix": s.sockets.unix, "outbound": s.sockets.outbound} {
		if ln != nil {
			s.serve(name, func() error { return a.Serve(ln) })
		}
	}
	s.serve("http", func() error { return a.ServeHTTP(s.sockets.http) })
	return nil
}

// outbound makes a side of the mesh that calls leave by; it sweeps unused connections until the sidecar ends.
func (s *sidecar) outbound(e mesh.Engine) *proxy.Outbound {
	o := &proxy.Outbound{Engine: e, Monitor: monitor{s.telemetry}, Caller: s.app, Dial: func(ctx context.Context, address string) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, "tcp", address)
	}}
	s.tasks.Go(func() { o.Sweep(s.bg) })
	return o
}

func accessPolicy(c *config.Config, dataDir string) (*access.Policy, error) {
	token, err := access.LoadToken(dataDir)
	if err != nil {
		return nil, err
	}
	return &access.Policy{Mode: access.Mode(c.API.Access), Token: token}, nil
}

// stopAPI lets the application go on until it has gone, or as long as draining may take: it may still be finishing its own work.
func (s *sidecar) stopAPI(ctx context.Context) error {
	s.linger(ctx)
	for _, ln := range []net.Listener{s.sockets.grpc, s.sockets.unix, s.sockets.outbound} {
		if ln != nil {
			ln.Close()
		}
	}
	return errors.Join(s.api.Shutdown(ctx), s.api.invoker.Close(ctx))
}

const lingerCheck = 20 * time.Millisecond

func (s *sidecar) linger(ctx context.Context) {
	limit := time.After(s.config().Drain.Max)
	tick := time.NewTicker(lingerCheck)
	defer tick.Stop()
	for s.api.Relay().Stats().Downstream > 0 {
		select {
		case <-ctx.Done():
			return
		case <-limit:
			return
		case <-tick.C:
		}
	}
}

// unpublish is how the end begins: no new calls from others are asked for, but those that still come are taken for a while.
func (s *sidecar) unpublish(ctx context.Context) error {
	s.ending.Store(true)
	s.api.SetReady(false)
	err := s.publisher.Withdraw(ctx)
	select {
	case <-ctx.Done():
	case <-time.After(s.config().Drain.Propagation):
	}
	return err
}

func (s *sidecar) stopChild(ctx context.Context) error {
	if s.child == nil {
		return nil
	}
	limit, cancel := context.WithTimeout(ctx, s.config().Drain.Max)
	defer cancel()
	return s.child.stop(limit)
}
