package locktest

import (
	"strings"
	"testing"
	"time"

	"github.com/outrigger-mesh/outrigger/components"
	"github.com/outrigger-mesh/outrigger/components/lock"
)

// taking is about who gets a lock, and how it is given back.
var taking = []test{
	{"FreeIsGiven", func(t *testing.T, f *fixture) {
		got := f.take(t, "l", "", time.Minute)
		if got.Token == 0 || got.Lease <= 0 || got.Lease > time.Minute {
			t.Errorf("got %+v", got)
		}
	}},
	{"HeldIsRefused", func(t *testing.T, f *fixture) {
		f.take(t, "l", "", time.Minute)
		if left := f.held(t, "l"); left <= 0 || left > time.Minute {
			t.Errorf("a lease of a minute has %v left", left)
		}
	}},
	{"OwnerGetsItAgain", func(t *testing.T, f *fixture) {
		first := f.take(t, "l", "a", time.Minute)
		again := f.take(t, "l", "a", long)
		if again.Token != first.Token || again.Lease <= time.Minute {
			t.Errorf("first %+v, again %+v", first, again)
		}
		if left := f.held(t, "l"); left <= time.Minute {
			t.Errorf("the new lease of %v has %v left", long, left)
		}
		if got, err := f.try("l", "A", long); err == nil {
			t.Errorf("another owner got %+v", got)
		}
	}},
	{"UnlockFrees", func(t *testing.T, f *fixture) {
		first := f.take(t, "l", "a", long)
		f.unlock(t, "l", first.Token)
		second := f.take(t, "l", "b", long)
		if second.Token <= first.Token {
			t.Errorf("token %d after %d", second.Token, first.Token)
		}
		lost(t, f.Unlock(t.Context(), f.caller, "l", first.Token))
		f.held(t, "l")
	}},
	{"UnlockTwice", func(t *testing.T, f *fixture) {
		got := f.take(t, "l", "", long)
		f.unlock(t, "l", got.Token)
		lost(t, f.Unlock(t.Context(), f.caller, "l", got.Token))
	}},
	{"AnothersToken", func(t *testing.T, f *fixture) {
		one, two := f.take(t, "one", "", long), f.take(t, "two", "", long)
		lost(t, f.Unlock(t.Context(), f.caller, "one", two.Token+1))
		_, err := f.Renew(t.Context(), f.caller, "one", two.Token+1, long)
		lost(t, err)
		f.held(t, "one")
		f.unlock(t, "one", one.Token)
		f.held(t, "two")
	}},
	{"NeverLocked", func(t *testing.T, f *fixture) {
		lost(t, f.Unlock(t.Context(), f.caller, "l", 1))
		_, err := f.Renew(t.Context(), f.caller, "l", 1, long)
		lost(t, err)
	}},
	{"TokensGrow", func(t *testing.T, f *fixture) {
		other := f.another(t)
		var last uint64
		for i := range 20 {
			by := f
			if i%2 == 1 {
				by = other
			}
			got := by.take(t, "l", "same", long)
			if got.Token <= last {
				t.Fatalf("token %d after %d", got.Token, last)
			}
			last = got.Token
			by.unlock(t, "l", got.Token)
		}
	}},
	{"NamesAreApart", func(t *testing.T, f *fixture) {
		names := []string{"l", "L", "l/", "l/l", "ł", "l ", strings.Repeat("l", components.MaxKey), strings.Repeat("l", components.MaxKey-1) + "m"}
		for _, name := range names {
			f.take(t, name, "", long)
		}
		for _, name := range names {
			f.held(t, name)
		}
	}},
	{"ApplicationsAreApart", func(t *testing.T, f *fixture) {
		mine := f.take(t, "l", "a", long)
		other := *f
		other.caller.App += "-2"
		theirs := other.take(t, "l", "a", long)
		lost(t, other.Unlock(t.Context(), other.caller, "l", mine.Token))
		other.unlock(t, "l", theirs.Token)
		f.held(t, "l")
	}},
	{"AnotherDriverSees", func(t *testing.T, f *fixture) {
		other := f.another(t)
		got := f.take(t, "l", "", long)
		other.held(t, "l")
		if _, err := other.Renew(t.Context(), f.caller, "l", got.Token, long); err != nil {
			t.Errorf("renew by another driver: %v", err)
		}
		other.unlock(t, "l", got.Token)
		f.take(t, "l", "", long)
	}},
	{"CloseTwice", func(t *testing.T, f *fixture) {
		f.take(t, "l", "", lock.MinLease)
		closer, ok := f.driver.(components.Closer)
		if !ok {
			t.Logf("%T has no Close: tested is only that it can be used", f.driver)
			return
		}
		for range 2 {
			if err := closer.Close(t.Context()); err != nil {
				t.Errorf("close: %v", err)
			}
		}
	}},
}
