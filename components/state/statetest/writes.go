package statetest

import (
	"errors"
	"fmt"
	"strconv"
	"sync/atomic"
	"testing"

	"github.com/outrigger-mesh/outrigger/components"
	"github.com/outrigger-mesh/outrigger/components/componenttest"
	"github.com/outrigger-mesh/outrigger/components/state"
)

// crowd is how many write at once.
const crowd = 16

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
		f.put(t, "k", state.Item{Value: []byte("same"), TTL: f.TTL})
		f.awaitMissing(t, "k")
		note("after an expiry", f.put(t, "k", text("same")))
		for _, v := range f.does(t, state.Applied, ops(put("k", "same"))).Versions {
			note("of a transaction", v)
		}
		restarted := f.again(t)
		for i := range 10 { // a count that begins again meets itself
			note("before a restart", f.put(t, strconv.Itoa(i), text("same")))
			note("after a restart", restarted.put(t, strconv.Itoa(i), text("same")))
		}
	}},
	{"SetIfVersion", func(t *testing.T, f *fixture) {
		set := func(value, version string) (string, error) {
			return f.set(t, "k", text(value), state.Condition{IfVersion: version}, 0)
		}
		_, err := set("v", "no version of any item")
		outcome(t, err, components.ErrConflict)
		f.missing(t, "k")
		first := f.put(t, "k", text("first"))
		f.put(t, "other", text("first"))
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
	}},
	{"SetIfAbsent", func(t *testing.T, f *fixture) {
		set := func(value string) error {
			_, err := f.set(t, "k", text(value), state.Condition{IfAbsent: true}, 0)
			return err
		}
		outcome(t, set("first"), nil)
		outcome(t, set("second"), components.ErrExists)
		f.holds(t, "k", "first")
		f.put(t, "k", text(""))
		outcome(t, set("third"), components.ErrExists)
		f.delete(t, "k")
		outcome(t, set("fourth"), nil)
		f.put(t, "k", state.Item{TTL: f.TTL})
		f.awaitMissing(t, "k")
		outcome(t, set("fifth"), nil)
		f.holds(t, "k", "fifth")
	}},
	{"DeleteIfVersion", func(t *testing.T, f *fixture) {
		del := func(version string) error { return f.Delete(t.Context(), f.caller, "k", version, state.Fence{}) }
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
		const each = 4
		f.put(t, "k", text("0"))
		componenttest.Together(crowd, func(int) {
			for done, attempts := 0, 0; done < each; attempts++ {
				if attempts > crowd*each {
					t.Error("more conflicts than others have written")
					return
				}
				item, err := f.Get(t.Context(), f.caller, "k")
				if err != nil {
					t.Error(err)
					return
				}
				n, _ := strconv.Atoi(string(item.Value))
				_, err = f.set(t, "k", text(strconv.Itoa(n+1)), state.Condition{IfVersion: item.Version}, 0)
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
		for round := range 20 {
			key := fmt.Sprintf("k%d", round)
			var winners atomic.Int64
			var winner atomic.Value
			componenttest.Together(crowd, func(i int) {
				value := strconv.Itoa(i)
				_, err := f.set(t, key, text(value), state.Condition{IfAbsent: true}, 0)
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
