//go:build !race

// (The race detector has pools forget what is put into them.)

package api_test

import (
	"context"
	"log/slog"
	"testing"

	"github.com/outrigger-mesh/outrigger/components"
	"github.com/outrigger-mesh/outrigger/runtime/api"

	"google.golang.org/grpc"
	healthv1 "google.golang.org/grpc/health/grpc_health_v1"
)

// taken is what was registered last.
type taken struct{ desc *grpc.ServiceDesc }

func (k *taken) RegisterService(d *grpc.ServiceDesc, _ any) { k.desc = d }

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
