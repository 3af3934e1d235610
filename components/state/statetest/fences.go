package statetest

import (
	"strings"
	"testing"

	"github.com/outrigger-mesh/outrigger/components"
	"github.com/outrigger-mesh/outrigger/components/state"
)

// fences is about tokens of locks.
var fences = []test{
	{"StaleTokenIsRefused", func(t *testing.T, f *fixture) {
		if !f.fencing(t) {
			return
		}
		_, err := f.set(t, "k", text("five"), state.Condition{}, 5)
		outcome(t, err, nil)
		_, err = f.set(t, "k", text("five again"), state.Condition{}, 5)
		outcome(t, err, nil)
		_, err = f.set(t, "k", text("four"), state.Condition{}, 4)
		reason(t, err, components.ErrPrecondition, state.ReasonStaleFence)
		_, err = f.set(t, "another key", text("four"), state.Condition{}, 4)
		reason(t, err, components.ErrPrecondition, state.ReasonStaleFence)
		reason(t, f.Delete(t.Context(), f.caller, "k", "", guard(4)), components.ErrPrecondition, state.ReasonStaleFence)
		f.holds(t, "k", "five again")
		f.missing(t, "another key")
		outcome(t, f.Delete(t.Context(), f.caller, "k", "", guard(7)), nil)
		again := f.again(t)
		_, err = again.set(t, "k", text("six"), state.Condition{}, 6)
		reason(t, err, components.ErrPrecondition, state.ReasonStaleFence)
		again.missing(t, "k")
		f.put(t, "k", text("without a fence"))
	}},
	{"TokensAreAsLargeAsTheyMay", func(t *testing.T, f *fixture) {
		if !f.fencing(t) {
			return
		}
		const most = 1<<64 - 1
		for _, token := range []uint64{9, 10, 1 << 53, 1<<53 + 1, 1<<63 - 1, 1 << 63, most} { // as text, as float, as signed
			_, err := f.set(t, "k", text("v"), state.Condition{}, token)
			outcome(t, err, nil)
			_, err = f.set(t, "k", text("older"), state.Condition{}, token-1)
			reason(t, err, components.ErrPrecondition, state.ReasonStaleFence)
		}
	}},
	{"LocksAreApart", func(t *testing.T, f *fixture) {
		if !f.fencing(t) {
			return
		}
		set := func(who components.Caller, fence state.Fence) error {
			_, err := f.Set(t.Context(), who, "k", text("v"), state.Condition{}, fence)
			return err
		}
		outcome(t, set(f.caller, state.Fence{Component: "default", Name: "guard", Token: 9}), nil)
		outcome(t, set(f.caller, state.Fence{Component: "default", Name: "guard2", Token: 1}), nil)
		outcome(t, set(f.caller, state.Fence{Component: "other", Name: "guard", Token: 1}), nil)
		outcome(t, set(components.Caller{Namespace: "other", App: f.caller.App}, state.Fence{Component: "default", Name: "guard", Token: 1}), nil)
		outcome(t, set(components.Caller{Namespace: "ab", App: f.caller.App}, state.Fence{Component: "c", Name: "guard", Token: 9}), nil)
		outcome(t, set(components.Caller{Namespace: "b", App: f.caller.App}, state.Fence{Component: "ca", Name: "guard", Token: 1}), nil)
	}},
	{"NobodysFenceIsAnothers", func(t *testing.T, f *fixture) {
		if !f.fencing(t) {
			return
		}
		const most = 1<<64 - 1
		evil := components.Caller{Namespace: f.caller.Namespace, App: f.caller.App + "-evil"}
		theirs := evil.Namespace + "/" + evil.App + "/guard" // a lock's name can be like that
		fence := state.Fence{Component: "default", Name: theirs, Token: 5}
		_, err := f.Set(t.Context(), f.caller, "k", text("five"), state.Condition{}, fence)
		outcome(t, err, nil)
		mine := f.caller.Namespace + "/" + f.caller.App
		for _, component := range []string{"default/" + mine, "default/" + mine + "/", "default\x00" + mine, "", "a b", "Default", "..", strings.Repeat("a", 64)} {
			_, err := f.Set(t.Context(), evil, "k", text("v"), state.Condition{}, state.Fence{Component: component, Name: "guard", Token: most})
			outcome(t, err, components.ErrInvalid)
		}
		fence.Token = 6
		_, err = f.Set(t.Context(), f.caller, "k", text("six"), state.Condition{}, fence)
		outcome(t, err, nil)
	}},
	{"WhatFailsSeesNoToken", func(t *testing.T, f *fixture) {
		if !f.fencing(t) {
			return
		}
		_, err := f.set(t, "k", text("v"), state.Condition{IfVersion: "no version of any item"}, 8)
		outcome(t, err, components.ErrConflict)
		_, err = f.set(t, "k", text("v"), state.Condition{}, 3)
		outcome(t, err, nil)
	}},
}

func (f *fixture) fencing(t *testing.T) bool {
	t.Helper()
	return f.offered(t, state.Fencing, state.Transaction{Operations: []state.Operation{put("k", "v")}, Fence: guard(1)})
}
