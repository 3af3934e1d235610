package server

import (
	"google.golang.org/grpc/health"
	healthv1 "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/reflection"
)

// readiness is grpc.health.v1: all services are ready at once, since all are the sidecar's.
type readiness struct {
	server   *health.Server
	services []string
}

func serveHealth(r *registrar) *readiness {
	h := &readiness{server: health.NewServer(), services: []string{""}}
	for name := range r.GetServiceInfo() {
		h.services = append(h.services, name)
	}
	healthv1.RegisterHealthServer(r, h.server)
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

// reflect serves both versions of grpc.reflection.
func reflect(r *registrar) { reflection.Register(r) }
