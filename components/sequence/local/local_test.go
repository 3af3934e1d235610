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
	t.Helper()
	env := components.Env{ID: components.ID{Name: "default"}, Logger: slog.New(slog.DiscardHandler), DataDir: t.TempDir(), Shared: components.NewShared()}
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
