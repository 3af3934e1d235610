package mesh_test

import (
	"errors"
	"testing"

	"github.com/outrigger-mesh/outrigger/components"
	"github.com/outrigger-mesh/outrigger/runtime/mesh"
)

func TestMethodsThatAreNeverProxied(t *testing.T) {
	for method, own := range map[string]bool{
		"/outrigger.cache.v1.Cache/Get": true, "outrigger.cache.v1.Cache/Get": true, "//outrigger.x/Y": true,
		"/grpc.health.v1.Health/Check": true, "/dapr.proto.runtime.v1.Dapr/GetState": true,
		"": false, "/": false, "/shop.v1.Stock/Get": false, "/outriggers.v1.Stock/Get": false, "orders/outrigger.x": false,
	} {
		if mesh.Own(method) != own || (mesh.CheckMethod(method) != nil) != own {
			t.Errorf("%q: a sidecar's own is %v, want %v", method, mesh.Own(method), own)
		}
	}
	var d *components.Detail
	if err := mesh.CheckMethod("/dapr.X/Y"); !errors.Is(err, components.ErrUnsupported) || !errors.As(err, &d) || d.Reason != mesh.ReasonUnknownMethod {
		t.Errorf("refused with %v", err)
	}
}
