package locktest

import (
	"context"
	"errors"
	"slices"
	"sync"
	"time"

	"github.com/outrigger-mesh/outrigger/components"
	"github.com/outrigger-mesh/outrigger/components/componenttest"
	"github.com/outrigger-mesh/outrigger/components/lock"
)

// Full is a driver that offers all of which there are mutants.
type Full interface {
	lock.Driver
	lock.Waiter
	components.Closer
}

// Mutants are faults that drivers may have, each of which Run finds. What they break must be a Full driver.
func Mutants() []componenttest.Mutant[lock.Driver] {
	return slices.Concat(takingMutants, endingMutants, waitingMutants)
}

// taker is TryLock or Lock.
type taker func(ctx context.Context, key, owner string, lease time.Duration) (lock.Lease, error)

// hooks takes the place of some calls of a driver; those that are nil go through.
type hooks struct {
	Full
	try    taker
	renew  func(ctx context.Context, key string, token uint64, lease time.Duration) (time.Duration, error)
	unlock func(ctx context.Context, key string, token uint64) error
	wait   taker
	close  func(ctx context.Context) error
}

func (h *hooks) TryLock(ctx context.Context, key, owner string, lease time.Duration) (lock.Lease, error) {
	if h.try != nil {
		return h.try(ctx, key, owner, lease)
	}
	return h.Full.TryLock(ctx, key, owner, lease)
}

func (h *hooks) Renew(ctx context.Context, key string, token uint64, lease time.Duration) (time.Duration, error) {
	if h.renew != nil {
		return h.renew(ctx, key, token, lease)
	}
	return h.Full.Renew(ctx, key, token, lease)
}

func (h *hooks) Unlock(ctx context.Context, key string, token uint64) error {
	if h.unlock != nil {
		return h.unlock(ctx, key, token)
	}
	return h.Full.Unlock(ctx, key, token)
}

func (h *hooks) Lock(ctx context.Context, key, owner string, lease time.Duration) (lock.Lease, error) {
	if h.wait != nil {
		return h.wait(ctx, key, owner, lease)
	}
	return h.Full.Lock(ctx, key, owner, lease)
}

func (h *hooks) Close(ctx context.Context) error {
	if h.close != nil {
		return h.close(ctx)
	}
	return h.Full.Close(ctx)
}

type mutant = componenttest.Mutant[lock.Driver]

// hooked makes a mutant of what change does to the hooks before a sound driver.
func hooked(name string, change func(h *hooks)) mutant {
	return mutant{Name: name, Break: func(d lock.Driver) lock.Driver {
		h := &hooks{Full: d.(Full)}
		change(h)
		return h
	}}
}

// given is a mutant that changes what is asked and what is answered when a lock is taken.
func given(name string, ask func(owner string, lease time.Duration) (string, time.Duration), change func(got *lock.Lease, err *error)) mutant {
	return hooked(name, func(h *hooks) {
		through := func(take taker) taker {
			return func(ctx context.Context, key, owner string, lease time.Duration) (lock.Lease, error) {
				owner, lease = ask(owner, lease)
				got, err := take(ctx, key, owner, lease)
				change(&got, &err)
				return got, err
			}
		}
		h.try, h.wait = through(h.Full.TryLock), through(h.Full.Lock)
	})
}

func asAsked(owner string, lease time.Duration) (string, time.Duration) { return owner, lease }
func asAnswered(*lock.Lease, *error)                                    {}

// keyed is a mutant that changes keys.
func keyed(name string, change func(key string) string) mutant {
	return hooked(name, func(h *hooks) {
		h.try = func(ctx context.Context, key, owner string, lease time.Duration) (lock.Lease, error) {
			return h.Full.TryLock(ctx, change(key), owner, lease)
		}
		h.wait = func(ctx context.Context, key, owner string, lease time.Duration) (lock.Lease, error) {
			return h.Full.Lock(ctx, change(key), owner, lease)
		}
		h.renew = func(ctx context.Context, key string, token uint64, lease time.Duration) (time.Duration, error) {
			return h.Full.Renew(ctx, change(key), token, lease)
		}
		h.unlock = func(ctx context.Context, key string, token uint64) error {
			return h.Full.Unlock(ctx, change(key), token)
		}
	})
}

// taken is how a lock was given last.
type taken struct {
	owner   string
	token   uint64
	at, end time.Time
}

// known is, over all drivers of the process, how locks were given. Each run has keys of its own.
var known sync.Map

func last(key string) taken {
	if t, ok := known.Load(key); ok {
		return t.(taken)
	}
	return taken{}
}

// noting has known what a driver gives.
func noting(h *hooks) {
	through := func(take taker) taker {
		return func(ctx context.Context, key, owner string, lease time.Duration) (lock.Lease, error) {
			got, err := take(ctx, key, owner, lease)
			if now := time.Now(); err == nil {
				known.Store(key, taken{owner, got.Token, now, now.Add(lease)})
			}
			return got, err
		}
	}
	h.try, h.wait = through(h.Full.TryLock), through(h.Full.Lock)
}

func has(err error, reason components.Reason) bool {
	var d *components.Detail
	return errors.As(err, &d) && d.Reason == reason
}

func isLost(err error) bool { return has(err, lock.ReasonLost) }
func isHeld(err error) bool { return has(err, lock.ReasonHeld) }
