package locktest

import (
	"context"
	"time"

	"github.com/outrigger-mesh/outrigger/components/lock"
)

var endingMutants = []mutant{
	given("leases do not end", func(owner string, _ time.Duration) (string, time.Duration) { return owner, long }, asAnswered),
	given("leases end early", func(owner string, lease time.Duration) (string, time.Duration) { return owner, lease / 2 }, asAnswered),
	hooked("renew does nothing", func(h *hooks) {
		h.renew = func(_ context.Context, _ string, _ uint64, lease time.Duration) (time.Duration, error) {
			return lease, nil
		}
	}),
	hooked("renew of what is lost succeeds", func(h *hooks) {
		h.renew = func(ctx context.Context, key string, token uint64, lease time.Duration) (time.Duration, error) {
			left, err := h.Full.Renew(ctx, key, token, lease)
			if isLost(err) {
				return lease, nil
			}
			return left, err
		}
	}),
	hooked("renew adds to the lease", func(h *hooks) {
		h.renew = func(ctx context.Context, key string, token uint64, lease time.Duration) (time.Duration, error) {
			left, err := h.Full.Renew(ctx, key, token, lease)
			if err == nil {
				_, err = h.Full.Renew(ctx, key, token, lease+long)
			}
			return left, err
		}
	}),
	hooked("a lease asked for again stays", func(h *hooks) {
		noting(h)
		note := h.try
		h.try = func(ctx context.Context, key, owner string, lease time.Duration) (lock.Lease, error) {
			if had := last(key); had.owner == owner && time.Now().Before(had.end) {
				lease = time.Until(had.end)
			}
			return note(ctx, key, owner, lease)
		}
	}),
	hooked("an old token for an owner that comes back", func(h *hooks) {
		noting(h)
		note := h.try
		h.try = func(ctx context.Context, key, owner string, lease time.Duration) (lock.Lease, error) {
			had := last(key)
			got, err := note(ctx, key, owner, lease)
			if err == nil && had.owner == owner {
				got.Token = had.token
			}
			return got, err
		}
	}),
}
