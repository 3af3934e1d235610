package api_test

import (
	"context"
	"errors"
	"log/slog"
	"strings"
	"testing"

	"github.com/outrigger-mesh/outrigger/components"
	"github.com/outrigger-mesh/outrigger/runtime/api"
	"github.com/outrigger-mesh/outrigger/runtime/api/fastgrpc"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	healthv1 "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/protobuf/proto"
)

// registered is what was registered last.
type registered struct{ desc *grpc.ServiceDesc }

func (r *registered) RegisterService(d *grpc.ServiceDesc, _ any) { r.desc = d }

// deferring answers when it is told to.
type deferring struct {
	healthv1.UnimplementedHealthServer
	done func(proto.Message, error)
}

func (d *deferring) Check(context.Context, *healthv1.HealthCheckRequest) (*healthv1.HealthCheckResponse, error) {
	return nil, &fastgrpc.Later{Begin: func(done func(proto.Message, error)) { d.done = done }}
}

// Calls that answer later are under way, and have their place in the budget, until they do; what is wrong with an answer is told
// then, as of any other.
func TestGuardOfLateAnswers(t *testing.T) {
	const held = 100 // bytes of the request, at least
	budget := api.NewBudget(2 * held)
	g := &api.Guard{MaxMessage: 4 * held, Budget: budget, Logger: slog.New(slog.DiscardHandler)}
	var to registered
	srv := &deferring{}
	healthv1.RegisterHealthServer(g.Around(&to), srv)
	ctx := api.WithCaller(t.Context(), components.Caller{Namespace: "shop", App: "orders"})
	request := func(v any) error {
		v.(*healthv1.HealthCheckRequest).Service = strings.Repeat("x", held)
		return nil
	}
	for _, end := range []struct {
		answer *healthv1.HealthCheckResponse
		err    error
		want   codes.Code
	}{
		{answer: &healthv1.HealthCheckResponse{Status: healthv1.HealthCheckResponse_SERVING}},
		{err: components.ErrNotFound, want: codes.NotFound},
		{err: errors.New("odd"), want: codes.Internal},
		{answer: tooLarge(5 * held), want: codes.ResourceExhausted},
	} {
		_, err := to.desc.Methods[0].Handler(srv, ctx, request, nil)
		var later *fastgrpc.Later
		if !errors.As(err, &later) {
			t.Fatal(err)
		}
		var got proto.Message
		ended := 0
		later.Begin(func(answer proto.Message, failed error) { got, err, ended = answer, failed, ended+1 })
		if g.UnderWay() != 1 || budget.Enter(2*held) == nil {
			t.Error("the call is not under way, or has no place in the budget")
		}
		budget.Leave(2 * held)
		if end.answer == nil {
			srv.done(nil, end.err)
		} else {
			srv.done(end.answer, end.err)
		}
		code := codes.OK
		if st := fastgrpc.Status(err); err != nil {
			code = codes.Code(st.Code) //nolint:gosec // it was one
		}
		if ended != 1 || code != end.want || (got == nil) != (err != nil) {
			t.Errorf("%+v: ended %d times with %v, %v", end, ended, got, err)
		}
		if g.UnderWay() != 0 {
			t.Error("still under way")
		}
		if err := budget.Enter(2 * held); err != nil {
			t.Error("the budget:", err)
		}
		budget.Leave(2 * held)
	}
}

// tooLarge is an answer of n bytes, of fields that nobody knows.
func tooLarge(n int) *healthv1.HealthCheckResponse {
	out := &healthv1.HealthCheckResponse{}
	field := append([]byte{0x7a, byte(n&0x7f | 0x80), byte(n >> 7)}, make([]byte, n)...)
	out.ProtoReflect().SetUnknown(field)
	return out
}
