package statetest

import (
	"bytes"
	"maps"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/outrigger-mesh/outrigger/components"
	"github.com/outrigger-mesh/outrigger/components/state"
)

// values is about what is stored, and under which keys.
var values = []test{
	{"RoundTrip", func(t *testing.T, f *fixture) {
		for name, value := range map[string][]byte{
			"empty": {}, "one byte": {'x'}, "NUL": {0}, "binary": {0xff, 0xfe, 0, '\r', '\n', 0x80}, "1 MiB": noise(1 << 20),
		} {
			version := f.put(t, name, state.Item{Value: value})
			got := f.get(t, name)
			if !bytes.Equal(got.Value, value) {
				t.Errorf("%s: %d bytes came back as %d others", name, len(value), len(got.Value))
			}
			if got.ContentType != "" || len(got.Metadata) != 0 || got.TTL != 0 {
				t.Errorf("%s: came back with what was not set: %q, %v, %s", name, got.ContentType, got.Metadata, got.TTL)
			}
			if version == "" || got.Version != version {
				t.Errorf("%s: set answered version %q, get %q", name, version, got.Version)
			}
		}
	}},
	{"ContentTypeAndMetadata", func(t *testing.T, f *fixture) {
		want := map[string]string{"a": "1", "empty": "", "ünïcode": "☃", "content-type": "not the real one", "value": "nor this", "ttl": "5"}
		f.put(t, "k", state.Item{Value: []byte("v"), ContentType: "application/json; charset=utf-8", Metadata: maps.Clone(want)})
		got := f.get(t, "k")
		if string(got.Value) != "v" || got.ContentType != "application/json; charset=utf-8" || !maps.Equal(got.Metadata, want) {
			t.Errorf("%q, %q, %v", got.Value, got.ContentType, got.Metadata)
		}
	}},
	{"OverwriteReplacesAll", func(t *testing.T, f *fixture) {
		f.put(t, "k", state.Item{Value: []byte("a long first value"), ContentType: "text/plain", Metadata: map[string]string{"a": "1", "b": "2"}})
		f.put(t, "k", state.Item{Value: []byte("second"), Metadata: map[string]string{"b": "3"}})
		f.holds(t, "k", "second")
		if got := f.get(t, "k"); got.ContentType != "" || !maps.Equal(got.Metadata, map[string]string{"b": "3"}) {
			t.Errorf("content type %q, metadata %v", got.ContentType, got.Metadata)
		}
		f.put(t, "k", state.Item{})
		if got := f.get(t, "k"); len(got.Value) != 0 || len(got.Metadata) != 0 {
			t.Errorf("value %q, metadata %v", got.Value, got.Metadata)
		}
	}},
	{"MissingAndDeleted", func(t *testing.T, f *fixture) {
		f.missing(t, "k")
		f.delete(t, "k")
		f.put(t, "k", text(""))
		f.put(t, "kk", text("another"))
		f.holds(t, "k", "")
		f.delete(t, "k")
		f.missing(t, "k")
		f.holds(t, "kk", "another")
	}},
	{"KeysAreDistinct", func(t *testing.T, f *fixture) {
		long := strings.Repeat("x", components.MaxKey-1)
		keys := []string{"k", "K", " k", "k ", "k\n", "k/", "/k", "k*", "k?", "[k]", "{k}", "k:1", "k%2F", "ключ", "é", "e\u0301", "..", long + "1", long + "2"}
		for _, key := range keys {
			f.put(t, key, text("value of "+key))
		}
		for _, key := range keys {
			f.holds(t, key, "value of "+key)
		}
	}},
	{"CallersAreApart", func(t *testing.T, f *fixture) {
		app := f.caller.App
		callers := []components.Caller{{Namespace: "n", App: app}, {Namespace: "n-" + app, App: app}, {Namespace: app, App: "n"}, {Namespace: "n", App: app + "-n"},
			{Namespace: "n" + app[:6], App: app[6:]}}
		keys := []string{"k", app + "/k", "n/k"}
		for _, c := range callers {
			for _, key := range keys {
				if _, err := f.Set(t.Context(), c, key, text(c.String()+" "+key), state.Condition{}, state.Fence{}); err != nil {
					t.Fatal(err)
				}
			}
		}
		for _, c := range callers {
			for _, key := range keys {
				if got, err := f.Get(t.Context(), c, key); err != nil || string(got.Value) != c.String()+" "+key {
					t.Errorf("%s sees %q under %q, %v", c, got.Value, key, err)
				}
			}
			entries, _, err := f.List(t.Context(), c, "", 0, "", false)
			if err != nil || len(entries) != len(keys) {
				t.Errorf("%s lists %d keys, %v; want %d", c, len(entries), err, len(keys))
			}
		}
	}},
	{"GetMany", func(t *testing.T, f *fixture) {
		f.put(t, "a", text("value a"))
		f.put(t, "b", state.Item{Value: []byte("value b"), ContentType: "text/plain", Metadata: map[string]string{"m": "1"}})
		f.put(t, "empty", text(""))
		keys := []string{"b", "absent", "a", "", "b", "empty"}
		results, err := f.GetMany(t.Context(), f.caller, keys)
		if err != nil || len(results) != len(keys) {
			t.Fatalf("%d results, %v", len(results), err)
		}
		for i, r := range results {
			switch {
			case r.Key != keys[i]:
				t.Errorf("result %d is of %q, want %q", i, r.Key, keys[i])
			case r.Key == "":
				outcome(t, r.Err, components.ErrInvalid)
			case r.Key == "absent":
				outcome(t, r.Err, components.ErrNotFound)
			default:
				one := f.get(t, r.Key)
				if r.Err != nil || string(r.Item.Value) != string(one.Value) || r.Item.Version != one.Version || r.Item.ContentType != one.ContentType ||
					r.Item.Metadata["m"] != one.Metadata["m"] {
					t.Errorf("result %d: %+v, %v; alone it is %+v", i, r.Item, r.Err, one)
				}
			}
		}
		_, err = f.GetMany(t.Context(), f.caller, make([]string, state.MaxMany+1))
		outcome(t, err, components.ErrInvalid)
	}},
}

func noise(n int) []byte {
	b := make([]byte, n)
	r := rand.New(rand.NewPCG(1, 2))
	for i := range b {
		b[i] = byte(r.Uint32())
	}
	return b
}
