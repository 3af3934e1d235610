//go:build servers

package etcd_test

import (
	"log/slog"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/outrigger-mesh/outrigger/components"
	"github.com/outrigger-mesh/outrigger/components/internal/etcdconn/etcdtest"
	"github.com/outrigger-mesh/outrigger/components/lock"
	"github.com/outrigger-mesh/outrigger/components/lock/etcd"
	"github.com/outrigger-mesh/outrigger/components/lock/locktest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func open(t *testing.T, o etcd.Options) lock.Driver {
	t.Helper()
	d, err := etcd.Open(t.Context(), components.Env{Logger: slog.New(slog.DiscardHandler)}, o)
	if err != nil {
		t.Fatal(err)
	}
	return d
}

// shortest is the shortest lease that etcd, as it is started for tests, gives.
const shortest = 2 * time.Second

func TestConformance(t *testing.T) {
	o := etcd.Options{Etcd: etcdtest.Options(t), Prefix: etcdtest.Prefix(), WaitTTL: 5 * time.Second}
	locktest.Suite{Lease: 1500 * time.Millisecond, Tolerance: shortest, Open: func(t *testing.T) lock.Driver { return open(t, o) }}.Run(t)
}
