package client

import (
	"context"
	"time"

	"google.golang.org/protobuf/types/known/durationpb"

	lockv1 "github.com/outrigger-mesh/outrigger/proto/outrigger/lock/v1"
)

// Lock is a lock component: it gives one owner at a time a name. Names are the application's own.
//
// Acquire and TryAcquire take a lock and keep it for as long as the process lives and says so; that is what most want. With TryLock
// and its like the caller renews the lease itself.
type Lock struct {
	client    *Client
	component string
	api       lockv1.LockClient
}

// Lock is the lock component of that name; empty means "default". Whether there is one shows at the first call (ErrNoComponent).
func (c *Client) Lock(name string) *Lock { return &Lock{c, name, lockv1.NewLockClient(c.API())} }

// Reasons of locks: their errors are ErrPrecondition, but for LOCK_HELD of a wait whose context ended.
const (
	ReasonLockHeld = "LOCK_HELD" // by another owner
	ReasonLockLost = "LOCK_LOST" // the token does not hold it
)

// LockRequest is who wants which lock.
type LockRequest struct {
	Name  string
	Owner string        // who is to hold it, within the application; empty means nobody else than this call
	Lease time.Duration // from 100 ms to 24 h; 0 means 30 s
}

// Lease is a lock that was given. The token is greater than any that the lock had before.
type Lease struct {
	Token uint64
	Lease time.Duration // what was left of it when the sidecar answered
}

// TryLock takes a free lock. It fails with ErrPrecondition, reason LOCK_HELD, if another owner has it; RetryAfter tells for how
// long. An owner that has it already gets the same token, with a new lease.
func (l *Lock) TryLock(ctx context.Context, r LockRequest) (Lease, error) {
	got, err := l.api.TryLock(ctx, &lockv1.TryLockRequest{Component: l.component, Name: r.Name, Owner: r.Owner, Lease: lease(r.Lease)})
	return Lease{got.GetToken(), got.GetLease().AsDuration()}, err
}

// Lock is TryLock, but waits its turn until ctx ends.
func (l *Lock) Lock(ctx context.Context, r LockRequest) (Lease, error) {
	got, err := l.api.Lock(ctx, &lockv1.LockRequest{Component: l.component, Name: r.Name, Owner: r.Owner, Lease: lease(r.Lease)})
	return Lease{got.GetToken(), got.GetLease().AsDuration()}, err
}

// Renew gives the holder a new lease, counted from now (0: 30 s). It fails with ErrPrecondition, reason LOCK_LOST, if the token does not
// hold the lock.
func (l *Lock) Renew(ctx context.Context, name string, token uint64, d time.Duration) (Lease, error) {
	got, err := l.api.Renew(ctx, &lockv1.RenewRequest{Component: l.component, Name: name, Token: token, Lease: lease(d)})
	return Lease{token, got.GetLease().AsDuration()}, err
}

// Unlock frees the lock. It fails with ErrPrecondition, reason LOCK_LOST, if the token does not hold it.
func (l *Lock) Unlock(ctx context.Context, name string, token uint64) error {
	_, err := l.api.Unlock(ctx, &lockv1.UnlockRequest{Component: l.component, Name: name, Token: token})
	return err
}

func lease(d time.Duration) *durationpb.Duration {
	if d == 0 {
		return nil
	}
	return durationpb.New(d)
}
