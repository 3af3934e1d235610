package local_test

import (
	"context"
	"log/slog"
	"testing"

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
