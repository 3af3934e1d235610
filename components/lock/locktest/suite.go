// Package locktest is the specification of lock drivers as tests: each driver passes Run.
package locktest

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/outrigger-mesh/outrigger/components"
	"github.com/outrigger-mesh/outrigger/components/componenttest"
	"github.com/outrigger-mesh/outrigger/components/lock"
)

// Suite is the specification for one kind of driver.
type Suite struct {
	// Open makes a driver. It is called more than once for a test, and what it makes for one shares one store. The suite closes
	// them.
	Open func(t *testing.T) lock.Driver
	// Tolerance is how much sooner than asked a lease may be over; 0: 2 ms.
	Tolerance time.Duration
	// Lease is what tests of its end work with, at least lock.MinLease; 0: 150 ms.
	Lease time.Duration
}

// Run runs the suite with what suits a store on the same machine.
func Run(t *testing.T, open func(t *testing.T) lock.Driver) {
	t.Helper()
	Suite{Open: open}.Run(t)
}

// Run runs the suite. Its tests run in parallel, as applications that no other run uses.
func (s Suite) Run(t *testing.T) {
	t.Helper()
	if s.Tolerance == 0 {
		s.Tolerance = 2 * time.Millisecond
	}
	if s.Lease == 0 {
		s.Lease = 150 * time.Millisecond
	}
	for _, group := range [][]test{taking, ending, waiting, racing} {
		for _, c := range group {
			t.Run(c.name, func(t *testing.T) {
				t.Parallel()
				f := s.open(t)
				c.run(t, f)
			})
		}
	}
}

type test struct {
	name string
	run  func(*testing.T, *fixture)
}

// fixture is a lock component with one driver, used by an application of its own.
type fixture struct {
	Suite
	*lock.Lock
	driver lock.Driver
	caller components.Caller
}

func (s Suite) open(t *testing.T) *fixture {
	t.Helper()
	d := s.driver(t)
	return &fixture{Suite: s, Lock: front(d), driver: d, caller: componenttest.Caller()}
}

// another is a second driver on the same store, used by the same application.
func (f *fixture) another(t *testing.T) *fixture {
	t.Helper()
	d := f.Suite.driver(t)
	return &fixture{Suite: f.Suite, Lock: front(d), driver: d, caller: f.caller}
}

func (s Suite) driver(t *testing.T) lock.Driver {
	t.Helper()
	d := s.Open(t)
	t.Cleanup(func() { componenttest.Close(t, d) })
	return d
}

func front(d lock.Driver) *lock.Lock { return lock.New(componenttest.Component("lock", d)) }

// long is a lease that does not end before the test does.
const long = time.Hour

// patience is how long a test waits for what must come.
const patience = 15 * time.Second

func (f *fixture) try(name, owner string, lease time.Duration) (lock.Lease, error) {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	return f.TryLock(ctx, f.caller, lock.Request{Name: name, Owner: owner, Lease: lease})
}

// take takes a lock that must be free.
func (f *fixture) take(t *testing.T, name, owner string, lease time.Duration) lock.Lease {
	t.Helper()
	got, err := f.try(name, owner, lease)
	if err != nil {
		t.Fatalf("try lock %q: %v", name, err)
	}
	return got
}

// held fails unless somebody else has the lock, and answers for how long.
func (f *fixture) held(t *testing.T, name string) time.Duration {
	t.Helper()
	got, err := f.try(name, "", long)
	if err == nil {
		t.Fatalf("the lock was given away with token %d", got.Token)
	}
	return reason(t, err, components.ErrPrecondition, lock.ReasonHeld).RetryAfter
}

// freed fails unless the lock becomes free; it takes it.
func (f *fixture) freed(t *testing.T, name string) lock.Lease {
	t.Helper()
	var got lock.Lease
	componenttest.Eventually(t, patience, func() (err error) {
		got, err = f.try(name, "", long)
		return err
	})
	return got
}

func (f *fixture) unlock(t *testing.T, name string, token uint64) {
	t.Helper()
	if err := f.Unlock(t.Context(), f.caller, name, token); err != nil {
		t.Fatalf("unlock: %v", err)
	}
}

// result is how a Lock in the background ended.
type result struct {
	lock.Lease
	err error
}

// lock waits for a lock in the background.
func (f *fixture) lock(ctx context.Context, name, owner string, lease time.Duration) <-chan result {
	done := make(chan result, 1)
	go func() {
		got, err := f.Lock.Lock(ctx, f.caller, lock.Request{Name: name, Owner: owner, Lease: lease})
		done <- result{got, err}
	}()
	return done
}

func (f *fixture) within(t *testing.T) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	t.Cleanup(cancel)
	return ctx
}

// receive answers the lock that must come.
func receive(t *testing.T, from <-chan result) lock.Lease {
	t.Helper()
	r := arrived(t, from)
	if r.err != nil {
		t.Fatalf("lock: %v", r.err)
	}
	return r.Lease
}

// arrived answers what must arrive.
func arrived[T any](t *testing.T, from <-chan T) (v T) {
	t.Helper()
	select {
	case v = <-from:
	case <-time.After(patience):
		t.Fatal("nothing arrives")
	}
	return v
}

// nothing fails if there is a result within a moment, which is not to be.
func nothing(t *testing.T, from <-chan result) {
	t.Helper()
	select {
	case r := <-from:
		t.Fatalf("the wait is over: %+v", r)
	case <-time.After(100 * time.Millisecond):
	}
}

// reason fails unless err is of a kind and has a reason.
func reason(t *testing.T, err, kind error, reason components.Reason) *components.Detail {
	t.Helper()
	var d *components.Detail
	if !errors.Is(err, kind) || !errors.As(err, &d) || d.Reason != reason {
		t.Fatalf("error: %v; want %v with reason %s", err, kind, reason)
	}
	return d
}

func lost(t *testing.T, err error) {
	t.Helper()
	reason(t, err, components.ErrPrecondition, lock.ReasonLost)
}
