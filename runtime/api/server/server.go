// Package server assembles the API: the engine that serves gRPC, the guard around each method, who may call, the services,
// health, reflection, and HTTP/JSON over the same handlers.
package server

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	nethttp "net/http"
	"sync"

	"github.com/outrigger-mesh/outrigger/components"
	"github.com/outrigger-mesh/outrigger/runtime/access"
	"github.com/outrigger-mesh/outrigger/runtime/api"
	"github.com/outrigger-mesh/outrigger/runtime/api/fastgrpc"
	"github.com/outrigger-mesh/outrigger/runtime/api/http"
	"github.com/outrigger-mesh/outrigger/runtime/api/native"
	"github.com/outrigger-mesh/outrigger/runtime/mesh/grpcproxy"
	"github.com/outrigger-mesh/outrigger/runtime/telemetry"

	"google.golang.org/grpc"
)

// ReasonDraining is what streams end with when the sidecar does.
const ReasonDraining components.Reason = "DRAINING"

// Options are what a Server is made of.
type Options struct {
	Caller      components.Caller // the application whose calls come through these doors
	Admin       string            // HOST:PORT of the admin pages, which health answers tell; empty: there are none
	Access      *access.Policy
	Services    native.Deps
	MaxMessage  components.Size // of a request or an answer; 0: 4 MiB
	MaxInFlight components.Size // of requests that are handled at once; 0: 256 MiB
	Logger      *slog.Logger
	Tracer      *telemetry.Tracer // of spans; nil: none
	// Relayed has grpc-go serve every method, to compare with.
	Relayed bool
}

// Server is the API of one sidecar. Safe for concurrent use.
type Server struct {
	opts   Options
	fast   *fastgrpc.Server
	guard  *api.Guard
	health *readiness
	http   *nethttp.Server
	end    context.CancelCauseFunc // of streams
	hooked sync.Once
}

// New makes a server that serves nothing yet and is not ready.
func New(o Options) (*Server, error) {
	if o.MaxMessage == 0 {
		o.MaxMessage = 4 << 20
	}
	if o.MaxInFlight == 0 {
		o.MaxInFlight = 256 << 20
	}
	ending, end := context.WithCancelCause(context.Background())
	s := &Server{opts: o, end: end}
	s.guard = &api.Guard{MaxMessage: int(o.MaxMessage), Budget: api.NewBudget(o.MaxInFlight), Logger: o.Logger,
		Tracer: o.Tracer, Ending: ending}
	s.fast = fastgrpc.New(fastgrpc.Options{
		OnConn: s.identify, Inline: native.Inline, Patient: native.Patient, Relayed: o.Relayed,
		MaxRequest: int(o.MaxMessage), Hop: "api", Limit: "max_message_bytes",
		GRPC: []grpc.ServerOption{grpc.UnknownServiceHandler(s.guard.Stream("unknown", s.unknown))},
	})
	s.fast.Relay.Route = s.alone
	s.fast.Relay.Margins = 1 // it is the caller's own sidecar
	services := &registrar{s.guard.Around(s.fast), s.fast.GRPC}
	o.Services.MaxMessage = int(o.MaxMessage)
	native.Register(services, o.Services)
	s.health = serveHealth(services, o.Caller, o.Admin)
	reflect(services)
	handler, err := http.New(http.Options{GRPC: s.fast.GRPC, Access: o.Access, Caller: o.Caller,
		MaxMessage: int(o.MaxMessage), Budget: s.guard.Budget, Logger: o.Logger})
	if err != nil {
		return nil, fmt.Errorf("HTTP API: %w", err)
	}
	s.http = handler.Server()
	return s, nil
}

// registrar registers with the guard, and tells reflection what there is.
type registrar struct {
	grpc.ServiceRegistrar
	*grpc.Server
}

func (r *registrar) RegisterService(d *grpc.ServiceDesc, impl any) {
	r.ServiceRegistrar.RegisterService(d, impl)
}

// Relay is the engine of the gRPC socket. Before serving, the mesh may take over its hooks, but for OnConn and OnClose; its
// Route asks Server.Route first.
func (s *Server) Relay() *grpcproxy.Relay { return s.fast.Relay }

// SetReady says whether health is SERVING, of the server and of each service.
func (s *Server) SetReady(ready bool) { s.health.set(ready) }

// UnderWay is how many unary calls are with their methods now, by gRPC or HTTP. Streams, which may last for ever, are not counted.
func (s *Server) UnderWay() int64 { return s.guard.UnderWay() }

// Serve serves gRPC on a listener, TCP or unix, until it is closed. There may be several.
func (s *Server) Serve(ln net.Listener) error {
	s.hooked.Do(s.hook)
	return s.fast.Serve(ln)
}

// ServeConn serves gRPC on one connection until it ends.
func (s *Server) ServeConn(nc net.Conn) {
	s.hooked.Do(s.hook)
	s.fast.ServeConn(nc)
}

// ServeHTTP serves HTTP/JSON on a listener until it is closed.
func (s *Server) ServeHTTP(ln net.Listener) error { return s.http.Serve(ln) }

// Shutdown ends streams with UNAVAILABLE, reason DRAINING, has clients go elsewhere, waits for calls under way until ctx
// ends, and closes all connections. Listeners of gRPC are the caller's to close.
func (s *Server) Shutdown(ctx context.Context) error {
	s.SetReady(false)
	s.end(components.WithReason(fmt.Errorf("%w: the sidecar is stopping", components.ErrUnavailable), ReasonDraining))
	var httpErr error
	var done sync.WaitGroup
	done.Go(func() { httpErr = s.http.Shutdown(ctx) })
	err := s.fast.Relay.Shutdown(ctx)
	done.Wait()
	s.fast.Close() // not before: HTTP's calls are within its grpc-go
	return errors.Join(err, httpErr, s.http.Close())
}

// Close ends all calls at once.
func (s *Server) Close() error {
	s.end(nil)
	s.fast.Close()
	return s.http.Close()
}
