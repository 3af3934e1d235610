package components_test

import (
	"context"
	"errors"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/outrigger-mesh/outrigger/components"
)

func TestShareOpensOnceAndClosesAfterTheLastUser(t *testing.T) {
	s := components.NewShared()
	var opened, shut int // the share's own lock keeps them
	share := func() (*int, func()) {
		v, release, err := components.Share(t.Context(), s, "key", func(context.Context) (*int, error) {
			opened++
			return new(int), nil
		}, func(*int) { shut++ })
		if err != nil {
			t.Error(err)
		}
		return v, release
	}
	for round := 1; round <= 3; round++ {
		var all sync.WaitGroup
		first, keep := share()
		for range 50 {
			all.Go(func() {
				v, release := share()
				if v != first {
					t.Error("not the same")
				}
				release()
				release()
			})
		}
		all.Wait()
		if opened != round || shut != round-1 {
			t.Errorf("round %d: opened %d times, closed %d times before the last user has gone", round, opened, shut)
		}
		keep()
		if shut != round {
			t.Errorf("round %d: closed %d times", round, shut)
		}
	}
}

func TestShareThatCannotBeOpened(t *testing.T) {
	s, broken := components.NewShared(), errors.New("broken")
	for i := range 3 {
		_, _, err := components.Share(t.Context(), s, "key", func(context.Context) (int, error) { return 0, broken }, func(int) {
			t.Error("it closed what was never open")
		})
		if !errors.Is(err, broken) {
			t.Errorf("attempt %d: %v", i, err)
		}
	}
}

// Who waits for another's opening is not kept longer than it wants to wait.
func TestShareWaitsNoLongerThanItsContext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, opened := components.NewShared(), make(chan struct{})
		open := func(context.Context) (int, error) { <-opened; return 7, nil }
		shut := 0
		share := func(ctx context.Context) (func(), error) {
			_, release, err := components.Share(ctx, s, "key", open, func(int) { shut++ })
			return release, err
		}
		first := make(chan func(), 1)
		go func() {
			release, err := share(t.Context())
			if err != nil {
				t.Error(err)
			}
			first <- release
		}()
		synctest.Wait()
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		if _, err := share(ctx); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("got %v", err)
		}
		close(opened)
		if (<-first)(); shut != 1 {
			t.Errorf("closed %d times: one that gave up counts as a user", shut)
		}
	})
}
