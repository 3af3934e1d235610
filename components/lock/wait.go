package lock

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"time"

	"github.com/outrigger-mesh/outrigger/components"
)

// How the front asks a driver that cannot wait: soon at first, and never later than when the lease that is known of has ended.
const (
	firstPause = 5 * time.Millisecond
	lastPause  = 500 * time.Millisecond
)

// freeing is how long the front tries to give back what nobody is there for any more.
const freeing = 5 * time.Second

// wait waits for a lock as the driver can. Who is not there to have it when it comes does not keep it.
func wait(ctx context.Context, d Driver, key string, r Request) (Lease, error) {
	if w, ok := d.(Waiter); ok {
		got, err := w.Lock(ctx, key, r.Owner, r.Lease)
		return received(ctx, d, key, r, got, err)
	}
	for pause := firstPause; ; pause = min(2*pause, lastPause) {
		got, err := d.TryLock(ctx, key, r.Owner, r.Lease)
		left, held := heldFor(err)
		if !held {
			return received(ctx, d, key, r, got, err)
		}
		jittered := pause/2 + rand.N(pause)
		select {
		case <-time.After(min(jittered, left)):
		case <-ctx.Done():
			return Lease{}, context.Cause(ctx)
		}
	}
}

// received is the answer of a driver, unless ctx has ended: then what was taken is freed. What an owner with a name has is not:
// another call of the same owner may rely on it by now.
func received(ctx context.Context, d Driver, key string, r Request, got Lease, err error) (Lease, error) {
	cause := context.Cause(ctx)
	if cause == nil || err != nil {
		return got, err
	}
	if r.nameless {
		free(ctx, d, key, got.Token)
	}
	return Lease{}, cause
}

// free gives a lock back. It cannot tell anybody that it did not succeed: then the lease runs out.
func free(ctx context.Context, d Driver, key string, token uint64) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), freeing)
	defer cancel()
	_ = d.Unlock(ctx, key, token)
}

func heldFor(err error) (left time.Duration, held bool) {
	var d *components.Detail
	if errors.As(err, &d) && d.Reason == ReasonHeld {
		return max(d.RetryAfter, time.Millisecond), true
	}
	return 0, false
}

// soon ends with ctx, or so much before its deadline that the answer still arrives.
func soon(ctx context.Context) (context.Context, context.CancelFunc) {
	deadline, ok := ctx.Deadline()
	if !ok {
		return context.WithCancel(ctx)
	}
	return context.WithDeadline(ctx, deadline.Add(-margin(time.Until(deadline))))
}

// margin is more than what the API takes off a call's time to answer it before its caller gives up.
func margin(left time.Duration) time.Duration { return min(left/8, 60*time.Millisecond) }

// ended is why nobody waits any longer.
func ended(ctx context.Context) error {
	cause := context.Cause(ctx)
	if errors.Is(cause, context.DeadlineExceeded) {
		return timeUp()
	}
	return cause
}

func timeUp() error {
	return components.WithReason(fmt.Errorf("the lock was held all the time: %w", context.DeadlineExceeded), ReasonHeld)
}
