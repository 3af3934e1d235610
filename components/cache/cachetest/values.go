package cachetest

import (
	"bytes"
	"maps"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/outrigger-mesh/outrigger/components"
	"github.com/outrigger-mesh/outrigger/components/cache"
)

// values is about what is stored, and under which keys.
var values = []test{
	{"RoundTrip", func(t *testing.T, f *fixture) {
		for name, value := range map[string][]byte{
			"empty": {}, "one byte": {'x'}, "NUL": {0}, "binary": {0xff, 0xfe, 0, '\r', '\n', 0x80}, "1 MiB": noise(1 << 20),
		} {
			version := f.put(t, name, cache.Item{Value: value})
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
		f.put(t, "k", cache.Item{Value: []byte("v"), ContentType: "application/json; charset=utf-8", Metadata: maps.Clone(want)})
		got := f.get(t, "k")
		if got.ContentType != "application/json; charset=utf-8" || !maps.Equal(got.Metadata, want) {
			t.Errorf("%q, %v", got.ContentType, got.Metadata)
		}
	}},
	{"OverwriteReplacesAll", func(t *testing.T, f *fixture) {
		f.put(t, "k", cache.Item{Value: []byte("a long first value"), ContentType: "text/plain", Metadata: map[string]string{"a": "1", "b": "2"}})
		f.put(t, "k", cache.Item{Value: []byte("second"), Metadata: map[string]string{"b": "3"}})
		f.holds(t, "k", "second")
		if got := f.get(t, "k"); got.ContentType != "" || !maps.Equal(got.Metadata, map[string]string{"b": "3"}) {
			t.Errorf("content type %q, metadata %v", got.ContentType, got.Metadata)
		}
		f.put(t, "k", cache.Item{})
		if got := f.get(t, "k"); len(got.Value) != 0 || len(got.Metadata) != 0 {
			t.Errorf("value %q, metadata %v", got.Value, got.Metadata)
		}
	}},
	{"Missing", func(t *testing.T, f *fixture) {
		f.missing(t, "k")
		if there, err := f.Exists(t.Context(), f.caller, "k"); there || err != nil {
			t.Errorf("exists: %v, %v", there, err)
		}
		if err := f.Delete(t.Context(), f.caller, "k", ""); err != nil {
			t.Errorf("delete: %v, want no error", err)
		}
	}},
	{"Exists", func(t *testing.T, f *fixture) {
		f.put(t, "k", text(""))
		if there, err := f.Exists(t.Context(), f.caller, "k"); !there || err != nil {
			t.Errorf("an empty value: %v, %v", there, err)
		}
		f.delete(t, "k")
		if there, err := f.Exists(t.Context(), f.caller, "k"); there || err != nil {
			t.Errorf("after its delete: %v, %v", there, err)
		}
	}},
	{"Delete", func(t *testing.T, f *fixture) {
		f.put(t, "k", text("v"))
		f.put(t, "kk", text("another"))
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
		for _, c := range callers {
			for _, key := range []string{"k", app + "/k", "n/k"} {
				if _, err := f.Set(t.Context(), c, key, text(c.String()+" "+key), cache.Condition{}); err != nil {
					t.Fatal(err)
				}
			}
		}
		for _, c := range callers {
			for _, key := range []string{"k", app + "/k", "n/k"} {
				if got, err := f.Get(t.Context(), c, key); err != nil || string(got.Value) != c.String()+" "+key {
					t.Errorf("%s sees %q under %q, %v", c, got.Value, key, err)
				}
			}
		}
	}},
}

func (f *fixture) delete(t *testing.T, key string) {
	t.Helper()
	if err := f.Delete(t.Context(), f.caller, key, ""); err != nil {
		t.Fatalf("delete %q: %v", key, err)
	}
}

func noise(n int) []byte {
	b := make([]byte, n)
	r := rand.New(rand.NewPCG(1, 2))
	for i := range b {
		b[i] = byte(r.Uint32())
	}
	return b
}
