package locktest

import (
	"context"
	"errors"
	"slices"
	"testing"
	"time"

	"github.com/outrigger-mesh/outrigger/components"
	"github.com/outrigger-mesh/outrigger/components/lock"
)

// waiting is about Lock and Hold.
var waiting = []test{
	{"LockOfFree", func(t *testing.T, f *fixture) {
		if got := receive(t, f.lock(f.within(t), "l", "", time.Minute)); got.Token == 0 || got.Lease <= 0 || got.Lease > time.Minute {
			t.Errorf("got %+v", got)
		}
		f.held(t, "l")
	}},
	{"LockComesWithUnlock", func(t *testing.T, f *fixture) {
		first := f.take(t, "l", "", long)
		waits := f.another(t).lock(f.within(t), "l", "", long)
		nothing(t, waits)
		f.unlock(t, "l", first.Token)
		if second := receive(t, waits); second.Token <= first.Token {
			t.Errorf("token %d after %d", second.Token, first.Token)
		}
		f.held(t, "l")
	}},
	{"LockComesWithTheEndOfALease", func(t *testing.T, f *fixture) {
		began := time.Now()
		first := f.take(t, "l", "", f.Lease)
		second := receive(t, f.lock(f.within(t), "l", "", long))
		if passed := time.Since(began); second.Token <= first.Token || passed < f.Lease-f.Tolerance {
			t.Errorf("token %d after %d, after %v of a lease of %v", second.Token, first.Token, passed, f.Lease)
		}
		lost(t, f.Unlock(t.Context(), f.caller, "l", first.Token))
	}},
	{"LockComesWhenALeaseIsShortened", func(t *testing.T, f *fixture) {
		first := f.take(t, "l", "", long)
		waits := f.lock(f.within(t), "l", "", long)
		nothing(t, waits)
		if _, err := f.Renew(t.Context(), f.caller, "l", first.Token, f.Lease); err != nil {
			t.Fatal(err)
		}
		receive(t, waits)
	}},
	{"LockOfOnesOwn", func(t *testing.T, f *fixture) {
		first := f.take(t, "l", "a", time.Minute)
		if again := receive(t, f.lock(f.within(t), "l", "a", long)); again.Token != first.Token || again.Lease <= time.Minute {
			t.Errorf("first %+v, again %+v", first, again)
		}
	}},
	{"LockPastItsDeadline", func(t *testing.T, f *fixture) {
		f.take(t, "l", "", long)
		ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
		defer cancel()
		_, err := f.Lock.Lock(ctx, f.caller, lock.Request{Name: "l"})
		reason(t, err, context.DeadlineExceeded, lock.ReasonHeld)
	}},
	{"WhoLeavesGetsNothing", func(t *testing.T, f *fixture) {
		first := f.take(t, "l", "", long)
		ctx, leave := context.WithCancel(t.Context())
		waits := f.lock(ctx, "l", "", long)
		nothing(t, waits)
		leave()
		select {
		case r := <-waits:
			if !errors.Is(r.err, context.Canceled) {
				t.Fatalf("%+v, want that it was canceled", r)
			}
		case <-time.After(patience / 10):
			t.Fatal("it goes on waiting for nobody")
		}
		f.unlock(t, "l", first.Token)
		f.freed(t, "l")
	}},
	{"FirstComeFirstServed", func(t *testing.T, f *fixture) {
		if _, ok := f.driver.(lock.Waiter); !ok {
			t.Logf("%T has no queue: tested is only that all get the lock", f.driver)
		}
		token := f.take(t, "l", "", long).Token
		const crowd = 6
		type served struct {
			number int
			err    error
		}
		order := make(chan served, crowd)
		ctx := f.within(t)
		for i := range crowd {
			waits := f.lock(ctx, "l", "", long)
			nothing(t, waits) // it has come before the next
			go func() {
				r := <-waits
				order <- served{i, r.err}
				_ = f.Unlock(ctx, f.caller, "l", r.Token) // if it fails the next is not served
			}()
		}
		f.unlock(t, "l", token)
		var numbers []int
		for range crowd {
			s := arrived(t, order)
			if s.err != nil {
				t.Errorf("number %d: %v", s.number, s.err)
			}
			numbers = append(numbers, s.number)
		}
		if _, ok := f.driver.(lock.Waiter); ok && !slices.IsSorted(numbers) {
			t.Errorf("served in the order %v", numbers)
		}
		f.freed(t, "l")
	}},
	{"HoldEndsWithItsHeartbeats", func(t *testing.T, f *fixture) {
		beats, events := make(chan struct{}), make(chan lock.Event, 10)
		ended := make(chan error, 1)
		go func() {
			ended <- f.Hold(f.within(t), f.caller, lock.Hold{Request: lock.Request{Name: "l", Lease: 3 * f.Lease}, Heartbeats: beats,
				Tell: func(e lock.Event, l lock.Lease) error { events <- e; return nil }})
		}()
		if e := arrived(t, events); e != lock.Taken {
			t.Fatalf("told %d first", e)
		}
		for end := time.Now().Add(5 * f.Lease); time.Now().Before(end); time.Sleep(f.Lease / 2) {
			select {
			case beats <- struct{}{}:
			case err := <-ended:
				t.Fatalf("hold: %v", err)
			}
			if e := arrived(t, events); e != lock.Renewed {
				t.Fatalf("told %d of a heartbeat", e)
			}
			f.held(t, "l")
		}
		lost(t, arrived(t, ended)) // no more of them come
		f.freed(t, "l")
	}},
	{"HoldFreesWhenItEnds", func(t *testing.T, f *fixture) {
		beats, told := make(chan struct{}), make(chan lock.Lease, 1)
		first := f.take(t, "l", "", long)
		ended := make(chan error, 1)
		go func() {
			ended <- f.Hold(f.within(t), f.caller, lock.Hold{Request: lock.Request{Name: "l", Lease: long}, Wait: true, Heartbeats: beats,
				Tell: func(e lock.Event, l lock.Lease) error { told <- l; return nil }})
		}()
		f.unlock(t, "l", first.Token)
		if second := arrived(t, told); second.Token <= first.Token {
			t.Errorf("token %d after %d", second.Token, first.Token)
		}
		f.held(t, "l")
		close(beats)
		if err := arrived(t, ended); err != nil {
			t.Errorf("hold: %v", err)
		}
		f.take(t, "l", "", long)
	}},
	{"HoldOfHeld", func(t *testing.T, f *fixture) {
		f.take(t, "l", "", long)
		err := f.Hold(f.within(t), f.caller, lock.Hold{Request: lock.Request{Name: "l"}, Heartbeats: make(chan struct{}),
			Tell: func(lock.Event, lock.Lease) error { return errors.New("it was given") }})
		reason(t, err, components.ErrPrecondition, lock.ReasonHeld)
	}},
}
