//go:build servers

package postgres_test

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/outrigger-mesh/outrigger/components"
	"github.com/outrigger-mesh/outrigger/components/componenttest"
	"github.com/outrigger-mesh/outrigger/components/internal/backend/wiretest"
	"github.com/outrigger-mesh/outrigger/components/internal/postgresconn"
	"github.com/outrigger-mesh/outrigger/components/internal/postgresconn/postgrestest"
	"github.com/outrigger-mesh/outrigger/components/lock"
	"github.com/outrigger-mesh/outrigger/components/lock/locktest"
	"github.com/outrigger-mesh/outrigger/components/lock/postgres"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// opener makes drivers of one sidecar.
func opener(o postgres.Options) func(t *testing.T) lock.Driver {
	return componenttest.Opener("lock", "postgres", postgres.Open, o)
}

func options(t testing.TB) postgres.Options {
	t.Helper()
	o := componenttest.Defaults[postgres.Options](t, lock.Drivers, "postgres")
	o.Postgres = postgrestest.Options(t)
	return o
}

// A lease is long beside what a call to a server may take on a machine that is busy.
func TestConformance(t *testing.T) {
	locktest.Suite{Open: opener(options(t)), Lease: 500 * time.Millisecond}.Run(t)
}

func TestTokensGrowOverAFailOver(t *testing.T) {
	o := options(t)
	d := opener(o)(t)
	defer componenttest.Close(t, d)
	c := postgrestest.Open(t, o.Postgres)
	before := uint64(0)
	for round := range 3 {
		for i := range 40 {
			got, err := d.TryLock(t.Context(), "n/a/l", "me", time.Minute)
			if err != nil || got.Token <= before {
				t.Fatalf("round %d: token %d after %d, %v", round, got.Token, before, err)
			}
			if before = got.Token; i < 39 {
				if err := d.Unlock(t.Context(), "n/a/l", got.Token); err != nil {
					t.Fatal(err)
				}
			}
		}
		// As on a replica that has not heard of the last ones, and is the primary now.
		postgrestest.Number(t, c, "select setval('lock_tokens', 1)")
		postgrestest.Number(t, c, "with new as (update servers set server = 'another' returning 1) select count(*) from new")
		postgrestest.Number(t, c, "with gone as (delete from lock_holders returning 1) select count(*) from gone")
	}
}

