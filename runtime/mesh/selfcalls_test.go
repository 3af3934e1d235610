package mesh_test

import (
	"errors"
	"strings"
	"testing"

	"github.com/outrigger-mesh/outrigger/components"
	"github.com/outrigger-mesh/outrigger/runtime/mesh"
)

func TestSelfCallsAreBounded(t *testing.T) {
	c := &mesh.SelfCalls{Limit: 2, App: components.Caller{Namespace: "shop", App: "orders"},
		Own: func(name string) bool { return name == "orders" || name == "baskets" }}
	enter := func(namespace, name string, counted bool) {
		t.Helper()
		if got, err := c.Enter(mesh.Service{Namespace: namespace, Name: name}); got != counted || err != nil {
			t.Fatalf("%s/%s: counted %v, %v", namespace, name, got, err)
		}
	}
	enter("shop", "orders", true)
	for range 10 { // of others there may be any number
		enter("shop", "stock", false)
		enter("office", "orders", false)
	}
	enter("shop", "baskets", true)
	_, err := c.Enter(mesh.Service{Namespace: "shop", Name: "orders"})
	var detail *components.Detail
	if !errors.Is(err, components.ErrPrecondition) || !errors.As(err, &detail) || detail.Reason != mesh.ReasonTooManyHops ||
		detail.Metadata["limit"] != "mesh.outbound.self_calls" || !strings.Contains(err.Error(), "2 calls of shop/orders to itself") {
		t.Fatalf("one too many: %v", err)
	}
	c.Leave()
	enter("shop", "orders", true)
}

func TestNoLimitOfSelfCalls(t *testing.T) {
	c := &mesh.SelfCalls{App: components.Caller{Namespace: "shop", App: "orders"}, Own: func(string) bool { return true }}
	for range 1000 {
		if counted, err := c.Enter(mesh.Service{Namespace: "shop", Name: "orders"}); counted || err != nil {
			t.Fatalf("counted %v, %v", counted, err)
		}
	}
}
