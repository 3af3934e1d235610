package locktest

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/outrigger-mesh/outrigger/components"
	"github.com/outrigger-mesh/outrigger/components/lock"
)

var waitingMutants = []mutant{
	hooked("lock does not wait", func(h *hooks) { h.wait = h.Full.TryLock }),
	hooked("last come, first served", func(h *hooks) {
		var s stack
		h.wait = func(ctx context.Context, key, owner string, lease time.Duration) (lock.Lease, error) {
			me := s.enter()
			defer s.leave(me)
			for ctx.Err() == nil {
				if s.isLast(me) {
					if got, err := h.Full.TryLock(ctx, key, owner, lease); !isHeld(err) {
						return got, err
					}
				}
				time.Sleep(time.Millisecond)
			}
			return lock.Lease{}, context.Cause(ctx)
		}
	}),
	hooked("who leaves gets the lock", func(h *hooks) {
		h.wait = func(ctx context.Context, key, owner string, lease time.Duration) (lock.Lease, error) {
			done := make(chan result, 1)
			go func() {
				staying, cancel := context.WithTimeout(context.WithoutCancel(ctx), patience)
				defer cancel()
				got, err := h.Full.Lock(staying, key, owner, lease)
				done <- result{got, err}
			}()
			select {
			case r := <-done:
				return r.Lease, r.err
			case <-ctx.Done():
				return lock.Lease{}, context.Cause(ctx)
			}
		}
	}),
	hooked("a wait that is not ended by its context", func(h *hooks) {
		h.wait = func(ctx context.Context, key, owner string, lease time.Duration) (lock.Lease, error) {
			bounded, cancel := context.WithTimeout(context.WithoutCancel(ctx), patience/3)
			defer cancel()
			got, err := h.Full.Lock(bounded, key, owner, lease)
			if err != nil && ctx.Err() != nil {
				err = fmt.Errorf("%w: too late", components.ErrUnavailable)
			}
			return got, err
		}
	}),
	hooked("a wait ends before the lock is free", func(h *hooks) {
		h.wait = func(ctx context.Context, key, owner string, lease time.Duration) (lock.Lease, error) {
			ctx, cancel := context.WithTimeout(ctx, 20*time.Millisecond)
			defer cancel()
			return h.Full.Lock(ctx, key, owner, lease)
		}
	}),
	hooked("two get out of the queue at once", func(h *hooks) {
		h.wait = func(ctx context.Context, key, owner string, lease time.Duration) (lock.Lease, error) {
			got, err := h.Full.Lock(ctx, key, owner, lease)
			if err == nil {
				_ = h.Full.Unlock(ctx, key, got.Token)
			}
			return got, err
		}
	}),
}

// stack knows who came last of those who are there.
type stack struct {
	mu    sync.Mutex
	came  int
	there []int
}

func (s *stack) enter() (me int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.came++
	s.there = append(s.there, s.came)
	return s.came
}

func (s *stack) leave(me int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.there = slices.DeleteFunc(s.there, func(other int) bool { return other == me })
}

func (s *stack) isLast(me int) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.there[len(s.there)-1] == me
}
