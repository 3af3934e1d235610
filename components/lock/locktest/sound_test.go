package locktest

import (
	"context"
	"log/slog"
	"testing"

	"github.com/outrigger-mesh/outrigger/components"
	"github.com/outrigger-mesh/outrigger/components/lock"
	"github.com/outrigger-mesh/outrigger/components/lock/local"
)

// least is a driver that offers nothing beyond what it must.
type least struct{ lock.Driver }

func (l least) Close(ctx context.Context) error { return l.Driver.(components.Closer).Close(ctx) }

// TestSoundDriversPass has what the mutants are made with, without the fault: they are not caught for how they are made. The
// driver that offers little shows that the suite asks no more of it, and that the front waits for it.
func TestSoundDriversPass(t *testing.T) {
	for _, m := range []mutant{
		{Name: "least", Break: func(d lock.Driver) lock.Driver { return least{d} }},
		hooked("hooked", func(*hooks) {}),
		hooked("noting", noting),
		given("given", asAsked, asAnswered),
		keyed("keyed", func(key string) string { return "prefix/" + key }),
	} {
		t.Run(m.Name, func(t *testing.T) {
			t.Parallel()
			env := components.Env{Logger: slog.New(slog.DiscardHandler), DataDir: t.TempDir(), Shared: components.NewShared()}
			Run(t, func(t *testing.T) lock.Driver {
				d, err := local.Open(context.Background(), env, local.Options{Durability: "os"})
				if err != nil {
					t.Fatal(err)
				}
				return m.Break(d)
			})
		})
	}
}
