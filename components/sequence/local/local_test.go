package local_test

import (
	"context"
	"log/slog"
	"testing"

	"go.uber.org/goleak"

	"github.com/outrigger-mesh/outrigger/components"
	"github.com/outrigger-mesh/outrigger/components/sequence"
	"github.com/outrigger-mesh/outrigger/components/sequence/local"
	"github.com/outrigger-mesh/outrigger/components/sequence/sequencetest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// folder opens drivers on one folder, as the sidecars of a machine do.
func folder(t *testing.T, ahead int64) func(t *testing.T) sequence.Driver {
	return process(t.TempDir(), ahead)
}

// process opens drivers on a folder, as one sidecar does.
func process(dir string, ahead int64) func(t *testing.T) sequence.Driver {
	env := components.Env{ID: components.ID{Name: "default"}, Logger: slog.New(slog.DiscardHandler), DataDir: dir, Shared: components.NewShared()}
	return func(t *testing.T) sequence.Driver {
		t.Helper()
		d, err := local.Open(context.Background(), env, local.Options{Ahead: ahead})
		if err != nil {
			t.Fatal(err)
		}
		return d
	}
}

func TestConformance(t *testing.T) {
	for name, ahead := range map[string]int64{"none ahead": 0, "default": 1000} {
		t.Run(name, func(t *testing.T) { sequencetest.Run(t, folder(t, ahead)) })
	}
}

// TestConformanceOfAClient has the store owned by somebody else, who is called over the socket.
func TestConformanceOfAClient(t *testing.T) {
	dir := t.TempDir()
	owner := process(dir, 1000)(t)
	t.Cleanup(func() { // the tests of the suite run until then
		if err := owner.(components.Closer).Close(context.WithoutCancel(t.Context())); err != nil {
			t.Error(err)
		}
	})
	sequencetest.Run(t, process(dir, 1000))
}
