package statetest

import (
	"errors"
	"testing"
	"time"

	"github.com/outrigger-mesh/outrigger/components"
	"github.com/outrigger-mesh/outrigger/components/state"
)

// times is about the time to live. The tests measure from both ends of each call, so that a slow machine or network widens
// what they allow instead of failing them.
var times = []test{
	{"ExpiresOnTime", func(t *testing.T, f *fixture) {
		for _, ttl := range []time.Duration{time.Millisecond, f.TTL, 3*f.TTL/2 + time.Millisecond} {
			f.expires(t, "k", ttl, func() { f.put(t, "k", state.Item{Value: []byte("v"), TTL: ttl}) })
			entries, _, err := f.List(t.Context(), f.caller, "k", 0, "", false)
			if err != nil || len(entries) != 0 {
				t.Errorf("after expiry %d keys are listed, %v", len(entries), err)
			}
		}
	}},
	{"ExpiredIsAbsentForConditions", func(t *testing.T, f *fixture) {
		version := f.put(t, "k", state.Item{Value: []byte("v"), TTL: f.TTL})
		f.awaitMissing(t, "k")
		_, err := f.set(t, "k", text("w"), state.Condition{IfVersion: version}, 0)
		outcome(t, err, components.ErrConflict)
		outcome(t, f.Delete(t.Context(), f.caller, "k", version, state.Fence{}), components.ErrConflict)
		f.does(t, state.Applied, ops(state.Operation{Kind: state.Check, Key: "k", Condition: state.Condition{IfAbsent: true}}))
		_, err = f.set(t, "k", text("w"), state.Condition{IfAbsent: true}, 0)
		outcome(t, err, nil)
		f.holds(t, "k", "w")
	}},
	{"TellsWhatIsLeft", func(t *testing.T, f *fixture) {
		before := time.Now()
		f.put(t, "k", state.Item{TTL: time.Minute})
		after := time.Now()
		for range 3 {
			asked := time.Now()
			left := f.get(t, "k").TTL
			most, least := time.Minute-asked.Sub(after)+f.Tolerance, time.Minute-time.Since(before)-f.Tolerance
			if left > most || left < least {
				t.Fatalf("%s left, want between %s and %s", left, least, most)
			}
			time.Sleep(5 * time.Millisecond)
		}
	}},
	{"SetBeginsAnew", func(t *testing.T, f *fixture) {
		f.put(t, "longer", state.Item{TTL: f.TTL})
		f.put(t, "for ever", state.Item{TTL: f.TTL})
		f.put(t, "for ever", text("v"))
		f.expires(t, "longer", 2*f.TTL, func() { f.put(t, "longer", state.Item{TTL: 2 * f.TTL}) })
		time.Sleep(f.TTL)
		if left := f.get(t, "for ever").TTL; left != 0 {
			t.Errorf("%s left of an item without end", left)
		}
		f.put(t, "sooner", state.Item{TTL: time.Hour})
		f.expires(t, "sooner", f.TTL, func() { f.put(t, "sooner", state.Item{TTL: f.TTL}) })
	}},
	// What a sweep leaves of an item that was written anew, which takes longer than the item lived.
	{"SweepTakesOnlyWhatExpired", func(t *testing.T, f *fixture) {
		for _, key := range []string{"a", "b", "c"} {
			f.put(t, key, state.Item{Value: []byte("old"), TTL: f.TTL})
		}
		f.put(t, "a", text("new"))
		f.put(t, "b", state.Item{Value: []byte("new"), TTL: time.Hour})
		f.awaitMissing(t, "c")
		f.put(t, "c", text("new"))
		time.Sleep(max(3*f.TTL, 1500*time.Millisecond))
		for _, key := range []string{"a", "b", "c"} {
			f.holds(t, key, "new")
		}
	}},
}

// expires fails unless the key, which begin gives a time to live, is served as long as that lasts and no longer.
func (f *fixture) expires(t *testing.T, key string, ttl time.Duration, begin func()) {
	t.Helper()
	before := time.Now()
	begin()
	after := time.Now()
	for {
		asked := time.Now()
		item, err := f.Get(t.Context(), f.caller, key)
		answered := time.Now()
		switch {
		case err == nil && asked.Sub(after) > ttl+f.Tolerance:
			t.Fatalf("served %s after its time to live of %s, with %s left", asked.Sub(after)-ttl, ttl, item.TTL)
		case err == nil && item.TTL <= 0:
			t.Fatalf("served with %s left, which means that it does not expire", item.TTL)
		case errors.Is(err, components.ErrNotFound) && answered.Sub(before) < ttl-f.Tolerance:
			t.Fatalf("gone %s before its time to live of %s was over", ttl-answered.Sub(before), ttl)
		case errors.Is(err, components.ErrNotFound):
			return
		case err != nil:
			t.Fatalf("get %q: %v", key, err)
		}
		time.Sleep(time.Millisecond)
	}
}

// awaitMissing waits for an expiry.
func (f *fixture) awaitMissing(t *testing.T, key string) {
	t.Helper()
	for end := time.Now().Add(f.TTL + 10*time.Second); time.Now().Before(end); time.Sleep(time.Millisecond) {
		if _, err := f.Get(t.Context(), f.caller, key); errors.Is(err, components.ErrNotFound) {
			return
		}
	}
	t.Fatalf("%q does not expire", key)
}
