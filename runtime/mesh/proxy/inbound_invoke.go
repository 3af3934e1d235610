package proxy

import (
	"context"
	"crypto/tls"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"github.com/outrigger-mesh/outrigger/components"
	"github.com/outrigger-mesh/outrigger/internal/failpoint"
	invocationv1 "github.com/outrigger-mesh/outrigger/proto/outrigger/invocation/v1"
	"github.com/outrigger-mesh/outrigger/runtime/api"
	"github.com/outrigger-mesh/outrigger/runtime/mesh"
	"github.com/outrigger-mesh/outrigger/runtime/mesh/grpcproxy"
)

// Callee calls the application beside this sidecar. An error that is a gRPC status is the application's word; others are the
// sidecar's, of the kinds of components.
type Callee interface {
	Invoke(ctx context.Context, in *invocationv1.InvokeRequest, md metadata.MD) (*invocationv1.InvokeResponse, error)
}

// InvokeServer takes the Invoke calls of other sidecars in, by the same rules as the calls that Inbound relays.
type InvokeServer struct {
	invocationv1.UnimplementedInvocationServer
	Inbound *Inbound // its Port is not asked
	// App is the application as it serves a service, named without its namespace, for a call; false if it does not.
	App func(service string, in *invocationv1.InvokeRequest) (Callee, bool)
}

// Invoke hands one call to the application.
func (s *InvokeServer) Invoke(ctx context.Context, in *invocationv1.InvokeRequest) (_ *invocationv1.InvokeResponse, err error) {
	md, _ := metadata.FromIncomingContext(ctx)
	var state *tls.ConnectionState
	if k := grpcproxy.FromContext(ctx); k != nil {
		h := k.Headers()
		state = h.TLS()
	}
	peer, source := sourceOf(state, first(md, HeaderSource))
	r := &Record{Direction: "inbound", Protocol: "grpc", Method: in.GetMethod(), Source: source, Rule: "default",
		Start: time.Now(), Traceparent: first(md, "traceparent"), Tracestate: first(md, "tracestate"),
		Code: int(codes.Internal)} // unless it comes to its end
	r.Service, _ = ParseService(in.GetService(), s.Inbound.App.Namespace)
	s.Inbound.Monitor.Begin(r)
	defer func() {
		r.Duration = time.Since(r.Start)
		s.Inbound.Monitor.End(r)
	}()
	out, origin, err := s.invoke(ctx, in, md, r, peer)
	if e := grpc.SetTrailer(ctx, metadata.Pairs(HeaderOrigin, origin)); err == nil {
		err = e
	}
	if err != nil {
		st := api.Status(err)
		r.Code = int(st.Code())
		return nil, st.Err()
	}
	r.Code = int(codes.OK)
	r.Sent, r.Received = int64(len(in.GetData())), int64(len(out.GetData()))
	return out, nil
}

// invoke answers also who has spoken.
func (s *InvokeServer) invoke(ctx context.Context, in *invocationv1.InvokeRequest, md metadata.MD, r *Record, peer components.Caller) (out *invocationv1.InvokeResponse, origin string, err error) {
	hops := first(md, HeaderHops)
	app, serves := s.App(r.Service.Name, in)
	err = s.Inbound.admit(serves, r.Service, &mesh.Request{Protocol: r.Protocol, Service: r.Service, Method: r.Method, Source: peer, Hops: parseHops(hops)})
	if err != nil {
		r.Flag = grpcproxy.FlagNoRoute // as of a call that the relay does not let in
		return nil, "sidecar", err
	}
	defer s.Inbound.Gate.Leave()
	r.Upstream, r.Attempts = "app", 1
	forward := metadata.MD{}
	for name, value := range map[string]string{HeaderHops: hops, "traceparent": r.Traceparent, "tracestate": r.Tracestate, "baggage": first(md, "baggage")} {
		if value != "" {
			forward.Set(name, value)
		}
	}
	failpoint.Hit("participant.call.arrived", "")
	out, err = app.Invoke(ctx, in, forward)
	failpoint.Hit("participant.call.answered", "")
	if _, spoke := err.(interface{ GRPCStatus() *status.Status }); err != nil && !spoke {
		return nil, "sidecar", err
	}
	return out, "app", err
}

func first(md metadata.MD, name string) string {
	if v := md.Get(name); len(v) > 0 {
		return v[0]
	}
	return ""
}
