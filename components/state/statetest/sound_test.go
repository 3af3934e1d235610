package statetest

import (
	"context"
	"log/slog"
	"testing"
	"time"

	"github.com/outrigger-mesh/outrigger/components"
	"github.com/outrigger-mesh/outrigger/components/state"
	"github.com/outrigger-mesh/outrigger/components/state/local"
)

// least is a driver that offers nothing beyond what it must.
type least struct{ Full }

func (least) Offers(state.Feature) bool { return false }

// TestSoundDriversPass has what the mutants are made with, without the fault: they are not caught for how they are made. The
// driver that offers little shows that the suite asks no more of it.
func TestSoundDriversPass(t *testing.T) {
	for _, m := range []mutant{
		{Name: "least", Break: func(d state.Driver) state.Driver { return least{d.(Full)} }},
		written("written", func(*state.Transaction) {}),
		read("read", func(*state.Item, *error) {}),
		afterwards("afterwards", func(*state.Result, *error) {}),
		listed("listed", func(_ int, entries []state.Entry, more bool) ([]state.Entry, bool) { return entries, more }),
	} {
		t.Run(m.Name, func(t *testing.T) {
			env := components.Env{ID: components.ID{Capability: "state", Name: "default", Driver: "local"}, Logger: slog.New(slog.DiscardHandler),
				DataDir: t.TempDir(), Shared: components.NewShared()}
			Suite{TTL: 25 * time.Millisecond, Open: func(t *testing.T) state.Driver {
				d, err := local.Open(context.WithoutCancel(t.Context()), env, local.Options{Durability: "os", Idempotency: time.Hour, Barriers: time.Hour, Fences: time.Hour})
				if err != nil {
					t.Fatal(err)
				}
				return m.Break(d)
			}}.Run(t)
		})
	}
}
