package nacos

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/outrigger-mesh/outrigger/components/internal/nacosconn"
)

// TestAServerThatLagsBehind tells nothing that was told before, nor what another had replaced or removed.
func TestAServerThatLagsBehind(t *testing.T) {
	w := &watch{d: &driver{}, told: map[string]mark{}, later: map[string]*time.Timer{}}
	for i, step := range []struct {
		sum      string
		modified int64 // 0: it is absent
		want     string
	}{
		{"a", 1, "a"}, {"b", 3, "b"}, {"a", 1, ""}, {"b", 3, ""}, {"c", 4, "c"}, {"", 0, "gone"}, {"", 0, ""}, {"b", 3, ""}, {"a", 5, "a"}, {"a", 6, "a"},
	} {
		got := ""
		c, is := w.change("ns/k", state{nacosconn.ConfigAnswer{Content: step.sum, MD5: step.sum, Modified: step.modified}, step.modified != 0}, false)
		if is && c.Deleted {
			got = "gone"
		} else if is {
			got = string(c.Item.Value)
		}
		if got != step.want {
			t.Errorf("step %d: told %q, want %q", i, got, step.want)
		}
	}
}

// TestTheClockOfTheDataBaseIsSetBack tells what is there in the end, though it is older by that clock than what was told before.
func TestTheClockOfTheDataBaseIsSetBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const key = "ns/k"
		d := &driver{options: Options{Group: "g"}}
		id, err := d.options.at(key)
		if err != nil {
			t.Fatal(err)
		}
		w := &watch{d: d, told: map[string]mark{}, later: map[string]*time.Timer{}, wake: make(chan struct{}, 1), keys: map[nacosconn.DataID]string{id: key}, pending: map[nacosconn.DataID]string{}}
		look := func(value string, modified int64) bool {
			_, is := w.change(key, state{nacosconn.ConfigAnswer{Content: value, MD5: value, Modified: modified}, true}, false)
			return is
		}
		if !look("new", 9) {
			t.Fatal("the first value is not told")
		}
		if look("restored", 3) {
			t.Error("an older value is told at once: the server may lag behind")
		}
		time.Sleep(lag / 2)
		if look("restored", 3) || look("new", 9) {
			t.Error("an older value is told before its time, or the one before again")
		}
		time.Sleep(lag)
		if look("restored", 3) {
			t.Error("an older value is told at once, since the server had shown it before")
		}
		synctest.Wait()
		w.take()
		time.Sleep(lag)
		synctest.Wait()
		if w.take()[id] != key {
			t.Fatal("the key is not looked at again")
		}
		if !look("restored", 3) {
			t.Error("an older value that stays is never told")
		}
		if !look("next", 4) {
			t.Error("the value after it is not told")
		}
	})
}

// TestAWatchThatHasEndedLooksAtNothing: what it would have looked at later it does not keep in memory until then.
func TestAWatchThatHasEndedLooksAtNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := &driver{options: Options{Group: "g"}}
		w := &watch{d: d, told: map[string]mark{}, later: map[string]*time.Timer{}, wake: make(chan struct{}, 1), keys: map[nacosconn.DataID]string{}, pending: map[nacosconn.DataID]string{}}
		for _, key := range []string{"ns/a", "ns/b"} {
			id, err := d.options.at(key)
			if err != nil {
				t.Fatal(err)
			}
			w.keys[id] = key
			for i, value := range []string{"new", "older", "another"} {
				_, is := w.change(key, state{nacosconn.ConfigAnswer{Content: value, MD5: value, Modified: int64(9 - i)}, true}, false)
				if is != (i == 0) {
					t.Fatalf("%q of %s is told: %v", value, key, is)
				}
			}
		}
		w.rest()
		time.Sleep(lag)
		synctest.Wait()
		if left := w.take(); len(left) > 0 {
			t.Errorf("it looks at %v", left)
		}
	})
}
