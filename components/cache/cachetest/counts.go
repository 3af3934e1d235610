package cachetest

import (
	"math"
	"strconv"
	"testing"
	"time"

	"github.com/outrigger-mesh/outrigger/components"
	"github.com/outrigger-mesh/outrigger/components/cache"
)

// counts is about increments.
var counts = []test{
	{"Increment", counted(func(t *testing.T, f *fixture, add adder) {
		for _, step := range []struct{ delta, want int64 }{{5, 5}, {-7, -2}, {0, -2}, {math.MaxInt64, math.MaxInt64 - 2}} {
			if sum, err := add("k", step.delta, 0); err != nil || sum != step.want {
				t.Fatalf("add %d: %d, %v; want %d", step.delta, sum, err, step.want)
			}
			f.holds(t, "k", strconv.FormatInt(step.want, 10))
		}
		f.put(t, "set", cache.Item{Value: []byte("-9223372036854775808"), ContentType: "text/plain", Metadata: map[string]string{"a": "1"}})
		version := f.get(t, "set").Version
		if sum, err := add("set", 1, 0); err != nil || sum != math.MinInt64+1 {
			t.Fatalf("add to what was set: %d, %v", sum, err)
		}
		if got := f.get(t, "set"); got.ContentType != "text/plain" || got.Metadata["a"] != "1" || got.Version == version {
			t.Errorf("content type %q, metadata %v, version %q, was %q", got.ContentType, got.Metadata, got.Version, version)
		}
	})},
	{"IncrementOutOfRange", counted(func(t *testing.T, f *fixture, add adder) {
		for _, c := range []struct {
			value string
			delta int64
		}{{"9223372036854775807", 1}, {"-9223372036854775808", -1}, {"1", math.MaxInt64}, {"-2", math.MinInt64}} {
			version := f.put(t, "k", text(c.value))
			_, err := add("k", c.delta, 0)
			outcome(t, err, components.ErrInvalid)
			f.holds(t, "k", c.value)
			if got := f.get(t, "k").Version; got != version {
				t.Errorf("version %q became %q though nothing was changed", version, got)
			}
		}
	})},
	{"IncrementOfNoInteger", counted(func(t *testing.T, f *fixture, add adder) {
		for _, value := range []string{"", "x", "1x", " 1", "1 ", "+1", "01", "-0", "1.0", "1e3", "0x10", "9223372036854775808"} {
			f.put(t, "k", text(value))
			_, err := add("k", 1, 0)
			outcome(t, err, components.ErrInvalid)
			f.holds(t, "k", value)
		}
	})},
	{"IncrementKeepsTime", counted(func(t *testing.T, f *fixture, add adder) {
		add("for ever", 1, 0)
		add("for ever", 1, f.TTL)
		if left := f.get(t, "for ever").TTL; left != 0 {
			t.Errorf("an item without end has %s left after an increment", left)
		}
		f.expires(t, "created", f.TTL, func() { add("created", 1, f.TTL) })
		if sum, err := add("created", 1, 0); err != nil || sum != 1 {
			t.Errorf("after the expiry: %d, %v; want 1", sum, err)
		}
		f.expires(t, "kept", f.TTL, func() {
			f.put(t, "kept", cache.Item{Value: []byte("1"), TTL: f.TTL})
			add("kept", 1, time.Hour)
		})
	})},
	{"IncrementRace", counted(func(t *testing.T, f *fixture, add adder) {
		const each = 16
		together(crowd, func(int) {
			for range each {
				if _, err := add("k", 1, 0); err != nil {
					t.Errorf("increment: %v", err)
				}
			}
		})
		f.holds(t, "k", strconv.Itoa(crowd*each))
	})},
}

type adder func(key string, delta int64, ttl time.Duration) (int64, error)

// counted makes a test of drivers that can increment.
func counted(run func(*testing.T, *fixture, adder)) func(*testing.T, *fixture) {
	return func(t *testing.T, f *fixture) {
		add := func(key string, delta int64, ttl time.Duration) (int64, error) {
			return f.Increment(t.Context(), f.caller, key, delta, ttl)
		}
		if offered[cache.Incrementer](t, f, "increment", func() error { _, err := add("k", 1, 0); return err }) {
			run(t, f, add)
		}
	}
}
