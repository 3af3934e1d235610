//go:build !race

// (The race detector has pools forget what is put into them.)

package api_test

import (
	"context"
	"log/slog"
	"testing"

	"github.com/outrigger-mesh/outrigger/components"
	"github.com/outrigger-mesh/outrigger/runtime/api"
	"github.com/outrigger-mesh/outrigger/runtime/api/fastgrpc"

	rpcstatus "google.golang.org/genproto/googleapis/rpc/status"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	healthv1 "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
)

// taken is what was registered last.
type taken struct{ desc *grpc.ServiceDesc }

func (k *taken) RegisterService(d *grpc.ServiceDesc, _ any) { k.desc = d }

// absent has nothing, and says so with the same error each time, as a component does.
type absent struct {
	healthv1.UnimplementedHealthServer
	err error
}

func (a *absent) Check(context.Context, *healthv1.HealthCheckRequest) (*healthv1.HealthCheckResponse, error) {
	return nil, a.err
}

func TestAbsentKeyCostsTheGuardNothing(t *testing.T) {
	var guarded taken
	g := &api.Guard{MaxMessage: 1 << 20, Budget: api.NewBudget(1 << 20), Logger: slog.New(slog.DiscardHandler)}
	srv := &absent{err: components.WithReason(components.ErrNotFound, "", "component", "sessions")}
	healthv1.RegisterHealthServer(g.Around(&guarded), srv)
	ctx := api.WithCaller(context.Background(), components.Caller{Namespace: "shop", App: "orders"})
	var err error
	n := testing.AllocsPerRun(1000, func() {
		_, err = guarded.desc.Methods[0].Handler(srv, ctx, func(any) error { return nil }, nil)
		if fastgrpc.Status(err) == nil {
			t.Error("no status")
		}
	})
	if n > 1 { // the request
		t.Errorf("%v allocations", n)
	}
	st := fastgrpc.Status(err)
	var wire rpcstatus.Status
	if err := proto.Unmarshal(st.Details, &wire); err != nil {
		t.Fatal(err)
	}
	info, _ := details(status.FromProto(&wire))
	if st.Code != int(codes.NotFound) || info.GetReason() != "KEY_NOT_FOUND" || info.GetMetadata()["component"] != "sessions" {
		t.Errorf("%v, %v", st, info)
	}
	if !proto.Equal(status.Convert(err).Proto(), &wire) {
		t.Errorf("grpc-go would answer %v, the relay %v", status.Convert(err).Proto(), &wire)
	}
}

func TestGuardAllocatesNothing(t *testing.T) {
	var bare, guarded taken
	healthv1.RegisterHealthServer(&bare, patient{})
	g := &api.Guard{MaxMessage: 1 << 20, Budget: api.NewBudget(1 << 20), Logger: slog.New(slog.DiscardHandler)}
	healthv1.RegisterHealthServer(g.Around(&guarded), patient{})
	ctx := api.WithCaller(context.Background(), components.Caller{Namespace: "shop", App: "orders"})
	allocations := func(k taken) float64 {
		handler, impl, read := k.desc.Methods[0].Handler, any(patient{}), func(any) error { return nil }
		return testing.AllocsPerRun(1000, func() {
			if _, err := handler(impl, ctx, read, nil); err != nil {
				t.Error(err)
			}
		})
	}
	if b, g := allocations(bare), allocations(guarded); g > b {
		t.Errorf("%v allocations with the guard, %v without", g, b)
	}
}
