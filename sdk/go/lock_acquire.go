package client

import (
	"context"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	lockv1 "github.com/outrigger-mesh/outrigger/proto/outrigger/lock/v1"
)

// errMissed is as good as any that asking again mends.
var errMissed = madeHere(codes.Unavailable, ReasonLockLost, "the lock was lost before it was known to be held", 0)

// Acquire waits its turn for a lock, until ctx ends, and takes it. From then on the lock is kept by heartbeats, whatever becomes
// of ctx, until Unlock; should this process end or freeze, others get the lock once the lease is over. A lease of 0 means 30 s.
//
// The wait outlasts a restart of the sidecar. When ctx ends it fails with context.Canceled or context.DeadlineExceeded, reason
// LOCK_HELD.
func (l *Lock) Acquire(ctx context.Context, name string, lease time.Duration) (*HeldLock, error) {
	var h *HeldLock
	err := l.client.resume(ctx, "lock", "hold", func(ctx context.Context) (err error) {
		h, err = l.hold(ctx, name, lease, true)
		if Reason(err) == ReasonLockLost { // this process was frozen when its turn came
			err = errMissed
		}
		return err
	})
	if err != nil && err == ctx.Err() {
		return nil, waitedInVain(ctx)
	}
	return h, err
}

// TryAcquire is Acquire, but fails at once with ErrPrecondition, reason LOCK_HELD, when another owner has the lock.
func (l *Lock) TryAcquire(ctx context.Context, name string, lease time.Duration) (*HeldLock, error) {
	h, err := l.hold(ctx, name, lease, false)
	if ended := ctx.Err(); ended != nil && (err == ended || status.Code(err) == codes.Canceled) {
		err = l.client.failed(status.FromContextError(ended).Err(), nil, false) // the stream's own context has no deadline
	}
	return h, err
}

func waitedInVain(ctx context.Context) error {
	code := codes.DeadlineExceeded
	if ctx.Err() == context.Canceled {
		code = codes.Canceled
	}
	return madeHere(code, ReasonLockHeld, "the lock did not become free in time", 0)
}

// hold takes a lock on a stream, which ends with ctx only as long as there is no lock.
func (l *Lock) hold(ctx context.Context, name string, d time.Duration, wait bool) (*HeldLock, error) {
	holding, cancel := context.WithCancelCause(context.WithoutCancel(ctx))
	stop := context.AfterFunc(ctx, func() { cancel(context.Cause(ctx)) })
	h, err := l.take(holding, cancel, &lockv1.HoldRequest_Start{Component: l.component, Name: name, Lease: lease(d), Wait: wait})
	if err == nil && !stop() { // ctx has ended just now
		err = ctx.Err()
	}
	if err != nil {
		cancel(err)
		return nil, err
	}
	h.keep()
	return h, nil
}

func (l *Lock) take(ctx context.Context, cancel context.CancelCauseFunc, start *lockv1.HoldRequest_Start) (*HeldLock, error) {
	s, err := l.api.Hold(ctx)
	if err != nil {
		return nil, err
	}
	h := &HeldLock{stream: s, ctx: ctx, cancel: cancel, fence: Fence{Component: l.component, Name: start.GetName()},
		draining: make(chan struct{}), ended: make(chan struct{})}
	sent := time.Now()
	if err := s.Send(&lockv1.HoldRequest{Message: &lockv1.HoldRequest_Start_{Start: start}}); err != nil {
		_, err = s.Recv() // that of Send does not say why
		return nil, err
	}
	held, err := h.taken()
	if err != nil {
		return nil, err
	}
	h.fence.Token, h.lease = held.GetToken(), held.GetLease().AsDuration()
	if h.end = sent.Add(h.lease); time.Since(sent) < h.lease/interval {
		return h, nil
	}
	// The wait was long, and this process may have been frozen since the lock was given: only what begins from here on is known.
	return h, h.confirm()
}

// taken reads up to the message that says that the lock is there.
func (h *HeldLock) taken() (*lockv1.HoldResponse_Held, error) {
	for {
		m, err := h.stream.Recv()
		if err != nil {
			return nil, err
		}
		h.heard(m)
		if held := m.GetHeld(); held != nil {
			return held, nil
		}
	}
}

func (h *HeldLock) confirm() error {
	if err := h.beat(); err != nil {
		_, err = h.stream.Recv()
		return err
	}
	for {
		m, err := h.stream.Recv()
		if err != nil {
			return err
		}
		if h.heard(m) {
			return nil
		}
	}
}
