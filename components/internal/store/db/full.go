package db

import (
	"fmt"
	"sync/atomic"
	"time"

	"github.com/outrigger-mesh/outrigger/components"
)

// ReasonDiskFull is of writes that are refused because the disk is full.
const ReasonDiskFull components.Reason = "STORE_DISK_FULL"

const (
	compactionBytes = 64 << 20 // that the outputs of one compaction take, as a rule at most
	leastRest       = 1 << 20  // bytes that no compaction takes
	looseBytes      = 2 << 20  // by which looks come late, and a segment goes beyond its end
	lookEvery       = 50 * time.Millisecond
	lookAfter       = 256 << 10 // bytes that were written
	countEvery      = time.Second
	countAfter      = 1 << 20 // bytes by which the room has changed
)

// room knows how much of the disk is free, and what of that is needed to bring into order what was accepted.
type room struct {
	looked, counted atomic.Int64 // when, by the wall clock: a step of it only costs a look
	known           atomic.Bool  // whether the file system says
	free, tables    atomic.Int64 // bytes
	wrote           atomic.Int64 // what the tables and the journal had written, when it was looked
	then            atomic.Int64 // free, when the tables were counted
	unflushed       atomic.Int64 // segments of the journal that have to be kept, but for the one that is written
}

// due tells whether something is to be done that was last done at a time, and takes note.
func due(last *atomic.Int64, every time.Duration) bool {
	now := time.Now().UnixNano()
	if was := last.Load(); now-was < int64(every) && now >= was {
		return false
	}
	last.Store(now)
	return true
}

// look asks how much is free, if that was not done just now, or if much was written since.
func (d *DB) look() (free int64, known bool) {
	r, wrote := &d.room, d.tables.wrote.Load()
	if due(&r.looked, lookEvery) || wrote-r.wrote.Load() > lookAfter {
		r.wrote.Store(wrote)
		u, err := d.opts.FS.GetDiskUsage(d.opts.Dir)
		r.known.Store(err == nil)
		r.free.Store(int64(u.AvailBytes))
	}
	return r.free.Load(), r.known.Load()
}

// inMemory is what is yet to come to the disk as tables, at most: the journal has it.
func (d *DB) inMemory() int64 { return (d.room.unflushed.Load() + 1) * segmentBytes }

// order is what that needs, and the next segment of the journal.
func (d *DB) order() int64 { return d.inMemory() + segmentBytes + looseBytes }

// keep is what is left free: for that, and for one compaction, which writes no more than there is by then.
func (d *DB) keep() int64 {
	r := &d.room
	if free := r.free.Load(); due(&r.counted, countEvery) || max(free-r.then.Load(), r.then.Load()-free) > countAfter {
		r.then.Store(free)
		n, _ := size(d.opts.FS, d.opts.Dir, isTable)
		r.tables.Store(n)
	}
	return d.order() + min(r.tables.Load()+d.inMemory(), compactionBytes)
}

// mayCompact tells whether a compaction may take so many bytes. One that makes room begins when what was to come to order has, and may take
// nearly all.
func (d *DB) mayCompact(bytes int64) bool {
	free, known := d.look()
	rest := d.order()
	if d.tables.outputs.urgent.Load() != nil {
		rest = leastRest
	}
	return !known || free-bytes >= rest
}

// full tells why nothing more can be written; nil if it can. Deletions make room: they need what the next segment of the journal does.
func (d *DB) full(deletes bool) error {
	free, known := d.look()
	limit := int64(segmentBytes)
	if !deletes && free < 2*compactionBytes+d.order() {
		limit = d.keep()
		free += d.tables.outputs.written.Load() // it is what is kept for it
	}
	stuck := !deletes && d.tables.outputs.behind.stuck()
	if (!known || free >= limit) && d.tables.waiting.Load() == 0 && !stuck && !d.opts.full {
		return nil
	}
	d.makeRoom(stuck && d.tables.outputs.behind.left())
	if stuck && free >= limit {
		return fullError(fmt.Errorf("%d MiB are free where %s is, and compactions of it need more", free>>20, d.opts.Dir))
	}
	return fullError(fmt.Errorf("%d MiB are free where %s is, and %d MiB are kept in reserve", free>>20, d.opts.Dir, limit>>20))
}

func fullError(why error) error {
	return &components.Detail{Err: fmt.Errorf("%w: the disk of the store is full: %w", components.ErrExhausted, why),
		Reason: ReasonDiskFull, Metadata: map[string]string{"limit": "disk"}, RetryAfter: time.Second}
}

// Check tells whether a write would be accepted now.
func (d *DB) Check() error {
	if d.ended.Err() != nil {
		return d.over()
	}
	return d.full(false)
}
