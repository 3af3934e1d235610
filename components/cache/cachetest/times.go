package cachetest

import (
	"errors"
	"testing"
	"time"

	"github.com/outrigger-mesh/outrigger/components"
	"github.com/outrigger-mesh/outrigger/components/cache"
)

// times is about the time to live. The tests measure from both ends of each call, so that a slow machine or network widens
// what they allow instead of failing them.
var times = []test{
	{"ExpiresOnTime", func(t *testing.T, f *fixture) {
		for _, ttl := range []time.Duration{time.Millisecond, f.TTL, 3*f.TTL/2 + time.Millisecond} {
			f.expires(t, "k", ttl, func() { f.put(t, "k", cache.Item{Value: []byte("v"), TTL: ttl}) })
			if there, err := f.Exists(t.Context(), f.caller, "k"); there || err != nil {
				t.Errorf("exists after expiry: %v, %v", there, err)
			}
		}
	}},
	{"TellsWhatIsLeft", func(t *testing.T, f *fixture) {
		before := time.Now()
		f.put(t, "k", cache.Item{TTL: time.Minute})
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
		f.put(t, "longer", cache.Item{TTL: f.TTL})
		f.put(t, "for ever", cache.Item{TTL: f.TTL})
		f.put(t, "for ever", text("v"))
		f.expires(t, "longer", 2*f.TTL, func() { f.put(t, "longer", cache.Item{TTL: 2 * f.TTL}) })
		if left := f.get(t, "for ever").TTL; left != 0 {
			t.Errorf("%s left of an item without end", left)
		}
		f.put(t, "sooner", cache.Item{TTL: time.Hour})
		f.expires(t, "sooner", f.TTL, func() { f.put(t, "sooner", cache.Item{TTL: f.TTL}) })
	}},
	{"Touch", func(t *testing.T, f *fixture) {
		touch := func(key string, ttl time.Duration) error { return f.Touch(t.Context(), f.caller, key, ttl) }
		if !offered[cache.Toucher](t, f, "touch", func() error { return touch("k", f.TTL) }) {
			return
		}
		outcome(t, touch("k", f.TTL), components.ErrNotFound)
		f.missing(t, "k")
		version := f.put(t, "k", cache.Item{Value: []byte("v"), ContentType: "text/plain", TTL: f.TTL})
		outcome(t, touch("k", time.Hour), nil)
		f.put(t, "for ever", cache.Item{TTL: f.TTL})
		outcome(t, touch("for ever", 0), nil)
		f.put(t, "passed", cache.Item{TTL: f.TTL})
		f.awaitMissing(t, "passed")
		outcome(t, touch("passed", time.Hour), components.ErrNotFound)
		if left := f.get(t, "for ever").TTL; left != 0 {
			t.Errorf("%s left of an item without end", left)
		}
		got := f.get(t, "k")
		if string(got.Value) != "v" || got.ContentType != "text/plain" || got.Version != version {
			t.Errorf("touch changed the item: %q, %q, version %q, was %q", got.Value, got.ContentType, got.Version, version)
		}
		f.expires(t, "k", f.TTL, func() { outcome(t, touch("k", f.TTL), nil) })
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
