//go:build servers

package postgres_test

import (
	"log/slog"
	"testing"

	"github.com/outrigger-mesh/outrigger/components"
	"github.com/outrigger-mesh/outrigger/components/componenttest"
	"github.com/outrigger-mesh/outrigger/components/internal/postgresconn"
	"github.com/outrigger-mesh/outrigger/components/internal/postgresconn/postgrestest"
	"github.com/outrigger-mesh/outrigger/components/sequence/postgres"
)

// TestWhatIsDroppedIsMadeAnew, each thing and all of it, by calls that succeed, and no number comes again.
func TestWhatIsDroppedIsMadeAnew(t *testing.T) {
	o := options(t)
	log := &postgrestest.Log{}
	env := components.Env{ID: components.ID{Name: "default"}, Logger: slog.New(slog.NewTextHandler(log, nil))}
	d, err := postgres.Open(t.Context(), env, o)
	if err != nil {
		t.Fatal(err)
	}
	defer componenttest.Close(t, d)
	c := postgrestest.Open(t, o.Postgres)
	drops := postgrestest.Drops(t, c, o.Postgres)
	last, err := d.Next(t.Context(), "n/a/k", 100)
	if err != nil {
		t.Fatal(err)
	}
	for _, drop := range drops {
		if err := c.Do(t.Context(), postgresconn.Statement{SQL: drop}); err != nil {
			t.Fatalf("%s: %v", drop, err)
		}
		first, err := d.Next(t.Context(), "n/a/k", 100)
		if err != nil || first <= last+99 {
			t.Errorf("%s: %d after %d, %v", drop, first, last, err)
		}
		last = first
	}
	if now := postgrestest.Drops(t, c, o.Postgres); len(now) != len(drops) {
		t.Errorf("there are %d things, and were %d", len(now), len(drops))
	}
	if n := log.Made(); n < 2 || n > len(drops) {
		t.Errorf("of %d drops it is said %d times", len(drops), n)
	}
}
