package proxy

import (
	"context"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	invocationv1 "github.com/outrigger-mesh/outrigger/proto/outrigger/invocation/v1"
	"github.com/outrigger-mesh/outrigger/runtime/api"
	"github.com/outrigger-mesh/outrigger/runtime/mesh"
)

// Callee calls the application beside this sidecar.
type Callee interface {
	Invoke(ctx context.Context, in *invocationv1.InvokeRequest, md metadata.MD) (*invocationv1.InvokeResponse, error)
}

// InvokeServer takes the Invoke calls of other sidecars in, by the same rules as the calls that Inbound relays.
type InvokeServer struct {
	invocationv1.UnimplementedInvocationServer
	Inbound *Inbound
	App     Callee
}

// Invoke hands one call to the application.
func (s *InvokeServer) Invoke(ctx context.Context, in *invocationv1.InvokeRequest) (_ *invocationv1.InvokeResponse, err error) {
	md, _ := metadata.FromIncomingContext(ctx)
	r := &Record{Direction: "inbound", Protocol: "grpc", Method: in.GetMethod(), Source: first(md, HeaderSource), Rule: "default",
		Upstream: "app", Attempts: 1, Start: time.Now(), Traceparent: first(md, "traceparent"), Tracestate: first(md, "tracestate")}
	r.Service, _ = ParseService(in.GetService(), s.Inbound.App.Namespace)
	s.Inbound.Monitor.Begin(r)
	defer func() {
		if err != nil {
			st := api.Status(err)
			r.Code, err = int(st.Code()), st.Err()
		}
		r.Duration = time.Since(r.Start)
		s.Inbound.Monitor.End(r)
	}()
	hops := first(md, HeaderHops)
	if err := s.Inbound.Admit(r.Service, &mesh.Request{Protocol: r.Protocol, Service: r.Service, Method: r.Method, Hops: parseHops(hops)}); err != nil {
		return nil, err
	}
	defer s.Inbound.Gate.Leave()
	forward := metadata.MD{HeaderHops: {hops}}
	for _, name := range [...]string{"traceparent", "tracestate", "baggage"} {
		if v := first(md, name); v != "" {
			forward.Set(name, v)
		}
	}
	if r.Traceparent != "" {
		forward.Set("traceparent", r.Traceparent)
	}
	origin := "app"
	out, err := s.App.Invoke(ctx, in, forward)
	if _, spoke := status.FromError(err); err != nil && !spoke {
		origin = "sidecar"
	}
	if e := grpc.SetTrailer(ctx, metadata.Pairs(HeaderOrigin, origin)); e != nil {
		return nil, e
	}
	return out, err
}

func first(md metadata.MD, name string) string {
	if v := md.Get(name); len(v) > 0 {
		return v[0]
	}
	return ""
}
