package lock

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"time"
	"unicode/utf8"

	"github.com/outrigger-mesh/outrigger/components"
)

// Lock is a lock component as front-ends call it. All its errors wrap one of the kinds of components, or a context's error, and
// name the component. Safe for concurrent use.
type Lock struct {
	component *components.Component[Driver]
}

// New puts the front before a component.
func New(c *components.Component[Driver]) *Lock { return &Lock{component: c} }

// Named says of an error in a request, found before the call, which component the request was for.
func (l *Lock) Named(err error) error { return l.component.Named(err) }

// Request is who wants which lock.
type Request struct {
	Name  string
	Owner string        // empty: nobody else than this call
	Lease time.Duration // 0: DefaultLease

	nameless bool // the owner is this call's alone
}

// TryLock takes a free lock, or fails with Held. An owner that holds it already gets the same token again, with a new lease. What
// was taken for a caller without a name whose ctx has ended meanwhile is freed.
func (l *Lock) TryLock(ctx context.Context, caller components.Caller, r Request) (got Lease, err error) {
	call, err := l.component.Begin(ctx, "try_lock")
	if err != nil {
		return Lease{}, err
	}
	defer call.End(&err)
	key, r, err := r.checked(caller)
	if err != nil {
		return Lease{}, err
	}
	got, err = call.Driver.TryLock(ctx, key, r.Owner, r.Lease)
	return received(ctx, call.Driver, key, r, got, err)
}

// Lock waits for its turn as long as ctx lasts. When the time is up it fails with context.DeadlineExceeded and the reason of Held, a
// little before the deadline: who asks is told so before its own timer ends the call. A lock that comes too late is freed as TryLock does.
func (l *Lock) Lock(ctx context.Context, caller components.Caller, r Request) (Lease, error) {
	key, r, err := r.checked(caller)
	if err != nil {
		return Lease{}, l.component.Named(err)
	}
	waiting, cancel := soon(ctx)
	defer cancel()
	for {
		got, err := l.lock(waiting, key, r)
		switch {
		case err == nil:
			return got, nil
		case errors.Is(err, context.DeadlineExceeded): // a driver may see the end of the time before the timer of waiting has run
			return Lease{}, l.component.Named(timeUp())
		case ctx.Err() == nil && waiting.Err() == nil && !reloaded(err):
			return got, err
		case reloaded(err) && waiting.Err() == nil: // the next driver has the queue now
		default:
			return Lease{}, l.component.Named(ended(waiting))
		}
	}
}

func (l *Lock) lock(ctx context.Context, key string, r Request) (got Lease, err error) {
	call, ctx, err := l.component.Stream(ctx, "lock")
	if err != nil {
		return Lease{}, err
	}
	defer call.End(&err)
	return wait(ctx, call.Driver, key, r)
}

// Renew gives the holder a new lease, counted from now (0: DefaultLease), and answers what of it is left; it fails with Lost if the
// token does not hold the lock.
func (l *Lock) Renew(ctx context.Context, caller components.Caller, name string, token uint64, lease time.Duration) (
	left time.Duration, err error,
) {
	call, err := l.component.Begin(ctx, "renew")
	if err != nil {
		return 0, err
	}
	defer call.End(&err)
	key, err := keyOf(caller, name, token)
	if err != nil {
		return 0, err
	}
	if lease, err = checkLease(lease); err != nil {
		return 0, err
	}
	return call.Driver.Renew(ctx, key, token, lease)
}

// Unlock frees the lock, and fails with Lost if the token does not hold it.
func (l *Lock) Unlock(ctx context.Context, caller components.Caller, name string, token uint64) (err error) {
	call, err := l.component.Begin(ctx, "unlock")
	if err != nil {
		return err
	}
	defer call.End(&err)
	key, err := keyOf(caller, name, token)
	if err != nil {
		return err
	}
	return call.Driver.Unlock(ctx, key, token)
}

func (r Request) checked(caller components.Caller) (key string, _ Request, err error) {
	if key, err = caller.StoredKey(r.Name); err != nil {
		return "", r, err
	}
	if len(r.Owner) > components.MaxKey || !utf8.ValidString(r.Owner) {
		return "", r, fmt.Errorf("%w: the owner is longer than %d bytes or not valid UTF-8", components.ErrInvalid, components.MaxKey)
	}
	if r.nameless = r.Owner == ""; r.nameless {
		r.Owner = "call " + rand.Text()
	} else {
		r.Owner = "name " + r.Owner // which no call's can be
	}
	r.Lease, err = checkLease(r.Lease)
	return key, r, err
}

func keyOf(caller components.Caller, name string, token uint64) (string, error) {
	if token == 0 {
		return "", fmt.Errorf("%w: the token is missing", components.ErrInvalid)
	}
	return caller.StoredKey(name)
}

// checkLease rounds up to whole milliseconds, which every store can keep.
func checkLease(lease time.Duration) (time.Duration, error) {
	switch {
	case lease == 0:
		return DefaultLease, nil
	case lease < MinLease || lease > MaxLease:
		return 0, fmt.Errorf("%w: a lease of %s is not from %s to %s", components.ErrInvalid, lease, MinLease, MaxLease)
	}
	return (lease + time.Millisecond - 1).Truncate(time.Millisecond), nil
}

func reloaded(err error) bool {
	var d *components.Detail
	return errors.As(err, &d) && d.Reason == components.ReasonReloaded
}
