package lock

import (
	"context"
	"errors"
	"time"

	"github.com/outrigger-mesh/outrigger/components"
)

// Hold is a lock that is kept for as long as its holder gives signs of life.
type Hold struct {
	Request
	Wait bool // for a lock that is held, as long as the context lasts; otherwise that fails with Held
	// Heartbeats are the signs. When it is closed the holder wants the lock no more.
	Heartbeats <-chan struct{}
	// Draining is closed when the holder should come to its end; nil: never.
	Draining <-chan struct{}
	// Tell is told what happened, one after the other. If it fails the hold ends with its error.
	Tell func(Event, Lease) error
}

// Event is what a holder is told.
type Event int

// What a holder is told, the first two with its lease: that it has the lock, once; of each heartbeat what the
// lease is by now; and, be it before there is a lock, that Hold.Draining was closed.
const (
	Taken Event = iota + 1
	Renewed
	Draining
)

// Hold takes a lock, keeps it while heartbeats come, and frees it when it returns: with nil once Heartbeats is closed, with Lost when
// none came within the lease or the lock was lost otherwise, else with the cause of ctx's end. A heartbeat that
// comes while the store is away, or full, is answered with what is left of the lease.
func (l *Lock) Hold(ctx context.Context, caller components.Caller, h Hold) (err error) {
	key, r, err := h.checked(caller)
	if err != nil {
		return l.component.Named(err)
	}
	call, ctx, err := l.component.Stream(ctx, "hold")
	if err != nil {
		return err
	}
	defer call.End(&err)
	h.Request = r
	k := &keeper{Hold: h, driver: call.Driver, key: key}
	if err = k.hold(ctx); err == errLeft {
		return nil
	}
	return err
}

// keeper is one Hold under way.
type keeper struct {
	Hold
	driver Driver
	key    string
}

// errLeft is that the holder wants the lock no more.
var errLeft = errors.New("the holder has left")

func (k *keeper) hold(ctx context.Context) error {
	got, err := k.take(ctx)
	if err != nil {
		return err
	}
	defer free(ctx, k.driver, k.key, got.Token)
	if err := k.Tell(Taken, got); err != nil {
		return err
	}
	return k.keep(ctx, got)
}

// take gets the lock. While that takes long the holder may leave, and is told of Draining.
func (k *keeper) take(ctx context.Context) (Lease, error) {
	type result struct {
		got Lease
		err error
	}
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	done := make(chan result, 1)
	go func() {
		var r result
		if k.Wait {
			r.got, r.err = wait(ctx, k.driver, k.key, k.Request)
		} else {
			r.got, r.err = k.driver.TryLock(ctx, k.key, k.Owner, k.Lease)
		}
		done <- r
	}()
	for {
		select {
		case r := <-done:
			cause := context.Cause(ctx)
			if cause == nil {
				return r.got, r.err
			}
			if r.err == nil {
				free(ctx, k.driver, k.key, r.got.Token)
			}
			return Lease{}, cause
		case _, more := <-k.Heartbeats:
			if !more {
				k.Heartbeats = nil
				cancel(errLeft)
			}
		case <-k.Draining:
			if err := k.drain(); err != nil {
				cancel(err)
			}
		}
	}
}

// keep renews the lease with each heartbeat, and answers why that has come to an end.
func (k *keeper) keep(ctx context.Context, got Lease) error {
	end := time.Now().Add(got.Lease)
	out := time.NewTimer(got.Lease)
	defer out.Stop()
	for {
		select {
		case _, more := <-k.Heartbeats:
			if !more {
				return errLeft
			}
			left, err := k.renew(ctx, got.Token, end)
			if errors.Is(err, components.ErrUnavailable) || errors.Is(err, components.ErrExhausted) {
				left, err = time.Until(end), nil // the lease goes on meanwhile, as it is
			}
			if err != nil {
				return err
			}
			end = time.Now().Add(left)
			out.Reset(left)
			if err := k.Tell(Renewed, Lease{Token: got.Token, Lease: left}); err != nil {
				return err
			}
		case <-out.C:
			return Lost()
		case <-k.Draining:
			if err := k.drain(); err != nil {
				return err
			}
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

// renew does not wait for the driver longer than the lease lasts.
func (k *keeper) renew(ctx context.Context, token uint64, end time.Time) (time.Duration, error) {
	bounded, cancel := context.WithDeadline(ctx, end)
	defer cancel()
	left, err := k.driver.Renew(bounded, k.key, token, k.Lease)
	if err != nil && bounded.Err() != nil && ctx.Err() == nil {
		return 0, Lost()
	}
	return left, err
}

func (k *keeper) drain() error {
	k.Draining = nil
	return k.Tell(Draining, Lease{})
}
