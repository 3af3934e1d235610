//go:build servers

package postgres_test

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/outrigger-mesh/outrigger/components"
	"github.com/outrigger-mesh/outrigger/components/componenttest"
	"github.com/outrigger-mesh/outrigger/components/internal/postgresconn"
	"github.com/outrigger-mesh/outrigger/components/internal/postgresconn/postgrestest"
	"github.com/outrigger-mesh/outrigger/components/lock"
	"github.com/outrigger-mesh/outrigger/components/lock/postgres"
)

// TestWhatIsDroppedIsMadeAnew, each thing and all of it, by calls that succeed.
func TestWhatIsDroppedIsMadeAnew(t *testing.T) {
	o := options(t)
	log := &postgrestest.Log{}
	d, err := postgres.Open(t.Context(), log.Env(), o)
	if err != nil {
		t.Fatal(err)
	}
	defer componenttest.Close(t, d)
	last := uint64(0)
	use := func(drop string) {
		t.Helper()
		var got lock.Lease
		componenttest.Eventually(t, 10*time.Second, func() error { // who gave up may keep his place in the queue for a moment
			var err error
			if got, err = d.TryLock(t.Context(), "n/a/l", "me", time.Minute); err != nil && !errors.Is(err, components.ErrPrecondition) {
				t.Fatalf("%s: take: %v", drop, err)
			}
			return err
		})
		if got.Token <= last {
			t.Errorf("%s: token %d after %d", drop, got.Token, last)
		}
		last = got.Token
		ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
		defer cancel()
		if _, err := d.(lock.Waiter).Lock(ctx, "n/a/l", "another", time.Minute); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("%s: wait: %v", drop, err)
		}
		if _, err := d.Renew(t.Context(), "n/a/l", got.Token, time.Minute); err != nil {
			t.Errorf("%s: renew: %v", drop, err)
		}
		if err := d.Unlock(t.Context(), "n/a/l", got.Token); err != nil {
			t.Errorf("%s: unlock: %v", drop, err)
		}
	}
	use("nothing")
	postgrestest.Dropping(t, o.Postgres, log, func(what string, drop func()) {
		drop()
		use(what)
	})
}

// TestWhoHasALockThatIsDropped is told so when it is renewed, and who waited for it gets it, with a greater token.
func TestWhoHasALockThatIsDropped(t *testing.T) {
	o := options(t)
	d := opener(o)(t)
	defer componenttest.Close(t, d)
	c := postgrestest.Open(t, o.Postgres)
	first, err := d.TryLock(t.Context(), "n/a/l", "first", time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	type result struct {
		lock.Lease
		err error
	}
	got := make(chan result, 1)
	go func() {
		lease, err := d.(lock.Waiter).Lock(t.Context(), "n/a/l", "second", time.Hour)
		got <- result{lease, err}
	}()
	componenttest.Eventually(t, 10*time.Second, func() error {
		if postgrestest.Number(t, c, "select count(*) from lock_waiters") == 0 {
			return errors.New("nobody waits")
		}
		return nil
	})
	if err := c.Do(t.Context(), postgresconn.Statement{SQL: "drop schema " + o.Postgres.Schema + " cascade"}); err != nil {
		t.Fatal(err)
	}
	if second := <-got; second.err != nil || second.Token <= first.Token {
		t.Errorf("token %d after %d, %v", second.Token, first.Token, second.err)
	}
	if _, err := d.Renew(t.Context(), "n/a/l", first.Token, time.Hour); !errors.Is(err, components.ErrPrecondition) {
		t.Errorf("renew: %v", err)
	}
}
