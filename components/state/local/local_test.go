package local_test

import (
	"context"
	"log/slog"
	"testing"

	"go.uber.org/goleak"

	"github.com/outrigger-mesh/outrigger/components"
	"github.com/outrigger-mesh/outrigger/components/state"
	_ "github.com/outrigger-mesh/outrigger/components/state/local"
	"github.com/outrigger-mesh/outrigger/components/state/statetest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// opener makes drivers on one folder, as a process would.
func opener(dir string) func(t *testing.T) state.Driver {
	shared := components.NewShared()
	return func(t *testing.T) state.Driver {
		t.Helper()
		options, err := state.Drivers.Decode("local", func(any) error { return nil })
		if err != nil {
			t.Fatal(err)
		}
		env := components.Env{ID: components.ID{Capability: "state", Name: "default", Driver: "local"}, Logger: slog.New(slog.DiscardHandler),
			DataDir: dir, Shared: shared}
		d, err := state.Drivers.Open(context.WithoutCancel(t.Context()), "local", env, options)
		if err != nil {
			t.Fatal(err)
		}
		return d
	}
}

func TestConformance(t *testing.T) { statetest.Run(t, opener(t.TempDir())) }

// TestConformanceOfAClient has the store owned by somebody else, who is called over the socket.
func TestConformanceOfAClient(t *testing.T) {
	dir := t.TempDir()
	owner := opener(dir)(t)
	t.Cleanup(func() { // the tests of the suite run until then
		if err := owner.(components.Closer).Close(context.WithoutCancel(t.Context())); err != nil {
			t.Error(err)
		}
	})
	statetest.Run(t, opener(dir))
}
