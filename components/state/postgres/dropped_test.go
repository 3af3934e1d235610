//go:build servers

package postgres_test

import (
	"errors"
	"fmt"
	"testing"

	"github.com/outrigger-mesh/outrigger/components"
	"github.com/outrigger-mesh/outrigger/components/componenttest"
	"github.com/outrigger-mesh/outrigger/components/internal/postgresconn/postgrestest"
	"github.com/outrigger-mesh/outrigger/components/state"
	"github.com/outrigger-mesh/outrigger/components/state/postgres"
)

// TestWhatIsDroppedIsMadeAnew, each thing and all of it, by calls that succeed; what was in it is lost.
func TestWhatIsDroppedIsMadeAnew(t *testing.T) {
	o := options(t)
	log := &postgrestest.Log{}
	d, err := postgres.Open(t.Context(), log.Env(), o)
	if err != nil {
		t.Fatal(err)
	}
	defer componenttest.Close(t, d)
	i := 0
	postgrestest.Dropping(t, o.Postgres, log, func(what string, drop func()) {
		i++
		tx := put("k", 0)
		tx.IdempotencyKey, tx.Digest, tx.Barrier = fmt.Sprint("n/a/", i), "d", state.Barrier{GID: fmt.Sprint("n/a/", i), Branch: "b", Op: "try"}
		tx.Fence = state.Fence{Component: "l", Name: fmt.Sprint("n/a/", i), Token: 7}
		does(t, d, tx, state.Applied)
		drop()
		if _, _, err := d.List(t.Context(), "n/a/", "", 10, true); err != nil {
			t.Errorf("%s: list: %v", what, err)
		}
		if _, err := d.Transact(t.Context(), put("another", 0)); err != nil {
			t.Errorf("%s: %v", what, err)
		}
		tx.Fence.Name, tx.IdempotencyKey, tx.Barrier.GID = "n/a/new"+tx.Fence.Name, "n/a/new"+tx.IdempotencyKey, "n/a/new"+tx.Barrier.GID
		if _, err := d.Transact(t.Context(), tx); err != nil {
			t.Errorf("%s: %v", what, err)
		}
	})
	c := postgrestest.Open(t, o.Postgres)
	postgrestest.Number(t, c, "with gone as (delete from state_items returning 1) select count(*) from gone")
	does(t, d, put("k", 0), state.Applied)
	postgrestest.Drop(t, c, postgrestest.DropAll(o.Postgres))
	if _, err := d.Get(t.Context(), "n/a/k"); !errors.Is(err, components.ErrNotFound) {
		t.Errorf("get of what was dropped: %v", err)
	}
}
