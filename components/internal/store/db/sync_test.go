package db_test

import (
	"errors"
	"runtime"
	"testing"
	"time"

	"github.com/outrigger-mesh/outrigger/components"
	"github.com/outrigger-mesh/outrigger/components/internal/store/db"
)

// What was not synced may be gone, and later updates have seen it: so a store with a sync that failed has to be opened again.
func TestSyncThatFails(t *testing.T) {
	fs := newTight()
	d := open(t, fs)
	defer d.Close()
	if err := set(d, "before", "1"); err != nil {
		t.Fatal(err)
	}
	fs.breaks(".journal")
	var detail *components.Detail
	if err := set(d, "during", "1"); !errors.As(err, &detail) || detail.Reason != db.ReasonOutcomeUnknown {
		t.Errorf("a write that was not synced: %v", err)
	}
	if got := contents(t, d); got["during"] != "" {
		t.Errorf("what was not synced is seen: %v", got)
	}
	await(t, "it has not failed", d.Failed())
	if err := set(d, "during", "2"); !errors.As(err, &detail) || detail.Reason != db.ReasonFailed {
		t.Errorf("the next one: %v", err)
	}
	d.Close()
	for _, works := range []bool{false, true} {
		if works {
			fs.breaks("")
		}
		again, err := reopen(fs)
		if err != nil {
			t.Fatal(err)
		}
		err = set(again, "after", "1")
		if got := contents(t, again); got["before"] != "1" || got["during"] == "2" || (got["after"] == "1") != works || (err == nil) != works {
			t.Errorf("opened again, the disk works: %v: there is %v; a write: %v", works, got, err)
		}
		again.Close()
	}
}

// A disk whose syncs fail again and again costs no memory: what has failed is closed.
func TestSyncsThatFailLeaveNothing(t *testing.T) {
	fs := newTight()
	var before int
	for i := range 8 {
		d := open(t, fs)
		if err := set(d, "before", "1"); err != nil {
			t.Fatal(err)
		}
		fs.breaks(".journal")
		if err := set(d, "during", "1"); err == nil {
			t.Fatal("a sync that failed was taken for one")
		}
		await(t, "it has not failed", d.Failed())
		d.Close()
		fs.breaks("")
		if i == 0 {
			before = runtime.NumGoroutine()
		}
	}
	for late := time.Now().Add(20 * time.Second); ; time.Sleep(time.Millisecond) { // the engine ends some behind its Close
		now := runtime.NumGoroutine()
		if now <= before {
			return
		}
		if time.Now().After(late) {
			t.Fatalf("there are %d goroutines after 8 failures, %d after the first", now, before)
		}
	}
}
