//go:build servers

package postgres_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/outrigger-mesh/outrigger/components"
	"github.com/outrigger-mesh/outrigger/components/componenttest"
	"github.com/outrigger-mesh/outrigger/components/internal/backend"
	"github.com/outrigger-mesh/outrigger/components/internal/backend/wiretest"
	"github.com/outrigger-mesh/outrigger/components/internal/postgresconn"
	"github.com/outrigger-mesh/outrigger/components/internal/postgresconn/postgrestest"
	"github.com/outrigger-mesh/outrigger/components/state"
	"github.com/outrigger-mesh/outrigger/components/state/postgres"
	"github.com/outrigger-mesh/outrigger/components/state/statetest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// opener makes drivers of one sidecar.
func opener(o postgres.Options) func(t *testing.T) state.Driver {
	return componenttest.Opener("state", "postgres", postgres.Open, o)
}

func options(t testing.TB) postgres.Options {
	t.Helper()
	o := componenttest.Defaults[postgres.Options](t, state.Drivers, "postgres")
	o.Postgres = postgrestest.Options(t)
	return o
}

func TestConformance(t *testing.T) { statetest.Run(t, opener(options(t))) }

func put(key string, ttl time.Duration) state.Transaction {
	return state.Transaction{Operations: []state.Operation{{Kind: state.Set, Key: "n/a/" + key, Item: state.Item{Value: []byte("v"), TTL: ttl}}}}
}

func does(t *testing.T, d state.Driver, tx state.Transaction, want state.Outcome) {
	t.Helper()
	if r, err := d.Transact(t.Context(), tx); err != nil || r.Outcome != want {
		t.Fatalf("%+v, %v, want %s", r, err, want)
	}
}

func TestWhatHasExpiredMakesRoom(t *testing.T) {
	o := options(t)
	o.Sweep, o.Idempotency, o.Barriers, o.Fences = 50*time.Millisecond, 50*time.Millisecond, 50*time.Millisecond, 50*time.Millisecond
	d := opener(o)(t)
	defer componenttest.Close(t, d)
	c := postgrestest.Open(t, o.Postgres)
	for range 12 { // more than go at once
		tx := state.Transaction{}
		for i := range state.MaxOperations {
			tx.Operations = append(tx.Operations, put(fmt.Sprint(postgrestest.Number(t, c, "select nextval('state_versions')"), i), 10*time.Millisecond).Operations[0])
		}
		does(t, d, tx, state.Applied)
	}
	tx := put("stays", time.Hour)
	tx.IdempotencyKey, tx.Digest, tx.Barrier, tx.Fence = "n/a/once", "d", state.Barrier{GID: "n/a/g", Branch: "b", Op: "try"}, state.Fence{Component: "l", Name: "n/a/l", Token: 7}
	does(t, d, tx, state.Applied)
	does(t, d, put("stays too", 0), state.Applied)
	componenttest.Eventually(t, 20*time.Second, func() error {
		for table, want := range map[string]int64{"state_items": 2, "state_answers": 0, "state_branches": 0, "state_fences": 0} {
			if n := postgrestest.Number(t, c, "select count(*) from "+table); n != want {
				return fmt.Errorf("%d rows in %s, want %d", n, table, want)
			}
		}
		return nil
	})
}

func TestHowLongRecordsAreKept(t *testing.T) {
	o := options(t)
	o.Sweep = time.Hour
	d := opener(o)(t)
	defer componenttest.Close(t, d)
	c := postgrestest.Open(t, o.Postgres)
	tx := put("k", 0)
	tx.IdempotencyKey, tx.Digest, tx.Barrier, tx.Fence = "n/a/once", "d", state.Barrier{GID: "n/a/g", Branch: "b", Op: "try"}, state.Fence{Component: "l", Name: "n/a/l", Token: 7}
	does(t, d, tx, state.Applied)
	does(t, d, tx, state.Applied) // the first answer again
	left := func(table string) int64 {
		return postgrestest.Number(t, c, "select coalesce(extract(epoch from max(expires) - clock_timestamp())::bigint, 0) from "+table)
	}
	for table, want := range map[string]time.Duration{"state_answers": 24 * time.Hour, "state_branches": 7 * 24 * time.Hour, "state_fences": 0} {
		if got := time.Duration(left(table)) * time.Second; got > want || got < want-time.Minute {
			t.Errorf("%s are kept for %v, want %v", table, got, want)
		}
	}
	postgrestest.Number(t, c, "with past as (update state_answers set expires = clock_timestamp() returning 1) select count(*) from past")
	does(t, d, tx, state.Repeated)
	postgrestest.Number(t, c, "with past as (update state_branches set expires = clock_timestamp() returning 1) select count(*) from past")
	tx.IdempotencyKey, tx.Digest = "", ""
	does(t, d, tx, state.Applied)
	tx.Fence.Token = 6
	tx.Barrier = state.Barrier{}
	if _, err := d.Transact(t.Context(), tx); !errors.Is(err, components.ErrPrecondition) {
		t.Errorf("an older token: %v", err)
	}
}

