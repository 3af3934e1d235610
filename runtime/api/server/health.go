package server

import (
	"context"

	"github.com/outrigger-mesh/outrigger/components"

	"google.golang.org/grpc"
	"google.golang.org/grpc/health"
	healthv1 "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/reflection"
)

// readiness is grpc.health.v1: all services are ready at once, since all are the sidecar's.
type readiness struct {
	server   *health.Server
	services []string
}

func serveHealth(r *registrar, app components.Caller, admin string) *readiness {
	h := &readiness{server: health.NewServer(), services: []string{""}}
	for name := range r.GetServiceInfo() {
		h.services = append(h.services, name)
	}
	header := metadata.Pairs(appHeader, app.String())
	if admin != "" {
		header.Set(adminHeader, admin)
	}
	healthv1.RegisterHealthServer(r, owned{h.server, header})
	h.set(false)
	return h
}

func (h *readiness) set(ready bool) {
	state := healthv1.HealthCheckResponse_NOT_SERVING
	if ready {
		state = healthv1.HealthCheckResponse_SERVING
	}
	for _, name := range h.services {
		h.server.SetServingStatus(name, state)
	}
}

const (
	// appHeader is NAMESPACE/APP, so that an application which has found some sidecar knows whose it is.
	appHeader = "outrigger-app"
	// adminHeader is HOST:PORT of the admin pages, so that who has found the API finds them too.
	adminHeader = "outrigger-admin"
)

// owned says with each answer whose sidecar it is.
type owned struct {
	*health.Server
	header metadata.MD
}

func (o owned) Check(ctx context.Context, in *healthv1.HealthCheckRequest) (*healthv1.HealthCheckResponse, error) {
	if err := grpc.SetHeader(ctx, o.header); err != nil {
		return nil, err
	}
	return o.Server.Check(ctx, in)
}

// reflect serves both versions of grpc.reflection.
func reflect(r *registrar) { reflection.Register(r) }
