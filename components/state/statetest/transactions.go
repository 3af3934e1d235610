package statetest

import (
	"errors"
	"strconv"
	"sync/atomic"
	"testing"

	"github.com/outrigger-mesh/outrigger/components"
	"github.com/outrigger-mesh/outrigger/components/componenttest"
	"github.com/outrigger-mesh/outrigger/components/state"
)

// transactions is about several operations at once.
var transactions = []test{
	{"AllOfIt", func(t *testing.T, f *fixture) {
		version := f.put(t, "there", text("before"))
		f.put(t, "gone", text("before"))
		tx := ops(put("new", "v"), state.Operation{Kind: state.Delete, Key: "gone"}, state.Operation{Kind: state.Delete, Key: "never was"},
			state.Operation{Kind: state.Set, Key: "there", Item: text("after"), Condition: state.Condition{IfVersion: version}},
			state.Operation{Kind: state.Check, Key: "absent", Condition: state.Condition{IfAbsent: true}})
		if !f.offered(t, state.Many, tx) {
			return
		}
		r := f.does(t, state.Applied, tx)
		f.missing(t, "gone")
		f.holds(t, "new", "v")
		f.holds(t, "there", "after")
		f.missing(t, "absent")
		if len(r.Versions) != 5 || r.Versions[0] != f.get(t, "new").Version || r.Versions[3] != f.get(t, "there").Version || r.Versions[0] == r.Versions[3] {
			t.Errorf("versions %q", r.Versions)
		}
		if len(r.Versions) == 5 && r.Versions[1]+r.Versions[2]+r.Versions[4] != "" {
			t.Errorf("versions of operations that do not set: %q", r.Versions)
		}
	}},
	{"OrNothing", func(t *testing.T, f *fixture) {
		if !f.offered(t, state.Many, ops(put("a", ""), put("b", ""))) {
			return
		}
		version := f.put(t, "there", text("before"))
		for _, bad := range []struct {
			op   state.Operation
			kind error
		}{
			{state.Operation{Kind: state.Set, Key: "there", Item: text("after"), Condition: state.Condition{IfAbsent: true}}, components.ErrExists},
			{state.Operation{Kind: state.Set, Key: "absent", Item: text("after"), Condition: state.Condition{IfVersion: version}}, components.ErrConflict},
			{state.Operation{Kind: state.Set, Key: "there", Item: text("after"), Condition: state.Condition{IfVersion: version + "x"}}, components.ErrConflict},
			{state.Operation{Kind: state.Delete, Key: "there", Condition: state.Condition{IfVersion: version + "x"}}, components.ErrConflict},
			{state.Operation{Kind: state.Check, Key: "there", Condition: state.Condition{IfAbsent: true}}, components.ErrExists},
			{state.Operation{Kind: state.Check, Key: "absent", Condition: state.Condition{IfVersion: version}}, components.ErrConflict},
		} {
			for place := range 3 {
				all := []state.Operation{put("a", "v"), {Kind: state.Delete, Key: "kept"}}
				f.put(t, "kept", text("v"))
				all = append(all[:place:place], append([]state.Operation{bad.op}, all[place:]...)...)
				_, err := f.Transact(t.Context(), f.caller, ops(all...))
				outcome(t, err, bad.kind)
				if _, md := detail(err); md["operation"] != strconv.Itoa(place) {
					t.Errorf("%v: metadata %v, want operation %d", err, md, place)
				}
				f.missing(t, "a")
				f.missing(t, "absent")
				f.holds(t, "kept", "v")
				f.holds(t, "there", "before")
			}
		}
	}},
	{"Refused", func(t *testing.T, f *fixture) {
		tooMany := make([]state.Operation, state.MaxOperations+1)
		for i := range tooMany {
			tooMany[i] = put("k"+strconv.Itoa(i), "v")
		}
		for what, tx := range map[string]state.Transaction{
			"nothing to do":             {},
			"too many":                  ops(tooMany...),
			"a key twice":               ops(put("a", "1"), put("a", "2")),
			"an empty key":              ops(put("", "1")),
			"a check without condition": ops(state.Operation{Kind: state.Check, Key: "a"}),
			"no kind":                   ops(state.Operation{Key: "a"}),
			"delete if absent":          ops(state.Operation{Kind: state.Delete, Key: "a", Condition: state.Condition{IfAbsent: true}}),
			"two conditions":            ops(state.Operation{Kind: state.Set, Key: "a", Condition: state.Condition{IfAbsent: true, IfVersion: "v"}}),
			"a negative time to live":   ops(state.Operation{Kind: state.Set, Key: "a", Item: state.Item{TTL: -1}}),
			"a fence without token":     {Operations: []state.Operation{put("a", "1")}, Fence: state.Fence{Component: "default", Name: "l"}},
			"a fence without name":      {Operations: []state.Operation{put("a", "1")}, Fence: state.Fence{Component: "default", Token: 1}},
			"a barrier without op":      {Operations: []state.Operation{put("a", "1")}, Barrier: state.Barrier{GID: "g", Branch: "b"}},
			"a key with NUL":            {Operations: []state.Operation{put("a", "1")}, IdempotencyKey: "a\x00"},
		} {
			if _, err := f.Transact(t.Context(), f.caller, tx); !errors.Is(err, components.ErrInvalid) {
				t.Errorf("%s: %v, want ErrInvalid", what, err)
			}
		}
		f.missing(t, "a")
	}},
	{"AtTheBound", func(t *testing.T, f *fixture) {
		var tx state.Transaction
		for i := range state.MaxOperations {
			tx.Operations = append(tx.Operations, put(strconv.Itoa(i), "value "+strconv.Itoa(i)))
		}
		if !f.offered(t, state.Many, tx) {
			return
		}
		f.does(t, state.Applied, tx)
		for i := range state.MaxOperations {
			f.holds(t, strconv.Itoa(i), "value "+strconv.Itoa(i))
		}
	}},
	{"TransactionRace", func(t *testing.T, f *fixture) {
		if !f.offered(t, state.Many, ops(put("a", ""), put("b", ""))) {
			return
		}
		f.put(t, "a", text("0"))
		f.put(t, "b", text("0"))
		const enough = 60
		var done atomic.Int64
		componenttest.Together(crowd, func(int) {
			for range enough {
				if done.Load() >= enough {
					return
				}
				if err := f.bump(t); err == nil {
					done.Add(1)
				} else if !errors.Is(err, components.ErrConflict) {
					t.Errorf("transact: %v", err)
					return
				}
			}
		})
		f.holds(t, "a", strconv.FormatInt(done.Load(), 10))
		f.holds(t, "b", strconv.FormatInt(done.Load(), 10))
	}},
}

// bump adds one to a and b, if neither has changed since they were read.
func (f *fixture) bump(t *testing.T) error {
	var tx state.Transaction
	for _, key := range []string{"a", "b"} {
		item, err := f.Get(t.Context(), f.caller, key)
		if err != nil {
			return err
		}
		n, _ := strconv.Atoi(string(item.Value))
		op := put(key, strconv.Itoa(n+1))
		op.IfVersion = item.Version
		tx.Operations = append(tx.Operations, op)
	}
	_, err := f.Transact(t.Context(), f.caller, tx)
	return err
}
