package local

import (
	"context"
	"errors"
	"log/slog"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/outrigger-mesh/outrigger/components"
	"github.com/outrigger-mesh/outrigger/components/internal/store"
	"github.com/outrigger-mesh/outrigger/components/internal/store/db"
	"github.com/outrigger-mesh/outrigger/components/transaction"
)

// TestClockSteps: no setting of the machine's clock moves a pause or a deadline, also for another one that goes on with the transaction.
func TestClockSteps(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, began := context.WithoutCancel(t.Context()), time.Now()
		var wall atomic.Int64 // how far the wall clock is off
		clock := db.Clock{Boot: "one", Uptime: func() time.Duration { return time.Since(began) }, Wall: func() time.Time { return time.Now().Add(time.Duration(wall.Load())) }}
		opened, err := db.Open(db.Options{Dir: "store", FS: vfs.NewMem(), Clock: clock})
		if err != nil {
			t.Fatal(err)
		}
		defer opened.Close()
		env := components.Env{ID: components.ID{Name: "default"}, DataDir: "/", Logger: slog.New(slog.DiscardHandler), Shared: components.NewShared()}
		link, err := store.Lend(ctx, env, opened)
		if err != nil {
			t.Fatal(err)
		}
		defer link.Close()
		one, err := Open(ctx, env, Options{Durability: "os", Timeout: time.Minute, CallTimeout: time.Second, FirstPause: 10 * time.Second, LongPause: 10 * time.Second,
			Lease: time.Second, Concurrency: 1, MaxUnfinished: 10, Retention: time.Hour})
		if err != nil {
			t.Fatal(err)
		}
		d := one.(*driver)
		defer d.Close(ctx)
		var calls atomic.Int64
		drive := func() (end func()) {
			driving, stop := context.WithCancel(ctx)
			over := make(chan struct{})
			go func() {
				defer close(over)
				_ = d.Drive(driving, "a/b/", func(_ context.Context, c *transaction.Call) error {
					if c.Op == transaction.OpAction {
						calls.Add(1)
						return errors.New("nobody knows")
					}
					return nil
				})
			}()
			return func() { stop(); <-over }
		}
		end := drive()
		target := transaction.Target{Service: "s", Method: "m"}
		if _, err := d.Begin(ctx, "a/b/g", transaction.Content{Kind: transaction.Saga, Policy: d.Defaults(), Branches: []transaction.Branch{{ID: "1", Do: target, Undo: target}}}); err != nil {
			t.Fatal(err)
		}
		is := func(state transaction.State, called int64) {
			t.Helper()
			if info, err := d.Get(ctx, "a/b/g"); err != nil || info.State != state || calls.Load() != called {
				t.Errorf("after %s: %s, %d calls, %v; want %s, %d", time.Since(began), info.State, calls.Load(), err, state, called)
			}
		}
		for i, step := range []time.Duration{time.Hour, -2 * time.Hour, 1000 * time.Hour, -1000 * time.Hour, 0} {
			time.Sleep(5 * time.Second)
			is(transaction.Running, int64(i)+1)
			wall.Store(int64(step))
			if i == 2 { // another one goes on
				end()
				end = drive()
			}
			time.Sleep(5500 * time.Millisecond)
			is(transaction.Running, int64(i)+2)
		}
		defer func() { end() }()
		time.Sleep(7 * time.Second)
		is(transaction.Running, 6)
		time.Sleep(time.Second)
		is(transaction.Aborted, 6)
	})
}
