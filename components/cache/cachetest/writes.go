package cachetest

import (
	"errors"
	"fmt"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/outrigger-mesh/outrigger/components"
	"github.com/outrigger-mesh/outrigger/components/cache"
)

// crowd is how many write at once.
const crowd = 32

// writes is about versions and conditions.
var writes = []test{
	{"VersionsAreUniqueForEver", func(t *testing.T, f *fixture) {
		seen := map[string]string{}
		note := func(when, version string) {
			t.Helper()
			if before, twice := seen[version]; twice || version == "" {
				t.Fatalf("version %q, %s, is that %s", version, when, before)
			}
			seen[version] = when
		}
		for range 3 {
			note("of the same value written again", f.put(t, "k", text("same")))
			note("of another key", f.put(t, "other", text("same")))
		}
		f.delete(t, "k")
		note("after a delete", f.put(t, "k", text("same")))
		f.put(t, "k", cache.Item{Value: []byte("same"), TTL: f.TTL})
		f.awaitMissing(t, "k")
		note("after an expiry", f.put(t, "k", text("same")))
		restarted := f.again(t)
		for i := range 100 {
			// A count that begins again meets itself wherever the store keeps it, for a key, a part of the keys, or all.
			note("before a restart", f.put(t, strconv.Itoa(i), text("same")))
			note("after a restart", restarted.put(t, strconv.Itoa(i), text("same")))
		}
		note("after a restart", restarted.put(t, "k", text("same")))
		restarted.delete(t, "k")
		note("after a restart and a delete", restarted.put(t, "k", text("same")))
	}},
	{"VersionStaysBetweenWrites", func(t *testing.T, f *fixture) {
		version := f.put(t, "k", text("v"))
		f.put(t, "other", text("v"))
		for range 2 {
			if got := f.get(t, "k").Version; got != version {
				t.Fatalf("version %q became %q", version, got)
			}
		}
	}},
	{"SetIfVersion", func(t *testing.T, f *fixture) {
		set := func(value, version string) (string, error) {
			return f.Set(t.Context(), f.caller, "k", text(value), cache.Condition{IfVersion: version})
		}
		if !conditional(t, f, cache.SetIfVersion, func() error { _, err := set("v", "1"); return err }) {
			return
		}
		_, err := set("v", "no version of any item")
		outcome(t, err, components.ErrConflict)
		f.missing(t, "k")
		first := f.put(t, "k", text("first"))
		second, err := set("second", first)
		if err != nil || second == first {
			t.Fatalf("with the present version: %q after %q, %v", second, first, err)
		}
		_, err = set("third", first)
		outcome(t, err, components.ErrConflict)
		f.holds(t, "k", "second")
		f.delete(t, "k")
		_, err = set("third", second)
		outcome(t, err, components.ErrConflict)
		f.missing(t, "k")
		f.put(t, "k", text("second"))
		_, err = set("third", second)
		outcome(t, err, components.ErrConflict)
		f.holds(t, "k", "second")
	}},
	{"SetIfAbsent", func(t *testing.T, f *fixture) {
		set := func(value string) error {
			_, err := f.Set(t.Context(), f.caller, "k", text(value), cache.Condition{IfAbsent: true})
			return err
		}
		if !conditional(t, f, cache.SetIfAbsent, func() error { return set("v") }) {
			return
		}
		outcome(t, set("first"), nil)
		outcome(t, set("second"), components.ErrExists)
		f.holds(t, "k", "first")
		f.put(t, "k", text(""))
		outcome(t, set("third"), components.ErrExists)
		f.delete(t, "k")
		outcome(t, set("fourth"), nil)
		f.put(t, "k", cache.Item{TTL: f.TTL})
		f.awaitMissing(t, "k")
		outcome(t, set("fifth"), nil)
		f.holds(t, "k", "fifth")
	}},
	{"DeleteIfVersion", func(t *testing.T, f *fixture) {
		del := func(version string) error { return f.Delete(t.Context(), f.caller, "k", version) }
		if !conditional(t, f, cache.DeleteIfVersion, func() error { return del("1") }) {
			return
		}
		outcome(t, del("no version of any item"), components.ErrConflict)
		first := f.put(t, "k", text("v"))
		second := f.put(t, "k", text("v"))
		outcome(t, del(first), components.ErrConflict)
		f.holds(t, "k", "v")
		outcome(t, del(second), nil)
		f.missing(t, "k")
		outcome(t, del(second), components.ErrConflict)
	}},
	{"CompareAndSwapRace", func(t *testing.T, f *fixture) {
		if !conditional(t, f, cache.SetIfVersion, func() error {
			_, err := f.Set(t.Context(), f.caller, "k", text("0"), cache.Condition{IfVersion: "1"})
			return err
		}) {
			return
		}
		const each = 8
		f.put(t, "k", text("0"))
		together(crowd, func(int) {
			for done, attempts := 0, 0; done < each; attempts++ {
				if attempts > crowd*each {
					t.Errorf("more conflicts than others have written")
					return
				}
				item := f.mustGet(t, "k")
				n, _ := strconv.Atoi(string(item.Value))
				_, err := f.Set(t.Context(), f.caller, "k", text(strconv.Itoa(n+1)), cache.Condition{IfVersion: item.Version})
				switch {
				case err == nil:
					done++
				case !errors.Is(err, components.ErrConflict):
					t.Errorf("set: %v", err)
					return
				}
			}
		})
		f.holds(t, "k", strconv.Itoa(crowd*each))
	}},
	{"SetIfAbsentRace", func(t *testing.T, f *fixture) {
		if !conditional(t, f, cache.SetIfAbsent, func() error {
			_, err := f.Set(t.Context(), f.caller, "k", text("0"), cache.Condition{IfAbsent: true})
			return err
		}) {
			return
		}
		for round := range 20 {
			key := fmt.Sprintf("k%d", round)
			var winners atomic.Int64
			var winner atomic.Value
			together(crowd, func(i int) {
				value := strconv.Itoa(i)
				_, err := f.Set(t.Context(), f.caller, key, text(value), cache.Condition{IfAbsent: true})
				switch {
				case err == nil:
					winners.Add(1)
					winner.Store(value)
				case !errors.Is(err, components.ErrExists):
					t.Errorf("set: %v", err)
				}
			})
			if winners.Load() != 1 {
				t.Fatalf("%d of %d who set a key if it is absent were told that they did", winners.Load(), crowd)
			}
			f.holds(t, key, winner.Load().(string))
		}
	}},
}

// again is a second driver for the same application, as after a restart of the sidecar.
func (f *fixture) again(t *testing.T) *fixture {
	t.Helper()
	g := f.open(t)
	g.caller = f.caller
	return g
}

// mustGet is get for goroutines that are not the test's own.
func (f *fixture) mustGet(t *testing.T, key string) cache.Item {
	item, err := f.Get(t.Context(), f.caller, key)
	if err != nil {
		t.Errorf("get %q: %v", key, err)
	}
	return item
}

// together calls do n times at once and waits for all.
func together(n int, do func(i int)) {
	start := make(chan struct{})
	var running sync.WaitGroup
	for i := range n {
		running.Go(func() {
			<-start
			do(i)
		})
	}
	close(start)
	running.Wait()
}
