package local_test

import (
	"context"
	"log/slog"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/goleak"

	"github.com/outrigger-mesh/outrigger/components"
	"github.com/outrigger-mesh/outrigger/components/lock"
	"github.com/outrigger-mesh/outrigger/components/lock/local"
	"github.com/outrigger-mesh/outrigger/components/lock/locktest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// folder opens drivers on one folder, as the sidecars of a machine do.
func folder(t *testing.T, durability string) func(t *testing.T) lock.Driver {
	return process(t.TempDir(), durability)
}

// process opens drivers on a folder, as one sidecar does.
func process(dir, durability string) func(t *testing.T) lock.Driver {
	env := components.Env{ID: components.ID{Name: "default"}, Logger: slog.New(slog.DiscardHandler), DataDir: dir, Shared: components.NewShared()}
	return func(t *testing.T) lock.Driver {
		t.Helper()
		d, err := local.Open(context.Background(), env, local.Options{Durability: durability})
		if err != nil {
			t.Fatal(err)
		}
		return d
	}
}

func TestConformance(t *testing.T) {
	for _, durability := range []string{"disk", "os"} {
		t.Run(durability, func(t *testing.T) { locktest.Run(t, folder(t, durability)) })
	}
}

// TestConformanceOfAClient has the store owned by somebody else, who is called over the socket.
func TestConformanceOfAClient(t *testing.T) {
	dir := t.TempDir()
	owner := process(dir, "os")(t)
	t.Cleanup(func() { // the tests of the suite run until then
		if err := owner.(components.Closer).Close(context.WithoutCancel(t.Context())); err != nil {
			t.Error(err)
		}
	})
	locktest.Run(t, process(dir, "os"))
}

// TestTheStoresMetersAreShown where nothing but locks is on the store.
func TestTheStoresMetersAreShown(t *testing.T) {
	meter := prometheus.NewRegistry()
	env := components.Env{ID: components.ID{Name: "default"}, Logger: slog.New(slog.DiscardHandler), DataDir: t.TempDir(),
		Shared: components.NewShared(), Meter: meter}
	d, err := local.Open(t.Context(), env, local.Options{Durability: "os"})
	if err != nil {
		t.Fatal(err)
	}
	shown := func() int {
		families, err := meter.Gather()
		if err != nil {
			t.Error(err)
		}
		return len(families)
	}
	if n := shown(); n != 2 {
		t.Errorf("%d are shown, want commits and updates", n)
	}
	if err := d.(components.Closer).Close(context.WithoutCancel(t.Context())); err != nil {
		t.Error(err)
	}
	if n := shown(); n != 0 {
		t.Errorf("%d are shown when nothing is on the store", n)
	}
}
