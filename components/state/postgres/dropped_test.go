//go:build servers

package postgres_test

import (
	"errors"
	"fmt"
	"log/slog"
	"testing"

	"github.com/outrigger-mesh/outrigger/components"
	"github.com/outrigger-mesh/outrigger/components/componenttest"
	"github.com/outrigger-mesh/outrigger/components/internal/postgresconn"
	"github.com/outrigger-mesh/outrigger/components/internal/postgresconn/postgrestest"
	"github.com/outrigger-mesh/outrigger/components/state"
	"github.com/outrigger-mesh/outrigger/components/state/postgres"
)

// TestWhatIsDroppedIsMadeAnew, each thing and all of it, by calls that succeed; what was in it is lost.
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
	for i, drop := range drops {
		tx := put("k", 0)
		tx.IdempotencyKey, tx.Digest, tx.Barrier = fmt.Sprint("n/a/", i), "d", state.Barrier{GID: fmt.Sprint("n/a/", i), Branch: "b", Op: "try"}
		tx.Fence = state.Fence{Component: "l", Name: fmt.Sprint("n/a/", i), Token: 7}
		does(t, d, tx, state.Applied)
		if err := c.Do(t.Context(), postgresconn.Statement{SQL: drop}); err != nil {
			t.Fatalf("%s: %v", drop, err)
		}
		if _, _, err := d.List(t.Context(), "n/a/", "", 10, true); err != nil {
			t.Errorf("%s: list: %v", drop, err)
		}
		if _, err := d.Transact(t.Context(), put("another", 0)); err != nil {
			t.Errorf("%s: %v", drop, err)
		}
		tx.Fence.Name, tx.IdempotencyKey, tx.Barrier.GID = "n/a/new"+tx.Fence.Name, "n/a/new"+tx.IdempotencyKey, "n/a/new"+tx.Barrier.GID
		if _, err := d.Transact(t.Context(), tx); err != nil {
			t.Errorf("%s: %v", drop, err)
		}
	}
	postgrestest.Number(t, c, "with gone as (delete from state_items returning 1) select count(*) from gone")
	does(t, d, put("k", 0), state.Applied)
	if err := c.Do(t.Context(), postgresconn.Statement{SQL: drops[len(drops)-1]}); err != nil {
		t.Fatal(err)
	}
	if _, err := d.Get(t.Context(), "n/a/k"); !errors.Is(err, components.ErrNotFound) {
		t.Errorf("get of what was dropped: %v", err)
	}
	if now := postgrestest.Drops(t, c, o.Postgres); len(now) != len(drops) {
		t.Errorf("there are %d things, and were %d", len(now), len(drops))
	}
	if n := log.Made(); n < 2 || n > len(drops) {
		t.Errorf("of %d drops it is said %d times", len(drops), n)
	}
}
