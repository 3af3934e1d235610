package statetest

import (
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/outrigger-mesh/outrigger/components"
	"github.com/outrigger-mesh/outrigger/components/componenttest"
	"github.com/outrigger-mesh/outrigger/components/state"
)

// repeats is about idempotency keys.
var repeats = []test{
	{"RepeatGivesTheFirstAnswer", func(t *testing.T, f *fixture) {
		if !f.idempotent(t) {
			return
		}
		op := put("k", "v")
		op.IfAbsent, op.Item.TTL = true, time.Hour
		op.Item.Metadata = map[string]string{"a": "1", "b": "2", "c": "3"}
		first := f.does(t, state.Applied, keyed("once", op))
		if second := f.does(t, state.Applied, keyed("once", op)); !slices.Equal(first.Versions, second.Versions) {
			t.Errorf("versions %q, then %q", first.Versions, second.Versions)
		}
		version := f.put(t, "k", text("newer"))
		again := f.again(t)
		if third := again.does(t, state.Applied, keyed("once", op)); !slices.Equal(first.Versions, third.Versions) {
			t.Errorf("versions %q, after a restart %q", first.Versions, third.Versions)
		}
		if got := again.get(t, "k"); got.Version != version {
			t.Error("it was done again")
		}
	}},
	{"OtherContentIsRefused", func(t *testing.T, f *fixture) {
		if !f.idempotent(t) {
			return
		}
		f.does(t, state.Applied, keyed("once", put("k", "v")))
		with := func(change func(*state.Operation)) state.Operation {
			op := put("k", "v")
			change(&op)
			return op
		}
		for what, tx := range map[string]state.Transaction{
			"another value":         keyed("once", put("k", "w")),
			"another key":           keyed("once", put("k2", "v")),
			"another kind":          keyed("once", state.Operation{Kind: state.Delete, Key: "k"}),
			"one more":              keyed("once", put("k", "v"), put("k2", "v")),
			"a time to live":        keyed("once", with(func(op *state.Operation) { op.Item.TTL = time.Hour })),
			"a content type":        keyed("once", with(func(op *state.Operation) { op.Item.ContentType = "text/plain" })),
			"metadata":              keyed("once", with(func(op *state.Operation) { op.Item.Metadata = map[string]string{"a": "1"} })),
			"a condition":           keyed("once", with(func(op *state.Operation) { op.IfVersion = "v" })),
			"another condition":     keyed("once", with(func(op *state.Operation) { op.IfAbsent = true })),
			"a barrier that is new": {Operations: []state.Operation{put("k", "v")}, IdempotencyKey: "once", Barrier: state.Barrier{GID: "g", Branch: "b", Op: "action"}},
		} {
			_, err := f.Transact(t.Context(), f.caller, tx)
			if got, _ := detail(err); got != state.ReasonKeyReused && !unsupported(err) {
				t.Errorf("%s: %v, reason %q", what, err, got)
			}
		}
		f.holds(t, "k", "v")
		f.missing(t, "k2")
	}},
	{"WhatFailsLeavesNoAnswer", func(t *testing.T, f *fixture) {
		if !f.idempotent(t) {
			return
		}
		op := put("k", "v")
		op.IfAbsent = true
		f.put(t, "k", text("in the way"))
		_, err := f.Transact(t.Context(), f.caller, keyed("once", op))
		outcome(t, err, components.ErrExists)
		f.delete(t, "k")
		f.does(t, state.Applied, keyed("once", op))
		f.holds(t, "k", "v")
	}},
	{"KeysAreApart", func(t *testing.T, f *fixture) {
		if !f.idempotent(t) {
			return
		}
		f.does(t, state.Applied, keyed("once", put("k", "v")))
		f.does(t, state.Applied, keyed("twice", put("k", "w")))
		f.holds(t, "k", "w")
		other := components.Caller{Namespace: "other", App: f.caller.App}
		if _, err := f.Transact(t.Context(), other, keyed("once", put("k", "x"))); err != nil {
			t.Errorf("another application's: %v", err)
		}
	}},
	{"RepeatRace", func(t *testing.T, f *fixture) {
		if !f.idempotent(t) {
			return
		}
		var mu sync.Mutex
		versions := map[string]int{}
		componenttest.Together(crowd, func(int) {
			r, err := f.Transact(t.Context(), f.caller, keyed("once", put("k", "v")))
			mu.Lock()
			defer mu.Unlock()
			if err != nil || len(r.Versions) != 1 {
				t.Errorf("%+v, %v", r, err)
				return
			}
			versions[r.Versions[0]]++
		})
		if len(versions) != 1 || versions[f.get(t, "k").Version] != crowd {
			t.Errorf("one key was answered with %d versions", len(versions))
		}
	}},
	{"AnswersWithABarrier", func(t *testing.T, f *fixture) {
		if !f.idempotent(t) || !f.guarded(t) {
			return
		}
		tx := branch("g", "b", "compensation", put("k", "v"))
		tx.IdempotencyKey = "once"
		f.does(t, state.Empty, tx)
		f.does(t, state.Empty, tx) // the first answer, not REPEATED
		tx.IdempotencyKey = "twice"
		f.does(t, state.Repeated, tx)
	}},
}

func keyed(key string, all ...state.Operation) state.Transaction {
	return state.Transaction{Operations: all, IdempotencyKey: key}
}

func (f *fixture) idempotent(t *testing.T) bool {
	t.Helper()
	return f.offered(t, state.Idempotency, keyed("offered", put("k", "v")))
}
