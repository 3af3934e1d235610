package integration

import (
	"context"
	"errors"
	"syscall"
	"testing"
	"time"

	"github.com/outrigger-mesh/outrigger/integration/harness"
	client "github.com/outrigger-mesh/outrigger/sdk/go"
)

// second is a sidecar beside another one of the same application, with the same data folder.
const second = `api: {socket: none}
mesh: {registry: ""}
state: {default: {driver: local}}
lock: {default: {driver: local}}
`

// retried makes a call again while the store is between two owners.
func retried(t *testing.T, call func() error) error {
	t.Helper()
	var err error
	harness.Eventually(t, 30*time.Second, func() error {
		if err = call(); errors.Is(err, client.ErrUnavailable) {
			return err
		}
		return nil
	})
	return err
}

// TestLocksOutliveTheStoresOwner kills the sidecar that owns the store, while one that is its client has a lock, waits for one and
// draws numbers.
func TestLocksOutliveTheStoresOwner(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	owner := harness.Start(t, harness.Options{App: "owner"})
	beside := harness.Start(t, harness.Options{App: "a", DataDir: owner.DataDir})
	c := beside.Client()
	locks := c.Lock("")
	got, err := locks.TryLock(ctx, client.LockRequest{Name: "l", Owner: "me", Lease: time.Hour})
	if err != nil {
		t.Fatal(err)
	}
	numbers, err := c.Sequence("").Next(ctx, "k", 10)
	if err != nil {
		t.Fatal(err)
	}
	waited := make(chan uint64, 1)
	go func() {
		h, err := locks.Acquire(ctx, "l", time.Minute)
		if err == nil {
			err = h.Unlock()
		}
		if err != nil {
			t.Error(err)
		}
		waited <- h.Token()
	}()
	time.Sleep(200 * time.Millisecond) // it waits
	owner.Kill()
	err = retried(t, func() error {
		_, err := locks.TryLock(ctx, client.LockRequest{Name: "l", Owner: "you"})
		return err
	})
	if client.Reason(err) != client.ReasonLockHeld {
		t.Errorf("the lock, after its store's owner was killed: %v, want that it is held", err)
	}
	err = retried(t, func() error {
		next, err := c.Sequence("").Next(ctx, "k", 1)
		if err == nil && next.First <= numbers.Last {
			t.Errorf("%+v after %+v", next, numbers)
		}
		return err
	})
	if err != nil {
		t.Error(err)
	}
	if err := retried(t, func() error { return locks.Unlock(ctx, "l", got.Token) }); err != nil {
		t.Error(err)
	}
	if token := <-waited; token <= got.Token {
		t.Errorf("token %d after %d", token, got.Token)
	}
}

// TestAFrozenHolderIsFencedOff stops the sidecar of a holder for longer than the lease. Another gets the lock and writes; what the
// first writes when it goes on is refused.
func TestAFrozenHolderIsFencedOff(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	owner := harness.Start(t, harness.Options{App: "owner"}) // a frozen owner would hold up the store
	one := harness.Start(t, harness.Options{App: "a", DataDir: owner.DataDir})
	two := harness.Start(t, harness.Options{App: "a", DataDir: owner.DataDir, Config: second})
	mine := one.Client()
	theirs, err := client.Dial(ctx, client.WithAddress(two.GRPC))
	if err != nil {
		t.Fatal(err)
	}
	defer theirs.Close()
	first, err := mine.Lock("").Acquire(ctx, "l", time.Second)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := mine.State("").Set(ctx, "k", client.Item{Value: []byte("first")}, first.Fence()); err != nil {
		t.Fatal(err)
	}
	time.Sleep(1500 * time.Millisecond) // heartbeats keep it
	if err := first.Err(); err != nil {
		t.Fatal(err)
	}
	one.Freeze()
	next, err := theirs.Lock("").Acquire(ctx, "l", time.Minute)
	if err != nil {
		t.Fatal(err)
	}
	if next.Token() <= first.Token() {
		t.Errorf("token %d after %d", next.Token(), first.Token())
	}
	if _, err := theirs.State("").Set(ctx, "k", client.Item{Value: []byte("second")}, next.Fence()); err != nil {
		t.Fatal(err)
	}
	one.Signal(syscall.SIGCONT)
	select {
	case <-first.Done():
	case <-ctx.Done():
		t.Fatal("the first holder does not hear that it has lost the lock")
	}
	if err := first.Err(); client.Reason(err) != client.ReasonLockLost {
		t.Errorf("the first holder: %v", err)
	}
	err = retried(t, func() error {
		_, err := mine.State("").Set(ctx, "k", client.Item{Value: []byte("too late")}, first.Fence())
		return err
	})
	if client.Reason(err) != "STALE_FENCE" {
		t.Errorf("what the first holder wrote afterwards: %v, want STALE_FENCE", err)
	}
	if item, err := theirs.State("").Get(ctx, "k"); err != nil || string(item.Value) != "second" {
		t.Errorf("%q, %v", item.Value, err)
	}
	if err := next.Unlock(); err != nil {
		t.Error(err)
	}
}