// TestChecksAreOfOneMoment has two transactions at once, each of which sets what the other finds absent: one of them at most may be done.
func TestChecksAreOfOneMoment(t *testing.T) {
	o := options(t)
	d, other := opener(o)(t), opener(o)(t)
	defer componenttest.Close(t, d)
	defer componenttest.Close(t, other)
	for round := range 50 {
		var applied atomic.Int64
		componenttest.Together(2, func(i int) {
			a, b := fmt.Sprintf("%d a", round), fmt.Sprintf("%d b", round)
			by := d
			if i == 1 {
				a, b, by = b, a, other
			}
			tx := put(a, 0)
			tx.Operations = append(tx.Operations, state.Operation{Kind: state.Check, Key: "n/a/" + b, Condition: state.Condition{IfAbsent: true}})
			_, err := by.Transact(t.Context(), tx)
			if err == nil {
				applied.Add(1)
			} else if !errors.Is(err, components.ErrExists) {
				t.Error(err)
			}
		})
		if n := applied.Load(); n != 1 {
			t.Fatalf("round %d: %d of two were done", round, n)
		}
	}
}

// TestCrossedKeysDoNotLockUp has transactions about the same keys in opposite orders.
func TestCrossedKeysDoNotLockUp(t *testing.T) {
	o := options(t)
	d := opener(o)(t)
	defer componenttest.Close(t, d)
	c := postgrestest.Open(t, o.Postgres)
	const deadlocks = "select deadlocks from pg_stat_database where datname = current_database()"
	before := postgrestest.Number(t, c, deadlocks)
	componenttest.Together(16, func(i int) {
		for range 20 {
			tx := put("a", 0)
			for _, k := range []string{"b", "c", "d"} {
				tx.Operations = append(tx.Operations, put(k, 0).Operations[0])
			}
			if i%2 == 1 {
				slices.Reverse(tx.Operations)
			}
			if _, err := d.Transact(t.Context(), tx); err != nil {
				t.Error(err)
			}
		}
	})
	if n := postgrestest.Number(t, c, deadlocks) - before; n > 0 {
		t.Errorf("%d deadlocks", n)
	}
}

func TestWaitsAtTheServerEndWithTheirTime(t *testing.T) {
	o := options(t)
	d := opener(o)(t)
	defer componenttest.Close(t, d)
	c := postgrestest.Open(t, o.Postgres)
	id := c.LockID("item", "default/n/a/k")
	part := postgresconn.Part{Name: "test", Steps: []string{`create function hold(id bigint) returns void language plpgsql as $$
		begin perform pg_advisory_xact_lock(id); perform pg_sleep(1.5); end $$`}}
	if err := c.Install(t.Context(), part); err != nil {
		t.Fatal(err)
	}
	held := make(chan error, 1)
	go func() { held <- c.Do(t.Context(), postgresconn.Statement{SQL: "select hold($1)", Args: []any{id}}) }()
	waits := func() int64 {
		return postgrestest.Number(t, c, "select count(*) from pg_locks where locktype = 'advisory' and not granted and ((classid::bigint << 32) | objid::bigint) = $1", id)
	}
	componenttest.Eventually(t, 5*time.Second, func() error {
		if postgrestest.Number(t, c, "select count(*) from pg_locks where locktype = 'advisory' and granted and ((classid::bigint << 32) | objid::bigint) = $1", id) == 0 {
			return errors.New("not locked yet")
		}
		return nil
	})
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	if _, err := d.Transact(ctx, put("k", 0)); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("%v", err)
	}
	componenttest.Eventually(t, time.Second, func() error {
		if n := waits(); n > 0 {
			return fmt.Errorf("%d wait at the server", n)
		}
		return nil
	})
	if err := <-held; err != nil {
		t.Error(err)
	}
}

// TestAnIdempotencyKeyTellsWhatIsNotKnown: a write whose answer was lost is asked for again with the same key.
func TestAnIdempotencyKeyTellsWhatIsNotKnown(t *testing.T) {
	o := options(t)
	w := wiretest.New(t, o.Postgres.Addresses[0])
	o.Postgres.Addresses, o.Postgres.Connections = []string{w.Addr()}, 1
	d := opener(o)(t)
	defer componenttest.Close(t, d)
	does(t, d, put("another", 0), state.Applied)
	tx := put("k", 0)
	tx.IdempotencyKey, tx.Digest = "n/a/once", "digest"
	w.Set(wiretest.Deaf)
	lost := make(chan error, 1)
	go func() {
		_, err := d.Transact(t.Context(), tx)
		lost <- err
	}()
	c := postgrestest.Open(t, options(t).Postgres)
	componenttest.Eventually(t, 10*time.Second, func() error {
		if postgrestest.Number(t, c, fmt.Sprintf("select count(*) from %s.state_items", o.Postgres.Schema)) != 2 {
			return errors.New("it is not done yet")
		}
		return nil
	})
	w.Set(wiretest.Whole)
	var detail *components.Detail
	if err := <-lost; !errors.As(err, &detail) || detail.Reason != backend.ReasonOutcomeUnknown {
		t.Errorf("%v", err)
	}
	does(t, d, tx, state.Applied)
	if n := postgrestest.Number(t, c, fmt.Sprintf("select last_value from %s.state_versions", o.Postgres.Schema)); n != 2 {
		t.Errorf("it was done %d times", n-1)
	}
}
