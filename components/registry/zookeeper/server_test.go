//go:build servers

package zookeeper_test

import (
	"crypto/rand"
	"log/slog"
	"os"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/outrigger-mesh/outrigger/components"
	"github.com/outrigger-mesh/outrigger/components/componenttest"
	"github.com/outrigger-mesh/outrigger/components/registry"
	"github.com/outrigger-mesh/outrigger/components/registry/registrytest"
	"github.com/outrigger-mesh/outrigger/components/registry/zookeeper"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func options(t *testing.T) zookeeper.Options {
	t.Helper()
	addresses := os.Getenv("OUTRIGGER_ZOOKEEPER")
	if addresses == "" {
		t.Fatal("OUTRIGGER_ZOOKEEPER is not set")
	}
	return zookeeper.Options{Addresses: strings.Split(addresses, ","), Prefix: "/test/" + rand.Text(), Session: 2 * time.Second, Timeout: 5 * time.Second}
}

func open(t *testing.T, o zookeeper.Options) registry.Driver {
	t.Helper()
	d, err := zookeeper.Open(t.Context(), components.Env{Logger: slog.New(slog.DiscardHandler)}, o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { componenttest.Close(t, d) })
	return d
}

func TestConformance(t *testing.T) {
	registrytest.Run(t, func(t *testing.T) registrytest.Backend {
		o := options(t)
		outside := open(t, o)
		return registrytest.Backend{
			Open: func() registry.Driver { return open(t, o) },
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
