package locktest

import (
	"context"
	"errors"
	"sync/atomic"
	"testing"
	"time"

	"github.com/outrigger-mesh/outrigger/components"
	"github.com/outrigger-mesh/outrigger/components/componenttest"
	"github.com/outrigger-mesh/outrigger/components/lock"
)

const crowd = 16

// racing is about many at once.
var racing = []test{
	{"OneWinnerOfMany", func(t *testing.T, f *fixture) {
		other := f.another(t)
		for range 10 {
			var winners atomic.Int64
			var token atomic.Uint64
			componenttest.Together(crowd, func(i int) {
				by := f
				if i%2 == 1 {
					by = other
				}
				got, err := by.try("l", "", long)
				switch {
				case err == nil:
					winners.Add(1)
					token.Store(got.Token)
				case !errors.Is(err, components.ErrPrecondition):
					t.Errorf("try lock: %v", err)
				}
			})
			if n := winners.Load(); n != 1 {
				t.Fatalf("%d of %d have the lock", n, crowd)
			}
			f.unlock(t, "l", token.Load())
		}
	}},
	{"OneAtATime", func(t *testing.T, f *fixture) {
		other := f.another(t)
		ctx := f.within(t)
		var inside atomic.Int64
		var last atomic.Uint64
		componenttest.Together(crowd, func(i int) {
			by := f
			if i%2 == 1 {
				by = other
			}
			for range 3 {
				got, err := by.Lock.Lock(ctx, f.caller, lock.Request{Name: "l", Lease: long})
				if err != nil {
					t.Errorf("lock: %v", err)
					return
				}
				if n := inside.Add(1); n != 1 {
					t.Errorf("%d have the lock", n)
				}
				if before := last.Swap(got.Token); before >= got.Token {
					t.Errorf("token %d after %d", got.Token, before)
				}
				time.Sleep(100 * time.Microsecond)
				inside.Add(-1)
				if err := by.Unlock(ctx, f.caller, "l", got.Token); err != nil {
					t.Errorf("unlock: %v", err)
				}
			}
		})
	}},
	{"NoGrantIsLost", func(t *testing.T, f *fixture) {
		// Each round frees the lock at about the moment at which who waits for it leaves. Whatever comes first, somebody who is
		// there gets it soon, though the lease of who has left would last for an hour.
		other := f.another(t)
		for round := range 25 {
			got := receive(t, f.lock(f.within(t), "l", "", long))
			ctx, leave := context.WithCancel(t.Context())
			waits := other.lock(ctx, "l", "", long)
			time.Sleep(time.Duration(round%5) * time.Millisecond)
			componenttest.Together(2, func(i int) {
				if i == 0 {
					leave()
				} else if err := f.Unlock(t.Context(), f.caller, "l", got.Token); err != nil {
					t.Errorf("unlock: %v", err)
				}
			})
			if r := arrived(t, waits); r.err == nil {
				other.unlock(t, "l", r.Token)
			}
			next := receive(t, f.lock(f.within(t), "l", "", long))
			f.unlock(t, "l", next.Token)
		}
	}},
	{"EndedContext", func(t *testing.T, f *fixture) {
		ended, cancel := context.WithCancel(t.Context())
		cancel()
		_, err := f.TryLock(ended, f.caller, lock.Request{Name: "l", Lease: long})
		if !errors.Is(err, context.Canceled) {
			t.Errorf("try lock: %v", err)
		}
		_, err = f.Lock.Lock(ended, f.caller, lock.Request{Name: "l", Lease: long})
		if !errors.Is(err, context.Canceled) {
			t.Errorf("lock: %v", err)
		}
		f.take(t, "l", "", long)
	}},
}
