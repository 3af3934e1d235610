package statetest

import (
	"strconv"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/outrigger-mesh/outrigger/components"
	"github.com/outrigger-mesh/outrigger/components/componenttest"
	"github.com/outrigger-mesh/outrigger/components/state"
)

// barriers is about branches of distributed transactions.
var barriers = []test{
	{"CallsHappenOnce", func(t *testing.T, f *fixture) {
		if !f.guarded(t) {
			return
		}
		for _, op := range []string{"action", "try", "confirm"} {
			f.does(t, state.Applied, branch("g", op, op, put(op, "first")))
			r := f.again(t).does(t, state.Repeated, branch("g", op, op, put(op, "second")))
			if len(r.Versions) != 0 {
				t.Errorf("versions of what was not done: %q", r.Versions)
			}
			f.holds(t, op, "first")
		}
	}},
	{"CompensatesWhatWasDone", func(t *testing.T, f *fixture) {
		if !f.guarded(t) {
			return
		}
		for forward, back := range pairs {
			f.does(t, state.Applied, branch("g", forward, forward, put(forward, "done")))
			f.does(t, state.Applied, branch("g", forward, back, put(forward, "undone")))
			f.does(t, state.Repeated, branch("g", forward, back, put(forward, "undone twice")))
			f.does(t, state.Repeated, branch("g", forward, forward, put(forward, "done again")))
			f.holds(t, forward, "undone")
		}
	}},
	{"CompensatesNothing", func(t *testing.T, f *fixture) {
		if !f.guarded(t) {
			return
		}
		for forward, back := range pairs {
			f.does(t, state.Empty, branch("g", forward, back, put(forward, "undone")))
			f.does(t, state.Repeated, branch("g", forward, back, put(forward, "undone")))
			f.does(t, state.Suspended, branch("g", forward, forward, put(forward, "too late")))
			f.again(t).does(t, state.Suspended, branch("g", forward, forward, put(forward, "too late")))
			f.missing(t, forward)
		}
	}},
	{"OneCallHasTwoWords", func(t *testing.T, f *fixture) {
		if !f.guarded(t) {
			return
		}
		f.does(t, state.Empty, branch("g", "never", "compensation", put("k", "undone")))
		f.does(t, state.Repeated, branch("g", "never", "compensate", put("k", "undone")))
		f.does(t, state.Suspended, branch("g", "never", "action", put("k", "too late")))
		f.does(t, state.Applied, branch("g", "came", "action"))
		f.does(t, state.Applied, branch("g", "came", "compensate"))
		f.does(t, state.Repeated, branch("g", "came", "compensation", put("k", "undone twice")))
		f.missing(t, "k")
	}},
	{"OtherWordsAreRefused", func(t *testing.T, f *fixture) {
		for _, op := range []string{"", "Action", "rollback", "action\x00"} {
			_, err := f.Transact(t.Context(), f.caller, branch("g", "b", op, put("k", "v")))
			outcome(t, err, components.ErrInvalid)
			if !strings.Contains(err.Error(), "action, compensation (or compensate), try, confirm and cancel") {
				t.Errorf("%v: which words there are is not said", err)
			}
		}
		f.missing(t, "k")
	}},
	{"BranchesAreApart", func(t *testing.T, f *fixture) {
		if !f.guarded(t) {
			return
		}
		f.does(t, state.Applied, branch("g", "b", "action", put("k", "v")))
		f.does(t, state.Applied, branch("g", "b2", "action", put("k", "v")))
		f.does(t, state.Applied, branch("g2", "b", "action", put("k", "v")))
		f.does(t, state.Applied, branch("g", "b", "try", put("k", "v")))
		f.does(t, state.Applied, branch("gb", "b", "action", put("k", "v")))
		f.does(t, state.Applied, branch("g", "bb", "action", put("k", "v")))
		f.does(t, state.Empty, branch("g", "b3", "compensation", put("k", "v")))
		other := components.Caller{Namespace: "other", App: f.caller.App}
		if r, err := f.Transact(t.Context(), other, branch("g", "b", "action", put("k", "v"))); err != nil || r.Outcome != state.Applied {
			t.Errorf("another application's: %q, %v", r.Outcome, err)
		}
	}},
	{"WhatFailsLeavesNoBarrier", func(t *testing.T, f *fixture) {
		if !f.guarded(t) {
			return
		}
		bad := put("k", "v")
		bad.IfVersion = "no version of any item"
		_, err := f.Transact(t.Context(), f.caller, branch("g", "b", "action", bad))
		outcome(t, err, components.ErrConflict)
		f.does(t, state.Applied, branch("g", "b", "action", put("k", "v")))
		f.does(t, state.Repeated, branch("g", "b", "action", bad)) // the condition is not looked at
	}},
	{"BarrierRace", func(t *testing.T, f *fixture) {
		if !f.guarded(t) {
			return
		}
		for round := range 10 {
			var action, back atomic.Value
			var applied atomic.Int64
			key := strconv.Itoa(round)
			componenttest.Together(crowd, func(i int) {
				op, into := "action", &action
				if i%2 == 0 {
					op, into = "compensation", &back
				}
				r, err := f.Transact(t.Context(), f.caller, branch("g", key, op, put(key+op, "v")))
				switch {
				case err != nil:
					t.Error(err)
				case r.Outcome == state.Applied:
					applied.Add(1)
					into.Store(r.Outcome)
				case r.Outcome == state.Empty || r.Outcome == state.Suspended:
					into.Store(r.Outcome)
				}
			})
			both := action.Load() == state.Applied && back.Load() == state.Applied && applied.Load() == 2
			neither := action.Load() == state.Suspended && back.Load() == state.Empty && applied.Load() == 0
			if !both && !neither {
				t.Fatalf("%d were applied: action %v, compensation %v", applied.Load(), action.Load(), back.Load())
			}
		}
	}},
	{"BarrierAlone", func(t *testing.T, f *fixture) {
		if !f.guarded(t) {
			return
		}
		f.does(t, state.Applied, branch("g", "b", "action"))
		f.does(t, state.Repeated, branch("g", "b", "action"))
	}},
}

var pairs = map[string]string{"action": "compensation", "try": "cancel"}

func branch(gid, branch, op string, all ...state.Operation) state.Transaction {
	return state.Transaction{Operations: all, Barrier: state.Barrier{GID: gid, Branch: branch, Op: op}}
}

func (f *fixture) guarded(t *testing.T) bool {
	t.Helper()
	return f.offered(t, state.Barriers, branch("offered", "b", "action", put("k", "v")))
}
