package dtm_test

import (
	"context"
	"slices"
	"testing"

	"github.com/outrigger-mesh/outrigger/components/transaction"
)

// TestChangesAreLoggedOnce: that one began, when it is begun or DTM asks for its first call, whichever is first; and its end, when somebody asks who
// is the first to know.
func TestChangesAreLoggedOnce(t *testing.T) {
	r := newRig(t, func(context.Context, *transaction.Call) error { return nil })
	logged := func(gid string, want ...string) {
		t.Helper()
		if got := r.log.states(gid); !slices.Equal(got, want) {
			t.Errorf("of %s is logged %v, want %v", gid, got, want)
		}
	}
	key := application + "g"
	q := r.saga(key, "one")
	logged(key, "RUNNING")
	if err := r.step(q, 0, "action"); err != nil {
		t.Error(err)
	}
	get := func(key string, want transaction.State) {
		t.Helper()
		if info, err := r.driver.Get(t.Context(), key); err != nil || info.State != want {
			t.Fatalf("%+v, %v", info, err)
		}
	}
	get(key, transaction.Running)
	logged(key, "RUNNING")
	r.becomes(q.Gid, "succeed")
	get(key, transaction.Committed)
	get(key, transaction.Committed)
	logged(key, "RUNNING", "COMMITTED")
	if _, err := r.driver.Wait(t.Context(), key); err != nil {
		t.Error(err)
	}
	logged(key, "RUNNING", "COMMITTED")

	left := application + "left"
	q = r.saga(left, "one")
	if _, err := r.driver.Decide(t.Context(), left, transaction.GiveUp); err != nil {
		t.Fatal(err)
	}
	r.becomes(q.Gid, "failed")
	if _, err := r.driver.Get(t.Context(), left); err != nil {
		t.Error(err)
	}
	logged(left, "RUNNING", "GIVEN_UP")
}

// becomes has DTM come to a state.
func (f *fake) becomes(gid, state string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.kept[gid] = state
}
