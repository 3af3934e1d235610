package local

import (
	"errors"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/outrigger-mesh/outrigger/components/internal/store/db"
	"github.com/outrigger-mesh/outrigger/components/transaction"
)

var there = transaction.Target{Service: "s", Method: "m"}

func saga(branches ...transaction.Branch) *tx {
	for i := range branches {
		branches[i].Do, branches[i].Undo = there, there
	}
	return begin("default/a/b/g", content{Content: transaction.Content{Kind: transaction.Saga, Branches: branches, Policy: transaction.Policy{
		Timeout: time.Minute, CallTimeout: time.Second, FirstPause: time.Second, LongPause: 5 * time.Second}}}, 0, time.Now())
}

func chain() *tx {
	return saga(transaction.Branch{ID: "1"}, transaction.Branch{ID: "2", After: []string{"1"}}, transaction.Branch{ID: "3", After: []string{"2"}})
}

func (t *tx) says() (all []string) {
	for _, c := range t.calls() {
		all = append(all, fmt.Sprint(c.op, " ", t.content.Branches[c.at].ID))
	}
	return all
}

func wants(t *testing.T, x *tx, s transaction.State, calls ...string) {
	t.Helper()
	x.advance(0)
	if x.State != s || !slices.Equal(x.says(), calls) {
		t.Fatalf("%s, calls %q; want %s, %q", x.State, x.says(), s, calls)
	}
}

func (t *tx) end(err error, now db.Time) { t.came(t.calls()[0], err, now) }

// TestSteps: one after the other; what failed and what came before it is compensated, the last first.
func TestSteps(t *testing.T) {
	x := chain()
	wants(t, x, transaction.Running, "action 1")
	x.end(nil, 0)
	wants(t, x, transaction.Running, "action 2")
	x.end(transaction.Failed(errors.New("no")), 0)
	wants(t, x, transaction.Aborting, "compensation 2")
	x.end(transaction.Failed(errors.New("it cannot")), 0)
	wants(t, x, transaction.Aborting, "compensation 2")
	x.end(nil, 0)
	wants(t, x, transaction.Aborting, "compensation 1")
	x.end(nil, 0)
	wants(t, x, transaction.Aborted)
	if x.Failed != "2" {
		t.Errorf("%q has failed, want 2", x.Failed)
	}
}

// TestUnsure: whoever has not driven a saga so far compensates all of it, however little is known to be done.
func TestUnsure(t *testing.T) {
	x := chain()
	x.doubt()
	if _, err := x.decide(transaction.Abort); err != nil {
		t.Fatal(err)
	}
	for _, id := range []string{"3", "2", "1"} {
		wants(t, x, transaction.Aborting, "compensation "+id)
		x.end(nil, 0)
	}
	wants(t, x, transaction.Aborted)
}

// TestPauses double up to the longest, and begin anew when somebody says so.
func TestPauses(t *testing.T) {
	x := chain()
	x.advance(0)
	var now db.Time
	for _, want := range []time.Duration{1, 2, 4, 5, 5} {
		x.end(errors.New("away"), now)
		next := x.calls()[0].after
		if got := next.Sub(now); got != want*time.Second {
			t.Fatalf("a pause of %s, want %d s", got, want)
		}
		now = next
	}
	if _, err := x.decide(transaction.Retry); err != nil || x.calls()[0].after != 0 || x.pause(x.run.Branches[0].Attempts+1) != time.Second {
		t.Errorf("after retry the next attempt is after %d, %v", x.calls()[0].after, err)
	}
}

// TestALateAction does not end what is being rolled back.
func TestALateAction(t *testing.T) {
	x := saga(transaction.Branch{ID: "1"}, transaction.Branch{ID: "2"})
	wants(t, x, transaction.Running, "action 1", "action 2")
	late := x.calls()[1]
	x.end(transaction.Failed(errors.New("no")), 0)
	wants(t, x, transaction.Aborting, "compensation 1", "compensation 2")
	x.came(late, nil, 0)
	wants(t, x, transaction.Aborting, "compensation 1", "compensation 2")
}

// TestManyBefore: what was asked of a branch once is not asked again for each way to it.
func TestManyBefore(t *testing.T) {
	var branches []transaction.Branch
	var before []string
	for layer := range 40 {
		var ids []string
		for i := range 3 {
			ids = append(ids, fmt.Sprint(layer, ".", i))
			branches = append(branches, transaction.Branch{ID: ids[i], After: before})
		}
		before = ids
	}
	x := saga(branches...)
	x.doubt()
	x.rollBack("")
	for i := range x.run.Branches[3:] {
		x.run.Branches[3+i].Second = done
	}
	wants(t, x, transaction.Aborting, "compensation 0.0", "compensation 0.1", "compensation 0.2")
}
