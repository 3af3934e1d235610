package cachetest

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"testing"
	"time"

	"github.com/outrigger-mesh/outrigger/components"
	"github.com/outrigger-mesh/outrigger/components/cache"
)

// sharing is about what the driver and its callers have in common: bytes, time, the end.
var sharing = []test{
	{"LentBytesAreCopied", func(t *testing.T, f *fixture) {
		value, metadata := []byte("value"), map[string]string{"m": "1"}
		f.put(t, "k", cache.Item{Value: value, Metadata: metadata})
		overwrite(value)
		metadata["m"] = "overwritten"
		f.holds(t, "k", "value")
		if got := f.get(t, "k").Metadata["m"]; got != "1" {
			t.Errorf("metadata became %q with the map it was set from", got)
		}
		entries := []cache.Entry{{Key: "many", Item: text("value")}}
		if _, err := f.SetMany(t.Context(), f.caller, entries); err != nil {
			t.Fatal(err)
		}
		overwrite(entries[0].Item.Value)
		f.holds(t, "many", "value")
	}},
	{"AnswersBelongToTheCaller", func(t *testing.T, f *fixture) {
		f.put(t, "k", cache.Item{Value: []byte("value"), Metadata: map[string]string{"m": "1"}})
		got := f.get(t, "k")
		other := f.get(t, "k")
		results, err := f.GetMany(t.Context(), f.caller, []string{"k", "k"})
		if err != nil {
			t.Fatal(err)
		}
		for _, item := range []cache.Item{got, other, results[0].Item, results[1].Item} {
			if string(item.Value) != "value" || item.Metadata["m"] != "1" {
				t.Fatalf("got %q, %v", item.Value, item.Metadata)
			}
		}
		overwrite(got.Value)
		got.Metadata["m"] = "overwritten"
		overwrite(results[0].Item.Value)
		results[0].Item.Metadata["m"] = "overwritten"
		for _, item := range []cache.Item{other, results[1].Item, f.get(t, "k")} {
			if string(item.Value) != "value" || item.Metadata["m"] != "1" {
				t.Errorf("what one caller wrote to, another sees: %q, %v", item.Value, item.Metadata)
			}
		}
	}},
	{"EndedContext", func(t *testing.T, f *fixture) {
		f.put(t, "k", text("before"))
		canceled, cancel := context.WithCancel(t.Context())
		cancel()
		expired, cancel := context.WithDeadline(t.Context(), time.Now().Add(-time.Second))
		defer cancel()
		for want, ctx := range map[error]context.Context{context.Canceled: canceled, context.DeadlineExceeded: expired} {
			_, err := f.Get(ctx, f.caller, "k")
			outcome(t, err, want)
			_, err = f.Set(ctx, f.caller, "k", text("after"), cache.Condition{})
			outcome(t, err, want)
			outcome(t, f.Delete(ctx, f.caller, "k", ""), want)
		}
		f.holds(t, "k", "before")
	}},
	{"NothingIsTorn", func(t *testing.T, f *fixture) {
		// Each item says the same in its value, its content type and its metadata, at lengths that differ. Readers do not wait
		// for writers, nor all for the same moment.
		const writers, keys = crowd / 4, 2
		var writing atomic.Int64
		writing.Store(writers)
		together(2*writers, func(i int) {
			key := fmt.Sprintf("k%d", i%keys)
			if i >= writers {
				for writing.Load() > 0 && f.untorn(t, key) {
					time.Sleep(20 * time.Microsecond)
				}
				return
			}
			defer writing.Add(-1)
			for n := range 40 {
				if n%8 == 7 {
					if err := f.Delete(t.Context(), f.caller, key, ""); err != nil {
						t.Errorf("delete: %v", err)
					}
				}
				if _, err := f.Set(t.Context(), f.caller, key, threefold(i, n), cache.Condition{}); err != nil {
					t.Errorf("set: %v", err)
				}
				if !f.untorn(t, key) {
					return
				}
			}
		})
	}},
	{"CloseTwice", func(t *testing.T, f *fixture) {
		closer, ok := f.driver.(components.Closer)
		if !ok {
			t.Logf("%T has no Close: tested is only that it can be used", f.driver)
			f.put(t, "k", text("v"))
			return
		}
		f.put(t, "k", text("v"))
		for range 2 {
			if err := closer.Close(t.Context()); err != nil {
				t.Errorf("close: %v", err)
			}
		}
	}},
}

// threefold is an item that says the same three times.
func threefold(writer, n int) cache.Item {
	word := fmt.Sprintf("%d-%d", writer, n)
	return cache.Item{Value: []byte(stretch(word, n*37)), ContentType: word, Metadata: map[string]string{"word": word}}
}

// untorn tells whether a key is absent or has an item that says the same three times.
func (f *fixture) untorn(t *testing.T, key string) bool {
	got, err := f.Get(t.Context(), f.caller, key)
	if errors.Is(err, components.ErrNotFound) {
		return true
	}
	var writer, n int
	_, scan := fmt.Sscanf(got.ContentType, "%d-%d", &writer, &n)
	want := threefold(writer, n)
	if err != nil || scan != nil || string(got.Value) != string(want.Value) || got.Metadata["word"] != got.ContentType {
		t.Errorf("%s holds a mixture: %.40q, %q, %v, %v", key, got.Value, got.ContentType, got.Metadata, err)
		return false
	}
	return true
}

func overwrite(b []byte) {
	for i := range b {
		b[i] = '#'
	}
}

// stretch repeats a word to n bytes or a little more.
func stretch(word string, n int) string {
	b := []byte(word)
	for len(b) < n {
		b = append(b, word...)
	}
	return string(b)
}
