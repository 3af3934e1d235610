package locktest

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/outrigger-mesh/outrigger/components"
	"github.com/outrigger-mesh/outrigger/components/lock"
)

var takingMutants = []mutant{
	keyed("keys fold case", strings.ToLower),
	keyed("long keys cut", func(key string) string { return key[:min(len(key), 250)] }),
	keyed("keys of another app", func(key string) string {
		parts := strings.SplitN(key, "/", 3)
		return strings.TrimSuffix(parts[1], "-2") + "/" + parts[2]
	}),
	given("everybody is the same owner", func(_ string, lease time.Duration) (string, time.Duration) { return "all", lease }, asAnswered),
	given("owners fold case", func(owner string, lease time.Duration) (string, time.Duration) { return strings.ToLower(owner), lease }, asAnswered),
	given("one token for all", asAsked, func(got *lock.Lease, _ *error) { got.Token = min(got.Token, 1) }),
	given("held without a reason", asAsked, func(_ *lock.Lease, err *error) {
		if isHeld(*err) {
			*err = components.ErrPrecondition
		}
	}),
	given("not said for how long", asAsked, func(_ *lock.Lease, err *error) {
		if isHeld(*err) {
			*err = components.WithReason(components.ErrPrecondition, lock.ReasonHeld)
		}
	}),
	given("lease not answered", asAsked, func(got *lock.Lease, _ *error) { got.Lease = 0 }),
	hooked("an owner is no exception", func(h *hooks) {
		var n atomic.Int64
		h.try = func(ctx context.Context, key, owner string, lease time.Duration) (lock.Lease, error) {
			return h.Full.TryLock(ctx, key, fmt.Sprint(owner, n.Add(1)), lease)
		}
	}),
	hooked("a new token for the same owner", func(h *hooks) {
		noting(h)
		note := h.try
		h.try = func(ctx context.Context, key, owner string, lease time.Duration) (lock.Lease, error) {
			if had := last(key); had.owner == owner {
				_ = h.Full.Unlock(ctx, key, had.token)
			}
			return note(ctx, key, owner, lease)
		}
	}),
	hooked("unlock does nothing", func(h *hooks) {
		h.unlock = func(context.Context, string, uint64) error { return nil }
	}),
	hooked("unlock of what is lost succeeds", func(h *hooks) {
		h.unlock = func(ctx context.Context, key string, token uint64) error {
			if err := h.Full.Unlock(ctx, key, token); !isLost(err) {
				return err
			}
			return nil
		}
	}),
	hooked("unlock by whoever comes", func(h *hooks) {
		noting(h)
		h.unlock = func(ctx context.Context, key string, token uint64) error {
			if had := last(key); had.token != 0 {
				token = had.token
			}
			return h.Full.Unlock(ctx, key, token)
		}
	}),
	hooked("not in one step", func(h *hooks) {
		noting(h)
		note := h.try
		h.try = func(ctx context.Context, key, owner string, lease time.Duration) (lock.Lease, error) {
			looked := time.Now()
			got, err := note(ctx, key, owner, lease)
			if !isHeld(err) {
				return got, err
			}
			time.Sleep(time.Millisecond)
			if had := last(key); had.at.After(looked) { // it was free when this one looked
				return lock.Lease{Token: had.token, Lease: lease}, nil
			}
			return got, err
		}
	}),
	hooked("second close fails", func(h *hooks) {
		var once sync.Once
		h.close = func(ctx context.Context) error {
			err := errors.New("closed already")
			once.Do(func() { err = h.Full.Close(ctx) })
			return err
		}
	}),
}
