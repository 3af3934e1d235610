//go:build servers

package nacos_test

import (
	"context"
	"crypto/rand"
	"log/slog"
	"os"
	"testing"

	"github.com/outrigger-mesh/outrigger/components"
	"github.com/outrigger-mesh/outrigger/components/registry"
	"github.com/outrigger-mesh/outrigger/components/registry/nacos"
	"github.com/outrigger-mesh/outrigger/components/registry/registrytest"
)

// server is the real one, as integration/servers starts it.
func server(t *testing.T) string {
	t.Helper()
	address := os.Getenv("OUTRIGGER_NACOS")
	if address == "" {
		t.Fatal("OUTRIGGER_NACOS is not set: go run ./integration/servers/cmd nacos -- go test -tags servers ...")
	}
	return address
}

// options are of namespaces that no other test has.
func options(t *testing.T) nacos.Options {
	defaults, ok := registry.Drivers.Defaults("nacos")
	if !ok {
		t.Fatal("there is no driver nacos")
	}
	o := defaults.(nacos.Options)
	o.Nacos.Addresses = []string{server(t)}
	o.Nacos.Username, o.Nacos.Password = os.Getenv("OUTRIGGER_NACOS_USER"), components.Secret(os.Getenv("OUTRIGGER_NACOS_PASSWORD"))
	o.Namespaces = map[string]string{"shop": "shop-" + rand.Text(), "other": "other-" + rand.Text()}
	return o
}

func open(t *testing.T, shared *components.Shared, o nacos.Options) registry.Driver {
	t.Helper()
	env := components.Env{ID: components.ID{Capability: "registry", Name: "default", Driver: "nacos"}, Shared: shared,
		Logger: slog.New(slog.NewTextHandler(t.Output(), nil))}
	d, err := nacos.Open(t.Context(), env, o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := d.(components.Closer).Close(context.WithoutCancel(t.Context())); err != nil {
			t.Error(err)
		}
	})
	return d
}

// past has another process change the registry.
func past(t *testing.T, o nacos.Options, shared *components.Shared) registrytest.Backend {
	other := open(t, nil, o)
	return registrytest.Backend{Open: func() registry.Driver { return open(t, shared, o) },
		Put: func(r registry.Record) {
			if err := other.Register(t.Context(), r); err != nil {
				t.Error(err)
			}
		},
		Remove: func(s registry.Service, address string) {
			if err := other.Deregister(t.Context(), s, address); err != nil {
				t.Error(err)
			}
		}}
}

// TestConformance has each instance be a process of its own.
func TestConformance(t *testing.T) {
	registrytest.Run(t, func(t *testing.T) registrytest.Backend { return past(t, options(t), nil) })
}

// TestConformanceOfOneConnection has the instances be components of one process.
func TestConformanceOfOneConnection(t *testing.T) {
	registrytest.Run(t, func(t *testing.T) registrytest.Backend { return past(t, options(t), components.NewShared()) })
}
