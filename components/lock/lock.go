// Package lock gives one owner at a time a name, for a lease. Each time a lock is given its token is greater than every token it
// had before, so that what is protected can refuse those who had it earlier: no lease keeps a holder that was frozen from
// waking up.
//
// Each application has its own names. Owners are within the application.
//
// # Fronts and drivers
//
// Lock is what front-ends call; behind it stands a Driver for each kind of store. Where a driver cannot wait for its turn the
// front asks again and again; then who comes first is not always served first.
package lock

import (
	"context"
	"fmt"
	"time"

	"github.com/outrigger-mesh/outrigger/components"
)

// Drivers are those of this build.
var Drivers = components.NewRegistry[Driver]("lock")

// Bounds of what the front lets pass, and the lease of who asks for none.
const (
	MinLease     = 100 * time.Millisecond
	MaxLease     = 24 * time.Hour
	DefaultLease = 30 * time.Second
)

// Reasons of this capability.
const (
	ReasonHeld components.Reason = "LOCK_HELD"
	ReasonLost components.Reason = "LOCK_LOST"
)

// Lease is what a holder has.
type Lease struct {
	Token uint64        // at least 1, and greater than any that this lock had before
	Lease time.Duration // what was left of it when the driver answered
}

// Driver is what a store implements. Leases run by the store's clock: they end by themselves, whatever becomes of who holds
// them, and are over for all clients at the same moment; one that has ended is as if it had never been. Each call is one step for
// every other client of the store. Keys, owners (never empty) and leases (from MinLease to MaxLease) have been checked. Safe
// for concurrent use.
type Driver interface {
	// TryLock takes a lock that nobody holds, and fails with Held if another owner has it. The owner that holds it gets the
	// token that it has, with a new lease. A token is safe in the store before it is answered.
	TryLock(ctx context.Context, key, owner string, lease time.Duration) (Lease, error)
	// Renew gives the holder a new lease, counted from now, and answers what of it is left; it fails with Lost if the token does not
	// hold the lock.
	Renew(ctx context.Context, key string, token uint64, lease time.Duration) (time.Duration, error)
	// Unlock frees the lock, and fails with Lost if the token does not hold it.
	Unlock(ctx context.Context, key string, token uint64) error
}

// Waiter is a driver that has a queue. Otherwise the front asks again and again.
type Waiter interface {
	// Lock is TryLock, but waits for a lock that is held: those who wait are served first come, first served, at once when it is
	// freed or its lease ends. A driver may bound how many wait, with Crowded for more. It returns soon when ctx has ended, with its error or a lock that was given just then; a lock that
	// it does not answer it has not got.
	Lock(ctx context.Context, key, owner string, lease time.Duration) (Lease, error)
}

// Left is what is left of a lease that was asked for at a time: it may have begun then, however late the answer was.
func Left(lease time.Duration, asked time.Time) time.Duration {
	return max(lease-time.Since(asked), time.Millisecond)
}

// Held is the error for a lock that another owner has, for so long as far as is known.
func Held(left time.Duration) error {
	return &components.Detail{Err: fmt.Errorf("%w: another owner holds the lock", components.ErrPrecondition),
		Reason: ReasonHeld, RetryAfter: max(left, time.Millisecond)}
}

// Crowded is the error for who would wait where too many do, as why says; one of them may have its turn after so long.
func Crowded(why string, left time.Duration) error {
	return &components.Detail{Err: fmt.Errorf("%w: %s", components.ErrExhausted, why), Reason: components.ReasonOverloaded,
		Metadata: map[string]string{"limit": "waiters"}, RetryAfter: max(left, time.Millisecond)}
}

// Lost is the error for a token that does not hold its lock, be it that it never did.
func Lost() error {
	return components.WithReason(fmt.Errorf("%w: the token does not hold the lock", components.ErrPrecondition), ReasonLost)
}
