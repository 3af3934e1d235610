package statetest

import (
	"fmt"
	"slices"
	"testing"

	"github.com/outrigger-mesh/outrigger/components"
	"github.com/outrigger-mesh/outrigger/components/state"
)

// lists is about lists.
var lists = []test{
	{"ListsInOrder", func(t *testing.T, f *fixture) {
		in := []string{"a", "a/", "a/1", "a/10", "a/2", "a0", "b", "a/é", "a/\uffff", "A/1"}
		for _, key := range in {
			f.put(t, key, text("value of "+key))
		}
		slices.Sort(in)
		for _, prefix := range []string{"", "a", "a/", "a/1", "b", "c", "a/\uffff"} {
			var want []string
			for _, key := range in {
				if len(key) >= len(prefix) && key[:len(prefix)] == prefix {
					want = append(want, key)
				}
			}
			for _, size := range []int{0, 1, 2, 3, len(want)} {
				if got := f.all(t, prefix, size, true); !slices.Equal(got, want) {
					t.Errorf("prefix %q in pages of %d: %q, want %q", prefix, size, got, want)
				}
			}
		}
		_, _, err := f.List(t.Context(), f.caller, "", components.MaxPage+1, "", false)
		outcome(t, err, components.ErrInvalid)
		_, _, err = f.List(t.Context(), f.caller, "", 1, "not a token!", false)
		outcome(t, err, components.ErrInvalid)
	}},
	{"ListsWithAndWithoutValues", func(t *testing.T, f *fixture) {
		version := f.put(t, "k", state.Item{Value: []byte("value"), ContentType: "text/plain", Metadata: map[string]string{"m": "1"}})
		for _, values := range []bool{false, true} {
			entries, _, err := f.List(t.Context(), f.caller, "", 0, "", values)
			if err != nil || len(entries) != 1 {
				t.Fatalf("%d entries, %v", len(entries), err)
			}
			e := entries[0]
			if e.Key != "k" || e.Item.Version != version || e.Item.ContentType != "text/plain" || e.Item.Metadata["m"] != "1" || (string(e.Item.Value) == "value") != values {
				t.Errorf("with values %v: %+v", values, e)
			}
		}
	}},
	{"PagesAreBounded", func(t *testing.T, f *fixture) {
		big := state.Item{Value: noise(state.PageBytes/2 + 1)}
		f.put(t, "0 larger than a page", state.Item{Value: noise(2 * state.PageBytes)})
		for i := range 5 {
			f.put(t, fmt.Sprint("big ", i), big)
		}
		entries, next, err := f.List(t.Context(), f.caller, "big", 0, "", true)
		if err != nil || len(entries) != 1 || next == "" {
			t.Fatalf("%d entries, next page %q, %v; want one and more", len(entries), next, err)
		}
		if all := f.all(t, "", 0, true); len(all) != 6 {
			t.Errorf("%d of 6 are on the pages: %q", len(all), all)
		}
		if entries, next, err = f.List(t.Context(), f.caller, "big", 0, "", false); err != nil || len(entries) != 5 || next != "" {
			t.Errorf("without values: %d entries, next page %q, %v", len(entries), next, err)
		}
	}},
	{"PageEndsAtItsSize", func(t *testing.T, f *fixture) {
		for i := range 4 {
			f.put(t, fmt.Sprint(i), text("v"))
		}
		f.put(t, "3 expired", state.Item{TTL: f.TTL})
		f.awaitMissing(t, "3 expired")
		f.delete(t, "3")
		entries, next, err := f.List(t.Context(), f.caller, "", 3, "", false)
		if err != nil || len(entries) != 3 || next != "" {
			t.Errorf("the last page of three: %d, next page %q, %v", len(entries), next, err)
		}
		if entries, next, err = f.List(t.Context(), f.caller, "", 2, "", false); err != nil || len(entries) != 2 || next == "" {
			t.Errorf("the first page of two: %d, next page %q, %v", len(entries), next, err)
		}
	}},
	{"ListsWhatIsWrittenMeanwhile", func(t *testing.T, f *fixture) {
		for _, key := range []string{"a", "c", "e"} {
			f.put(t, key, text("v"))
		}
		_, next, err := f.List(t.Context(), f.caller, "", 1, "", false)
		outcome(t, err, nil)
		f.put(t, "b", text("v"))
		f.delete(t, "a")
		f.delete(t, "c")
		entries, _, err := f.List(t.Context(), f.caller, "", 2, next, false)
		if err != nil || len(entries) != 2 || entries[0].Key != "b" || entries[1].Key != "e" {
			t.Errorf("after a: %v, %v; want b and e", entries, err)
		}
	}},
}

// all are the keys of all pages.
func (f *fixture) all(t *testing.T, prefix string, size int, values bool) (keys []string) {
	t.Helper()
	for next := ""; ; {
		entries, more, err := f.List(t.Context(), f.caller, prefix, size, next, values)
		if err != nil {
			t.Fatal(err)
		}
		for _, e := range entries {
			keys = append(keys, e.Key)
			if len(keys) > 1000 {
				t.Fatal("the list has no end")
			}
			if values && len(e.Item.Value) < 100 && string(e.Item.Value) != "value of "+e.Key {
				t.Errorf("%q has the value %q", e.Key, e.Item.Value)
			}
		}
		if next = more; next == "" {
			return keys
		}
	}
}
