package sequencetest

import (
	"context"
	"log/slog"
	"testing"

	"github.com/outrigger-mesh/outrigger/components"
	"github.com/outrigger-mesh/outrigger/components/sequence"
	"github.com/outrigger-mesh/outrigger/components/sequence/local"
)

// TestSoundDriversPass has what the mutants are made with, without the fault, and a driver that has no cheaper way to be unique.
func TestSoundDriversPass(t *testing.T) {
	for _, m := range []mutant{
		{Name: "least", Break: func(d sequence.Driver) sequence.Driver { return d }},
		hooked("hooked", func(*hooks) {}),
		keyed("keyed", func(key string) string { return "prefix/" + key }),
	} {
		t.Run(m.Name, func(t *testing.T) {
			t.Parallel()
			env := components.Env{Logger: slog.New(slog.DiscardHandler), DataDir: t.TempDir(), Shared: components.NewShared()}
			Run(t, func(t *testing.T) sequence.Driver {
				d, err := local.Open(context.Background(), env, local.Options{Ahead: 100})
				if err != nil {
					t.Fatal(err)
				}
				return m.Break(d)
			})
		})
	}
}
