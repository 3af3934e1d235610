//go:build servers

package postgres_test

import (
	"testing"

	"github.com/outrigger-mesh/outrigger/components/componenttest"
	"github.com/outrigger-mesh/outrigger/components/internal/postgresconn/postgrestest"
	"github.com/outrigger-mesh/outrigger/components/sequence/postgres"
)

// TestWhatIsDroppedIsMadeAnew, each thing and all of it, by calls that succeed, and no number comes again.
func TestWhatIsDroppedIsMadeAnew(t *testing.T) {
	o := options(t)
	log := &postgrestest.Log{}
	d, err := postgres.Open(t.Context(), log.Env(), o)
	if err != nil {
		t.Fatal(err)
	}
	defer componenttest.Close(t, d)
	last, err := d.Next(t.Context(), "n/a/k", 100)
	if err != nil {
		t.Fatal(err)
	}
	postgrestest.Dropping(t, o.Postgres, log, func(what string, drop func()) {
		drop()
		first, err := d.Next(t.Context(), "n/a/k", 100)
		if err != nil || first <= last+99 {
			t.Errorf("%s: %d after %d, %v", what, first, last, err)
		}
		last = first
	})
}
