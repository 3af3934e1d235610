package mesh_test

import (
	"context"
	"log/slog"
	"testing"
	"testing/synctest"
	"time"

	"github.com/outrigger-mesh/outrigger/runtime/mesh"
)

// sources are a registry in the hands of a test, with instances of each service.
type sources map[mesh.Service]*source

func (s sources) Watch(ctx context.Context, of mesh.Service, report func([]mesh.Instance) error) error {
	return s[of].Watch(ctx, of, report)
}

// Of services with an instance at one address the first that is watched counts; an address that has gone is known for a while.
func TestServiceAtAnAddress(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		web := func(name string) mesh.Service {
			return mesh.Service{Namespace: "shop", Name: name, Protocol: mesh.HTTP}
		}
		rpc := mesh.Service{Namespace: "shop", Name: "a", Protocol: "bolt"}
		from := sources{web("stock"): newSource(), web("billing"): newSource(), web("other"): newSource(), rpc: newSource()}
		d := mesh.NewDirectory(from, slog.New(slog.DiscardHandler))
		defer d.Close()
		a := &mesh.Addresses{Directory: d, Watched: func() []mesh.Service { return []mesh.Service{web("stock"), web("billing")} }}
		a.Begin()
		d.Find(web("other"))
		d.Find(rpc)
		for _, s := range from {
			s.set(nil, "10.0.0.1:7080", "10.0.0.9:1")
		}
		from[web("billing")].set(nil, "10.0.0.1:7080", "10.0.0.2:7080")
		from[rpc].set(nil, "10.0.0.3:7080")
		is := func(address, want string) {
			t.Helper()
			synctest.Wait()
			if s, ok := a.Service(address); s.Name != want || ok != (want != "") {
				t.Errorf("at %s is %q", address, s.Name)
			}
		}
		is("10.0.0.1:7080", "stock")
		is("10.0.0.2:7080", "billing")
		is("10.0.0.3:7080", "")
		from[web("billing")].set(nil, "10.0.0.1:7080")
		time.Sleep(time.Second)
		is("10.0.0.2:7080", "billing")
		time.Sleep(59 * time.Second)
		is("10.0.0.2:7080", "billing")
		time.Sleep(2 * time.Second)
		is("10.0.0.2:7080", "")
	})
}
