package statetest

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"testing"
	"time"

	"github.com/outrigger-mesh/outrigger/components"
	"github.com/outrigger-mesh/outrigger/components/componenttest"
	"github.com/outrigger-mesh/outrigger/components/state"
)

// sharing is about who owns what, and what others see.
var sharing = []test{
	{"WhatGoesInIsLent", func(t *testing.T, f *fixture) {
		item := state.Item{Value: []byte("value"), Metadata: map[string]string{"m": "1"}}
		f.put(t, "k", item)
		copy(item.Value, "XXXXX")
		item.Metadata["m"] = "changed"
		if got := f.get(t, "k"); string(got.Value) != "value" || got.Metadata["m"] != "1" {
			t.Errorf("what the caller overwrote is stored: %q, %v", got.Value, got.Metadata)
		}
	}},
	{"WhatComesOutBelongsToTheCaller", func(t *testing.T, f *fixture) {
		f.put(t, "k", state.Item{Value: []byte("value"), Metadata: map[string]string{"m": "1"}})
		got := f.get(t, "k")
		copy(got.Value, "XXXXX")
		got.Metadata["m"] = "changed"
		entries, _, err := f.List(t.Context(), f.caller, "", 0, "", true)
		outcome(t, err, nil)
		copy(entries[0].Item.Value, "YYYYY")
		if got := f.get(t, "k"); string(got.Value) != "value" || got.Metadata["m"] != "1" {
			t.Errorf("what a reader overwrote is stored: %q, %v", got.Value, got.Metadata)
		}
	}},
	{"ReadsWhatWasWritten", func(t *testing.T, f *fixture) {
		other := f.again(t)
		componenttest.Together(crowd, func(i int) {
			key := fmt.Sprint("k", i)
			for n := range 20 {
				value := fmt.Sprint(n)
				if _, err := f.set(t, key, text(value), state.Condition{}, 0); err != nil {
					t.Errorf("set: %v", err)
					return
				}
				for _, reader := range []*fixture{f, other} {
					if got, err := reader.Get(t.Context(), f.caller, key); err != nil || string(got.Value) != value {
						t.Errorf("after %q was set: %q, %v", value, got.Value, err)
					}
				}
			}
		})
	}},
	{"ValuesAreNotTorn", func(t *testing.T, f *fixture) {
		var stop atomic.Bool
		whole := func(c byte) state.Item {
			return state.Item{Value: []byte{c, c, c, c, c, c, c, c}, ContentType: string(rune(c)), Metadata: map[string]string{"c": string(rune(c))}}
		}
		f.put(t, "k", whole('a'))
		componenttest.Together(4, func(i int) {
			if i == 0 {
				defer stop.Store(true)
				for n := range 200 {
					if _, err := f.set(t, "k", whole(byte('a'+n%26)), state.Condition{}, 0); err != nil {
						t.Errorf("set: %v", err)
					}
				}
				return
			}
			for !stop.Load() {
				got, err := f.Get(t.Context(), f.caller, "k")
				if err != nil || string(got.Value) != string(whole(got.Value[0]).Value) || got.ContentType != string(got.Value[:1]) || got.Metadata["c"] != got.ContentType {
					t.Errorf("a mixture of two: %q, %q, %v, %v", got.Value, got.ContentType, got.Metadata, err)
					return
				}
			}
		})
	}},
	{"SurvivesARestart", func(t *testing.T, f *fixture) {
		version := f.put(t, "k", state.Item{Value: []byte("value"), ContentType: "text/plain", Metadata: map[string]string{"m": "1"}})
		f.put(t, "gone", text("v"))
		f.delete(t, "gone")
		f.close(t)
		again := f.again(t)
		got := again.get(t, "k")
		if string(got.Value) != "value" || got.Version != version || got.ContentType != "text/plain" || got.Metadata["m"] != "1" {
			t.Errorf("%+v, version was %q", got, version)
		}
		again.missing(t, "gone")
	}},
	{"PeeksWhatGetWouldAnswer", func(t *testing.T, f *fixture) {
		d, ok := f.driver.(state.Peeker)
		if !ok {
			t.Logf("%T does not peek", f.driver)
			return
		}
		for i := range 20 {
			f.put(t, "k", state.Item{Value: []byte(fmt.Sprint(i)), TTL: time.Hour, Metadata: map[string]string{"m": "1"}})
			for range 3 {
				if got, ok := f.Peek(t.Context(), f.caller, "k"); ok && (string(got.Value) != fmt.Sprint(i) || got.TTL <= 0 || got.Metadata["m"] != "1") {
					t.Fatalf("peeked %+v, of round %d", got, i)
				}
				f.holds(t, "k", fmt.Sprint(i))
			}
		}
		if got, ok := f.Peek(t.Context(), components.Caller{Namespace: "other", App: f.caller.App}, "k"); ok {
			t.Errorf("another application peeked %q", got.Value)
		}
		f.delete(t, "k")
		if got, ok := d.Peek(t.Context(), f.caller.Namespace+"/"+f.caller.App+"/k"); ok {
			t.Errorf("peeked %q, which was deleted", got.Value)
		}
		f.put(t, "k", state.Item{TTL: f.TTL})
		f.awaitMissing(t, "k")
		if _, ok := f.Peek(t.Context(), f.caller, "k"); ok {
			t.Error("peeked what has expired")
		}
	}},
	{"EndedContext", func(t *testing.T, f *fixture) {
		f.put(t, "k", text("v"))
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		if _, err := f.driver.Transact(ctx, state.Transaction{Operations: []state.Operation{put("conformance/"+f.caller.App+"/k", "w")}}); err == nil {
			t.Error("a transaction whose context has ended succeeded")
		}
		f.holds(t, "k", "v")
	}},
	{"CloseTwice", func(t *testing.T, f *fixture) {
		f.close(t)
	}},
}

func unsupported(err error) bool { return errors.Is(err, components.ErrUnsupported) }
