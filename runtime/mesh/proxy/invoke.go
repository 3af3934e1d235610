package proxy

import (
	"context"
	"errors"
	"fmt"
	"net"
	"slices"
	"time"

	"go.opentelemetry.io/otel/trace"
	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"github.com/outrigger-mesh/outrigger/components"
	invocationv1 "github.com/outrigger-mesh/outrigger/proto/outrigger/invocation/v1"
	"github.com/outrigger-mesh/outrigger/runtime/mesh"
	"github.com/outrigger-mesh/outrigger/runtime/mesh/grpcproxy"
)

// Invoker sends Invoke calls through an outbound side of its own: as a call of the same method to the peer's sidecar, which
// calls its application.
type Invoker struct {
	relay  *grpcproxy.Relay
	listen *grpcproxy.MemListener
	conn   *grpc.ClientConn
	client invocationv1.InvocationClient
}

// maxInvokes are under way at once: all of them share a connection in memory, and slow peers must not hold up the others' calls.
const maxInvokes = 10_000

// invokeMargins has an Invoke that is too late end before the API's relay, which the call came through, ends it without knowing
// what it waits for. There, too, the deadline that goes with the call is the caller's own.
const invokeMargins = 2

// NewInvoker binds out to a relay in memory. Messages over limit bytes are refused.
func NewInvoker(out *Outbound, limit int) (*Invoker, error) {
	i := &Invoker{relay: &grpcproxy.Relay{MaxStreams: maxInvokes, Margins: invokeMargins}, listen: grpcproxy.NewMemListener()}
	out.Bind(i.relay, nil)
	conn, err := grpc.NewClient("passthrough:///outbound", grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithContextDialer(func(context.Context, string) (net.Conn, error) { return i.listen.Dial() }),
		grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(limit), grpc.MaxCallSendMsgSize(limit)))
	if err != nil {
		return nil, err
	}
	i.conn, i.client = conn, invocationv1.NewInvocationClient(conn)
	go i.relay.Serve(i.listen)
	return i, nil
}

// Close lets calls under way end until ctx does.
func (i *Invoker) Close(ctx context.Context) error {
	i.listen.Close()
	return errors.Join(i.relay.Shutdown(ctx), i.conn.Close()) // that one cancels what is left
}

const idempotentAttempts = 3

// Invoke calls a method of another application. See invocation.v1.
func (i *Invoker) Invoke(ctx context.Context, caller components.Caller, in *invocationv1.InvokeRequest) (*invocationv1.InvokeResponse, error) {
	out, origin, err := i.Call(ctx, caller, in)
	if origin != "" {
		if e := grpc.SetTrailer(ctx, metadata.Pairs(HeaderOrigin, origin)); e != nil {
			return nil, e
		}
	}
	return out, err
}

// Call is Invoke for who is no server: it answers also who has spoken, "" if that is not known.
func (i *Invoker) Call(ctx context.Context, caller components.Caller, in *invocationv1.InvokeRequest) (_ *invocationv1.InvokeResponse, origin string, _ error) {
	s, ok := ParseService(in.GetService(), caller.Namespace)
	switch {
	case !ok:
		return nil, "", components.WithReason(fmt.Errorf("%w: service %q: write NAME or NAMESPACE/NAME", components.ErrInvalid, in.GetService()), mesh.ReasonNoService)
	case in.GetMethod() == "":
		return nil, "", fmt.Errorf("%w: method is empty", components.ErrInvalid)
	}
	if err := mesh.CheckMethod(in.GetMethod()); err != nil {
		return nil, "", err
	}
	md := along(ctx, s)
	if in.GetIdempotent() {
		md.Set(HeaderIdempotent, "true") // the outbound side repeats it, by the policies
	}
	ctx = metadata.NewOutgoingContext(ctx, md)
	for attempt := 1; ; attempt++ {
		var trailer metadata.MD
		out, err := i.client.Invoke(ctx, in, grpc.Trailer(&trailer))
		if err == nil {
			return out, "app", nil
		}
		if in.GetIdempotent() && attempt < idempotentAttempts && neverSent(err) && ctx.Err() == nil {
			select {
			case <-time.After(time.Duration(attempt) * 50 * time.Millisecond):
			case <-ctx.Done():
			}
			continue
		}
		return nil, first(trailer, HeaderOrigin), err
	}
}

// neverSent tells of an error that the call reached no instance: to try again in a moment costs nobody anything.
func neverSent(err error) bool {
	for _, d := range status.Convert(err).Details() {
		if info, ok := d.(*errdetails.ErrorInfo); ok && status.Code(err) == codes.Unavailable {
			return slices.Contains(unsentReasons, info.GetReason())
		}
	}
	return false
}

var unsentReasons = []string{grpcproxy.ReasonConnectFailed, grpcproxy.ReasonUpstreamClosed, string(mesh.ReasonNoInstance), string(mesh.ReasonRegistryAway)}

// along is what goes with the call: whom it is for, and what the caller handed on.
func along(ctx context.Context, s mesh.Service) metadata.MD {
	md := metadata.Pairs(HeaderService, s.Namespace+"/"+s.Name)
	came, _ := metadata.FromIncomingContext(ctx)
	for _, name := range [...]string{HeaderHops, "traceparent", "tracestate", "baggage"} {
		if v := came.Get(name); len(v) > 0 {
			md.Set(name, v...)
		}
	}
	if span := trace.SpanContextFromContext(ctx); span.IsValid() && !span.IsRemote() { // the call of the API's own
		md.Set("traceparent", fmt.Sprintf("00-%s-%s-%s", span.TraceID(), span.SpanID(), span.TraceFlags()))
	}
	return md
}
