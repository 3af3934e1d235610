package db

import (
	"bytes"
	"context"
	"errors"
	"slices"
	"sync/atomic"
	"time"

	"github.com/cockroachdb/pebble/v2"
)

// rangeBytes is how much of the largest level is compacted at once: the room that this needs is bounded.
const rangeBytes = 16 << 20

// compact goes over the tables, and a range of them at a time, until it is enough.
func (d *DB) compact(ctx context.Context, enough func() bool) error {
	if d.opts.full {
		return d.full(true)
	}
	ctx, end := context.WithCancelCause(ctx)
	defer end(nil)
	urgent := &urgency{end: end}
	d.tables.outputs.urgent.Store(urgent)
	defer d.tables.outputs.urgent.CompareAndSwap(urgent, nil)
	if err := d.pebble.Flush(); err != nil {
		return err
	}
	borders, err := d.borders()
	if err != nil {
		return err
	}
	for i := range borders[1:] {
		if enough() {
			break
		}
		urgent.tries.Store(8)
		if err := d.pebble.Compact(ctx, borders[i], borders[i+1], false); err != nil {
			if noRoom(err) || noRoom(context.Cause(ctx)) {
				err = fullError(errNoRoom)
			}
			return err
		}
	}
	return nil
}

// borders are of ranges of about rangeBytes of the largest level.
func (d *DB) borders() ([][]byte, error) {
	levels, err := d.pebble.SSTables()
	if err != nil {
		return nil, err
	}
	bytesOf := func(tables []pebble.SSTableInfo) (n uint64) {
		for _, table := range tables {
			n += table.Size
		}
		return n
	}
	largest := slices.MaxFunc(levels[1:], func(a, b []pebble.SSTableInfo) int { return int(int64(bytesOf(a)) - int64(bytesOf(b))) })
	all, filled := [][]byte{{0}}, uint64(0)
	for _, table := range largest {
		if filled += table.Size; filled >= rangeBytes && bytes.Compare(table.Largest.UserKey, all[len(all)-1]) > 0 {
			all, filled = append(all, table.Largest.UserKey), 0
		}
	}
	return append(all, []byte{0xff}), nil
}

// reclaim is what makes room on a disk that is full.
type reclaim struct {
	deleted atomic.Bool  // something, since room was made last
	busy    atomic.Bool  // it is being made
	failed  bool         // the last time; of who makes it
	next    atomic.Int64 // when it may be made again, by the time since the machine was started
}

// makeRoom has what was deleted go from the disk, in the background, and with pauses as long as that takes: the engine would leave a few
// deletions where they are. With left it is due without any: to what a compaction has given up, for want of room, the engine does not come back by itself.
func (d *DB) makeRoom(left bool) {
	r := &d.reclaim
	if int64(Uptime()) < r.next.Load() || !r.deleted.Load() && !left || r.busy.Swap(true) {
		return
	}
	if !d.engage(func() {
		defer r.busy.Store(false)
		deleted := r.deleted.Swap(false)
		begun := Uptime()
		answer := make(chan error, 1)
		contain(func() error {
			return d.compact(d.ended, func() bool { return d.ended.Err() != nil || d.full(false) == nil })
		}, answer)
		if err := <-answer; err == nil {
			r.failed = false
		} else if !errors.Is(err, context.Canceled) {
			if deleted {
				r.deleted.Store(true) // what was is there still: it is tried again
			}
			if !r.failed {
				d.opts.Logger.Warn("no room could be made on the disk of the store; it is tried again as long as it is full", "err", err)
			}
			r.failed = true
		}
		now := Uptime()
		r.next.Store(int64(now + max(now-begun, 500*time.Millisecond)))
	}) {
		r.busy.Store(false)
	}
}
