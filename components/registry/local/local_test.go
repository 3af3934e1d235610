package local_test

import (
	"context"
	"log/slog"
	"testing"

	"github.com/outrigger-mesh/outrigger/components"
	"github.com/outrigger-mesh/outrigger/components/registry"
	"github.com/outrigger-mesh/outrigger/components/registry/local"
	"github.com/outrigger-mesh/outrigger/components/registry/registrytest"
)

// open opens a driver on a folder; each shared is a process of its own.
func open(t *testing.T, dir string, shared *components.Shared) registry.Driver {
	t.Helper()
	env := components.Env{ID: components.ID{Capability: "registry", Name: "default", Driver: "local"}, Logger: slog.New(slog.DiscardHandler),
		DataDir: dir, Shared: shared}
	d, err := local.Open(context.WithoutCancel(t.Context()), env, local.Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { shut(t, d) })
	return d
}

func shut(t *testing.T, d registry.Driver) {
	t.Helper()
	if err := d.(components.Closer).Close(context.WithoutCancel(t.Context())); err != nil {
		t.Error(err)
	}
}

// backend opens each driver in a process of its own; the first owns the store.
func backend(t *testing.T, process func() *components.Shared) registrytest.Backend {
	dir := t.TempDir()
	outside := open(t, dir, process())
	return registrytest.Backend{
		Open: func() registry.Driver { return open(t, dir, process()) },
		Put: func(r registry.Record) {
			if err := outside.Register(t.Context(), r); err != nil {
				t.Error(err)
			}
		},
		Remove: func(s registry.Service, address string) {
			if err := outside.Deregister(t.Context(), s, address); err != nil {
				t.Error(err)
			}
		}}
}

func TestConformance(t *testing.T) {
	registrytest.Run(t, func(t *testing.T) registrytest.Backend {
		one := components.NewShared()
		return backend(t, func() *components.Shared { return one })
	})
}

func TestConformanceOfClients(t *testing.T) {
	registrytest.Run(t, func(t *testing.T) registrytest.Backend { return backend(t, components.NewShared) })
}
