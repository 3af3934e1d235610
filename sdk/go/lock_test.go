package client_test

import (
	"context"
	"errors"
	"testing"
	"time"

	lockv1 "github.com/outrigger-mesh/outrigger/proto/outrigger/lock/v1"
	client "github.com/outrigger-mesh/outrigger/sdk/go"
)

func TestLock(t *testing.T) {
	ctx := within(t)
	l := dial(t, client.WithAddress(start(t, newWorld(), "127.0.0.1:0").target)).Lock("")
	got, err := l.TryLock(ctx, client.LockRequest{Name: "l", Owner: "a", Lease: time.Minute})
	if err != nil || got != (client.Lease{Token: 1, Lease: time.Minute}) {
		t.Fatalf("%+v, %v", got, err)
	}
	_, err = l.TryLock(ctx, client.LockRequest{Name: "l"})
	if !errors.Is(err, client.ErrPrecondition) || client.Reason(err) != client.ReasonLockHeld {
		t.Errorf("of a held lock: %v", err)
	}
	if again, err := l.Lock(ctx, client.LockRequest{Name: "l", Owner: "a", Lease: time.Hour}); err != nil || again.Token != 1 {
		t.Errorf("again: %+v, %v", again, err)
	}
	if renewed, err := l.Renew(ctx, "l", 1, time.Second); err != nil || renewed != (client.Lease{Token: 1, Lease: time.Second}) {
		t.Errorf("renewed: %+v, %v", renewed, err)
	}
	if err := l.Unlock(ctx, "l", 1); err != nil {
		t.Error(err)
	}
	if err := l.Unlock(ctx, "l", 1); !errors.Is(err, client.ErrPrecondition) || client.Reason(err) != client.ReasonLockLost {
		t.Errorf("unlocked again: %v", err)
	}
}

func isLost(err error) bool {
	return errors.Is(err, client.ErrPrecondition) && client.Reason(err) == client.ReasonLockLost
}

func TestAcquireWaitsAndKeeps(t *testing.T) {
	ctx := within(t)
	w := newWorld()
	l := dial(t, client.WithAddress(start(t, w, "127.0.0.1:0").target)).Lock("")
	first, err := l.Acquire(ctx, "l", 300*time.Millisecond)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := l.TryAcquire(ctx, "l", 0); client.Reason(err) != client.ReasonLockHeld {
		t.Errorf("of a held lock: %v", err)
	}
	brief, cancel := context.WithTimeout(ctx, 50*time.Millisecond)
	defer cancel()
	if _, err := l.Acquire(brief, "l", 0); !errors.Is(err, context.DeadlineExceeded) || client.Reason(err) != client.ReasonLockHeld {
		t.Errorf("of a held lock, not for long: %v", err)
	}
	second := make(chan *client.HeldLock)
	go func() {
		h, err := l.Acquire(ctx, "l", time.Minute)
		if err != nil {
			t.Error(err)
		}
		second <- h
	}()
	waitFor(t, func() bool { w.locks.mu.Lock(); defer w.locks.mu.Unlock(); return w.locks.beats > 5 })
	if err := first.Err(); err != nil || first.Context().Err() != nil {
		t.Errorf("it is held no more: %v", err)
	}
	if err := first.Unlock(); err != nil {
		t.Error(err)
	}
	h := <-second
	if h.Token() <= first.Token() || h.Fence() != (client.Fence{Name: "l", Token: h.Token()}) {
		t.Errorf("token %d after %d, fence %+v", h.Token(), first.Token(), h.Fence())
	}
	if err := first.Err(); !isLost(err) || context.Cause(first.Context()) != err || first.Unlock() != nil {
		t.Errorf("unlocked: %v", err)
	}
	close(w.locks.draining)
	<-h.Draining()
	if err := h.Unlock(); err != nil {
		t.Error(err)
	}
}

func TestAHeldLockIsLost(t *testing.T) {
	for how, lose := range map[string]func(w *world, f *fake){
		"to another holder":              func(w *world, f *fake) { w.locks.mu.Lock(); w.locks.tokens["l"] = 99; w.locks.mu.Unlock() },
		"with its sidecar":               func(w *world, f *fake) { f.stop() },
		"for want of answers in a lease": func(w *world, f *fake) { w.locks.mu.Lock(); w.locks.mute = true; w.locks.mu.Unlock() },
	} {
		t.Run(how, func(t *testing.T) {
			w := newWorld()
			f := start(t, w, "127.0.0.1:0")
			h, err := dial(t, client.WithAddress(f.target)).Lock("").Acquire(within(t), "l", 300*time.Millisecond)
			if err != nil {
				t.Fatal(err)
			}
			lose(w, f)
			select {
			case <-h.Done():
			case <-time.After(30 * time.Second):
				t.Fatal("it is never lost")
			}
			if err := h.Err(); !isLost(err) || !isLost(context.Cause(h.Context())) || !isLost(h.Unlock()) {
				t.Errorf("%v", err)
			}
		})
	}
}

func TestTheWaitForALockOutlastsTheSidecar(t *testing.T) {
	ctx := within(t)
	w := newWorld()
	f := start(t, w, "127.0.0.1:0")
	l := dial(t, client.WithAddress(f.target)).Lock("")
	got, err := l.TryLock(ctx, client.LockRequest{Name: "l", Owner: "a"})
	if err != nil {
		t.Fatal(err)
	}
	waits := make(chan error)
	go func() {
		h, err := l.Acquire(ctx, "l", time.Minute)
		if err == nil {
			err = h.Unlock()
		}
		waits <- err
	}()
	waitFor(t, func() bool { w.mu.Lock(); defer w.mu.Unlock(); return len(w.calls) > 1 })
	f.stop()
	start(t, w, f.target)
	if _, err := w.locks.Unlock(ctx, &lockv1.UnlockRequest{Name: "l", Token: got.Token}); err != nil {
		t.Fatal(err)
	}
	if err := <-waits; err != nil {
		t.Error(err)
	}
}

func TestSequence(t *testing.T) {
	ctx := within(t)
	s := dial(t, client.WithAddress(start(t, newWorld(), "127.0.0.1:0").target)).Sequence("")
	one, err := s.Next(ctx, "k", 10)
	if err != nil || one != (client.Numbers{First: 1, Last: 10}) {
		t.Errorf("%+v, %v", one, err)
	}
	if two, err := s.Unique(ctx, "k", 1); err != nil || two != (client.Numbers{First: 1011, Last: 1011}) {
		t.Errorf("%+v, %v", two, err)
	}
	for _, n := range []int{0, -1, 1 << 32} {
		if _, err := s.Next(ctx, "k", n); !errors.Is(err, client.ErrInvalid) {
			t.Errorf("%d numbers: %v", n, err)
		}
	}
}
