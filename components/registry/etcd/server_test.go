//go:build servers

package etcd_test

import (
	"log/slog"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/outrigger-mesh/outrigger/components"
	"github.com/outrigger-mesh/outrigger/components/componenttest"
	"github.com/outrigger-mesh/outrigger/components/internal/etcdconn/etcdtest"
	"github.com/outrigger-mesh/outrigger/components/registry"
	"github.com/outrigger-mesh/outrigger/components/registry/etcd"
	"github.com/outrigger-mesh/outrigger/components/registry/registrytest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func open(t *testing.T, prefix string) registry.Driver {
	t.Helper()
	d, err := etcd.Open(t.Context(), components.Env{Logger: slog.New(slog.DiscardHandler)},
		etcd.Options{Etcd: etcdtest.Options(t), Prefix: prefix, TTL: 2 * time.Second})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { componenttest.Close(t, d) })
	return d
}

func TestConformance(t *testing.T) {
	registrytest.Run(t, func(t *testing.T) registrytest.Backend {
		prefix := etcdtest.Prefix()
		outside := open(t, prefix)
		return registrytest.Backend{
			Open: func() registry.Driver { return open(t, prefix) },
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
	})
}
