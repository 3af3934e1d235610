package cachetest

import (
	"strconv"
	"testing"

	"github.com/outrigger-mesh/outrigger/components"
	"github.com/outrigger-mesh/outrigger/components/cache"
)

// manies is about calls for many keys.
var manies = []test{
	{"GetMany", func(t *testing.T, f *fixture) {
		f.put(t, "a", text("value a"))
		f.put(t, "b", cache.Item{Value: []byte("value b"), ContentType: "text/plain", Metadata: map[string]string{"m": "1"}})
		f.put(t, "empty", text(""))
		keys := []string{"b", "absent", "a", "", "b", "empty"}
		results, err := f.GetMany(t.Context(), f.caller, keys)
		if err != nil || len(results) != len(keys) {
			t.Fatalf("%d results, %v", len(results), err)
		}
		for i, r := range results {
			if r.Key != keys[i] {
				t.Errorf("result %d is of %q, want %q", i, r.Key, keys[i])
			}
			switch keys[i] {
			case "":
				outcome(t, r.Err, components.ErrInvalid)
			case "absent":
				outcome(t, r.Err, components.ErrNotFound)
			default:
				one := f.get(t, keys[i])
				if r.Err != nil || string(r.Item.Value) != string(one.Value) || r.Item.Version != one.Version || r.Item.ContentType != one.ContentType ||
					r.Item.Metadata["m"] != one.Metadata["m"] {
					t.Errorf("result %d: %+v, %v; alone it is %+v", i, r.Item, r.Err, one)
				}
			}
		}
	}},
	{"SetMany", func(t *testing.T, f *fixture) {
		f.put(t, "taken", text("before"))
		entries := []cache.Entry{
			{Key: "a", Item: text("value a")},
			{Key: "taken", Item: text("after"), Condition: cache.Condition{IfAbsent: true}},
			{Key: "", Item: text("no key")},
			{Key: "absent", Item: text("v"), Condition: cache.Condition{IfVersion: "no version of any item"}},
			{Key: "b", Item: cache.Item{Value: []byte("first"), TTL: -1}},
			{Key: "c", Item: text("first")},
			{Key: "c", Item: cache.Item{Value: []byte("second"), ContentType: "text/plain"}},
		}
		want := []error{nil, f.kind(cache.SetIfAbsent, components.ErrExists), components.ErrInvalid,
			f.kind(cache.SetIfVersion, components.ErrConflict), components.ErrInvalid, nil, nil}
		results, err := f.SetMany(t.Context(), f.caller, entries)
		if err != nil || len(results) != len(entries) {
			t.Fatalf("%d results, %v", len(results), err)
		}
		for i, r := range results {
			if r.Key != entries[i].Key {
				t.Errorf("result %d is of %q, want %q", i, r.Key, entries[i].Key)
			}
			outcome(t, r.Err, want[i])
			if (r.Version == "") == (r.Err == nil) {
				t.Errorf("result %d: version %q, %v", i, r.Version, r.Err)
			}
		}
		f.holds(t, "a", "value a")
		f.holds(t, "taken", "before")
		f.missing(t, "absent")
		f.missing(t, "b")
		f.holds(t, "c", "second")
		if got := f.get(t, "c"); got.Version != results[6].Version || got.ContentType != "text/plain" {
			t.Errorf("version %q, want %q; content type %q", got.Version, results[6].Version, got.ContentType)
		}
	}},
	{"ManyAtTheBound", func(t *testing.T, f *fixture) {
		entries := make([]cache.Entry, cache.MaxMany)
		keys := make([]string, cache.MaxMany)
		for i := range entries {
			keys[i] = strconv.Itoa(i)
			entries[i] = cache.Entry{Key: keys[i], Item: text("value " + keys[i])}
		}
		if _, err := f.SetMany(t.Context(), f.caller, entries); err != nil {
			t.Fatal(err)
		}
		results, err := f.GetMany(t.Context(), f.caller, keys)
		if err != nil || len(results) != len(keys) {
			t.Fatalf("%d results, %v", len(results), err)
		}
		for i, r := range results {
			if r.Err != nil || string(r.Item.Value) != "value "+keys[i] {
				t.Fatalf("result %d: %q, %v", i, r.Item.Value, r.Err)
			}
		}
		_, err = f.GetMany(t.Context(), f.caller, append(keys, "one more"))
		outcome(t, err, components.ErrInvalid)
		_, err = f.SetMany(t.Context(), f.caller, append(entries, cache.Entry{Key: "one more"}))
		outcome(t, err, components.ErrInvalid)
		f.missing(t, "one more")
		if results, err := f.GetMany(t.Context(), f.caller, nil); err != nil || len(results) != 0 {
			t.Errorf("nothing asked for: %v, %v", results, err)
		}
	}},
}

// kind is what a failed condition is refused with, or what one is that the driver does not offer.
func (f *fixture) kind(feature cache.Feature, failed error) error {
	if r, ok := f.driver.(cache.Restricted); ok && !r.Offers(feature) {
		return components.ErrUnsupported
	}
	return failed
}
