package db

import (
	"context"
	"errors"
	"testing"

	"github.com/cockroachdb/pebble/v2"

	"github.com/outrigger-mesh/outrigger/components"
)

// Who writes faster than compactions are waits for them, and no longer than he likes. Where they wait for room, he hears that there is none.
func TestWritesWaitForCompactionsThatGoOn(t *testing.T) {
	d := openLater(t)
	write := func(ctx context.Context, do func(*Tx)) error {
		return d.Space("test").Update(ctx, Disk, func(tx *Tx) error { do(tx); return nil })
	}
	set := func(tx *Tx) { tx.Set([]byte("k"), []byte("v")) }
	b := &d.tables.outputs.behind
	b.bytes.Store(muchBehind)
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error)
	go func() { done <- write(ctx, set) }()
	waits := make(chan error)
	go func() { waits <- write(t.Context(), func(*Tx) {}) }()
	cancel()
	if err := <-done; !errors.Is(err, context.Canceled) {
		t.Errorf("a write while compactions are behind: %v", err)
	}
	b.starve(true)
	if err := <-waits; err != nil {
		t.Errorf("what waited for them: %v", err)
	}
	if err := write(t.Context(), set); !errors.Is(err, components.ErrExhausted) {
		t.Errorf("a write while compactions wait for room: %v", err)
	}
	if err := write(t.Context(), func(tx *Tx) { tx.Delete([]byte("k")) }); err != nil {
		t.Errorf("a deletion: %v", err)
	}
	b.bytes.Store(0)
	b.starve(false)
	if err := write(t.Context(), set); err != nil {
		t.Errorf("when they have caught up: %v", err)
	}
}

// When a compaction has given up, for want of room or otherwise, the engine begins none for a while, and then only when something is flushed: who writes does
// not wait for that. Of room he hears, and has what is left done.
func TestWritesDoNotWaitForACompactionThatHasGivenUp(t *testing.T) {
	d := openLater(t)
	set := func() error {
		return d.Space("test").Update(t.Context(), Disk, func(tx *Tx) error { tx.Set([]byte("k"), []byte("v")); return nil })
	}
	o := &d.tables.outputs
	o.behind.bytes.Store(muchBehind)
	waits := make(chan error)
	go func() { waits <- set() }()
	o.compacted(pebble.CompactionInfo{Err: errNoRoom})
	if err := <-waits; !errors.Is(err, components.ErrExhausted) {
		t.Errorf("a write when a compaction has given up for want of room: %v", err)
	}
	for d.reclaim.next.Load() == 0 { // what it gave up is tried again, in the background
		if err := set(); !errors.Is(err, components.ErrExhausted) {
			t.Fatalf("a write before that: %v", err)
		}
	}
	o.compacted(pebble.CompactionInfo{})
	go func() { waits <- set() }()
	o.compacted(pebble.CompactionInfo{Err: errors.New("damaged")})
	if err := <-waits; err != nil {
		t.Errorf("a write when a compaction has failed: %v", err)
	}
}

// It is known how many tables no compaction has taken along.
func TestTablesThatWaitForACompactionAreCounted(t *testing.T) {
	d := openLater(t)
	for i := range 40 {
		if err := d.Space("test").Update(t.Context(), OS, func(tx *Tx) error { tx.Set([]byte{'k'}, []byte{byte(i)}); return nil }); err != nil {
			t.Fatal(err)
		}
		if err := d.ask(t.Context(), d.pebble.Flush); err != nil {
			t.Fatal(err)
		}
	}
	if err := d.Compact(t.Context()); err != nil {
		t.Fatal(err)
	}
	if counted, are := d.tables.outputs.behind.bytes.Load(), d.pebble.Metrics().Levels[0].TablesSize; counted != are {
		t.Errorf("%d bytes are counted, %d are there", counted, are)
	}
}