func TestWhoDiedWhileWaitingHoldsUpNobodyForLong(t *testing.T) {
	o := options(t)
	d := opener(o)(t)
	defer componenttest.Close(t, d)
	c := postgrestest.Open(t, o.Postgres)
	first, err := d.TryLock(t.Context(), "n/a/l", "first", time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	postgrestest.Number(t, c, "with dead as (insert into lock_waiters (key, client, call, alive) values ('default/n/a/l', 'dead', 'dead', clock_timestamp() + interval '1 s') returning 1) select count(*) from dead")
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	if err := d.Unlock(ctx, "n/a/l", first.Token); err != nil {
		t.Fatal(err)
	}
	if _, err := d.TryLock(ctx, "n/a/l", "hasty", time.Hour); !errors.Is(err, components.ErrPrecondition) {
		t.Errorf("who does not wait comes before who does: %v", err)
	}
	if _, err := d.(lock.Waiter).Lock(ctx, "n/a/l", "second", time.Hour); err != nil {
		t.Error(err)
	}
}

func TestWaitersAreBounded(t *testing.T) {
	o := options(t)
	o.Waiters = 2
	d := opener(o)(t)
	defer componenttest.Close(t, d)
	c := postgrestest.Open(t, o.Postgres)
	ctx, cancel := context.WithCancel(t.Context())
	if _, err := d.TryLock(ctx, "n/a/l", "first", time.Hour); err != nil {
		t.Fatal(err)
	}
	var all sync.WaitGroup
	for i := range 2 {
		all.Go(func() { _, _ = d.(lock.Waiter).Lock(ctx, "n/a/l", fmt.Sprint(i), time.Hour) })
	}
	waits := func(want int64) func() error {
		return func() error {
			if n := postgrestest.Number(t, c, "select count(*) from lock_waiters"); n != want {
				return fmt.Errorf("%d wait, want %d", n, want)
			}
			return nil
		}
	}
	componenttest.Eventually(t, 10*time.Second, waits(2))
	short, end := context.WithTimeout(ctx, 10*time.Second)
	defer end()
	_, err := d.(lock.Waiter).Lock(short, "n/a/l", "one too many", time.Hour)
	var detail *components.Detail
	if !errors.Is(err, components.ErrExhausted) || !errors.As(err, &detail) || detail.Reason != components.ReasonOverloaded {
		t.Errorf("%v", err)
	}
	cancel()
	all.Wait()
	componenttest.Eventually(t, 10*time.Second, waits(0)) // who leaves takes the place along
}

// TestWaitsOutlastTheirConnections: also that on which they are told.
func TestWaitsOutlastTheirConnections(t *testing.T) {
	o := options(t)
	d, holder := opener(o)(t), opener(o)(t)
	defer componenttest.Close(t, d)
	defer componenttest.Close(t, holder)
	c := postgrestest.Open(t, o.Postgres)
	first, err := holder.TryLock(t.Context(), "n/a/l", "first", time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	got := make(chan error, 1)
	go func() {
		ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
		defer cancel()
		_, err := d.(lock.Waiter).Lock(ctx, "n/a/l", "second", time.Hour)
		got <- err
	}()
	componenttest.Eventually(t, 10*time.Second, func() error {
		if postgrestest.Number(t, c, "select count(*) from lock_waiters") != 1 {
			return errors.New("nobody waits yet")
		}
		return nil
	})
	postgrestest.Number(t, c, "select count(pg_terminate_backend(pid)) from pg_stat_activity where application_name = 'outrigger ' || current_schema() and pid <> pg_backend_pid()")
	componenttest.Eventually(t, 10*time.Second, func() error { return holder.Unlock(t.Context(), "n/a/l", first.Token) })
	if err := <-got; err != nil {
		t.Error(err)
	}
}

// TestWhatIsLostIsGivenBack: what a call was given whose answer was lost, and whose caller was told that nobody knows.
func TestWhatIsLostIsGivenBack(t *testing.T) {
	o := options(t)
	sound := opener(o)(t)
	defer componenttest.Close(t, sound)
	c := postgrestest.Open(t, o.Postgres)
	w := wiretest.New(t, o.Postgres.Addresses[0])
	o.Postgres.Addresses, o.Postgres.Connections = []string{w.Addr()}, 1
	if _, err := sound.TryLock(t.Context(), "n/a/kept", "name", time.Hour); err != nil {
		t.Fatal(err)
	}
	for key, done := range map[string]string{"n/a/l": "key like '%/l'", "n/a/kept": "key like '%/kept' and call is null"} {
		d := opener(o)(t)
		defer componenttest.Close(t, d)
		if _, err := d.TryLock(t.Context(), "n/a/known", "name", time.Hour); err != nil { // so that the connection knows the statement
			t.Fatal(err)
		}
		w.Set(wiretest.Deaf)
		lost := make(chan error, 1)
		go func() {
			_, err := d.TryLock(t.Context(), key, "name", time.Hour)
			lost <- err
		}()
		componenttest.Eventually(t, 10*time.Second, func() error {
			if postgrestest.Number(t, c, "select count(*) from lock_holders where "+done) != 1 {
				return errors.New("it is not taken yet")
			}
			return nil
		})
		w.Set(wiretest.Whole)
		if err := <-lost; !errors.Is(err, components.ErrUnavailable) {
			t.Errorf("%s: %v", key, err)
		}
	}
	componenttest.Eventually(t, 10*time.Second, func() error {
		_, err := sound.TryLock(t.Context(), "n/a/l", "another", time.Minute)
		return err
	})
	if _, err := sound.TryLock(t.Context(), "n/a/kept", "another", time.Minute); !errors.Is(err, components.ErrPrecondition) {
		t.Errorf("what its owner knew of is given away: %v", err)
	}
}

// TestRightsOnWhatIsThereAreEnough: the tables were made by another user.
func TestRightsOnWhatIsThereAreEnough(t *testing.T) {
	o := options(t)
	componenttest.Close(t, opener(o)(t))
	c := postgrestest.Open(t, o.Postgres)
	role, schema := "r_"+o.Postgres.Schema, o.Postgres.Schema
	for _, sql := range []string{
		fmt.Sprintf("create role %s login password 'plain'", role),
		fmt.Sprintf("grant usage on schema %s to %s", schema, role),
		fmt.Sprintf("grant select, insert, update, delete on all tables in schema %s to %s", schema, role),
		fmt.Sprintf("grant usage, select on all sequences in schema %s to %s", schema, role),
	} {
		if err := c.Do(t.Context(), postgresconn.Statement{SQL: sql}); err != nil {
			t.Fatal(err)
		}
	}
	o.Postgres.User, o.Postgres.Password = role, "plain"
	d := opener(o)(t)
	defer componenttest.Close(t, d)
	got, err := d.TryLock(t.Context(), "n/a/l", "me", time.Minute)
	if err != nil {
		t.Fatal(err)
	}
	if err := d.Unlock(t.Context(), "n/a/l", got.Token); err != nil {
		t.Error(err)
	}
}
