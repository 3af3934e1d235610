//go:build servers

package postgres_test

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/outrigger-mesh/outrigger/components/componenttest"
	"github.com/outrigger-mesh/outrigger/components/internal/backend/wiretest"
	"github.com/outrigger-mesh/outrigger/components/internal/postgresconn/postgrestest"
	"github.com/outrigger-mesh/outrigger/components/lock"
)

// TestWhoLeftDuringAnOutageHoldsUpNobody, though others wait at the same sidecar when the server is reached again.
func TestWhoLeftDuringAnOutageHoldsUpNobody(t *testing.T) {
	o := options(t)
	sound := opener(o)(t)
	defer componenttest.Close(t, sound)
	c := postgrestest.Open(t, o.Postgres)
	w := wiretest.New(t, o.Postgres.Addresses[0])
	o.Postgres.Addresses = []string{w.Addr()}
	d := opener(o)(t)
	defer componenttest.Close(t, d)
	held, err := sound.TryLock(t.Context(), "n/a/l", "first", time.Hour)
	if err == nil {
		_, err = sound.TryLock(t.Context(), "n/a/other", "first", time.Hour)
	}
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	wait := func(ctx context.Context, key string) (over chan error) {
		over = make(chan error, 1)
		go func() {
			_, err := d.(lock.Waiter).Lock(ctx, key, "second", lock.MinLease)
			over <- err
		}()
		componenttest.Eventually(t, 10*time.Second, func() error {
			if postgrestest.Number(t, c, "select count(*) from lock_waiters where alive > clock_timestamp() and key like '%"+key+"'") != 1 {
				return errors.New("it does not wait")
			}
			return nil
		})
		return over
	}
	leaving, leave := context.WithCancel(ctx)
	left := wait(leaving, "n/a/l")
	w.Set(wiretest.Cut)
	leave()
	<-left
	time.Sleep(6 * time.Second) // so long the sidecar tries to tell the server
	w.Set(wiretest.Whole)
	componenttest.Eventually(t, 10*time.Second, func() error {
		_, err := d.TryLock(t.Context(), "n/a/known", "second", time.Hour)
		return err
	})
	other := wait(ctx, "n/a/other")
	const alive = "select (extract(epoch from alive) * 1e6)::bigint from lock_waiters where key like '%/other'"
	began := postgrestest.Number(t, c, alive)
	componenttest.Eventually(t, 10*time.Second, func() error {
		if postgrestest.Number(t, c, alive) == began {
			return errors.New("the sidecar has given no sign of life")
		}
		return nil
	})
	if err := sound.Unlock(t.Context(), "n/a/l", held.Token); err != nil {
		t.Fatal(err)
	}
	componenttest.Eventually(t, 10*time.Second, func() error {
		_, err := sound.TryLock(t.Context(), "n/a/l", "third", time.Hour)
		return err
	})
	cancel()
	<-other
}

// TestWhoIsNotFirstGivesSignsOfLife, though it does not ask for the lock.
func TestWhoIsNotFirstGivesSignsOfLife(t *testing.T) {
	o := options(t)
	d := opener(o)(t)
	defer componenttest.Close(t, d)
	c := postgrestest.Open(t, o.Postgres)
	ctx, cancel := context.WithCancel(t.Context())
	if _, err := d.TryLock(ctx, "n/a/l", "first", time.Hour); err != nil {
		t.Fatal(err)
	}
	var all sync.WaitGroup
	defer all.Wait()
	defer cancel()
	for i := range 2 {
		all.Go(func() { _, _ = d.(lock.Waiter).Lock(ctx, "n/a/l", fmt.Sprint(i), time.Hour) })
	}
	componenttest.Eventually(t, 10*time.Second, func() error {
		if n := postgrestest.Number(t, c, "select count(*) from lock_waiters"); n != 2 {
			return fmt.Errorf("%d wait", n)
		}
		return nil
	})
	const alive = "select (extract(epoch from alive) * 1e6)::bigint from lock_waiters order by ticket desc limit 1"
	began := postgrestest.Number(t, c, alive)
	componenttest.Eventually(t, 10*time.Second, func() error {
		if postgrestest.Number(t, c, alive) == began {
			return errors.New("the last has given no sign of life")
		}
		return nil
	})
}
