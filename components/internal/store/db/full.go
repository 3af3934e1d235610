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
	reserve   = 32 << 20 // bytes that are left free, so that what was accepted can be brought into order
	lookEvery = 50 * time.Millisecond
)

// room knows how much of the disk is free.
type room struct {
	seen       atomic.Int64 // when it was last looked, by the wall clock: a step of it only costs a look
	free, keep atomic.Int64
}

// look asks how much is free, if that was not done just now. A file system that does not say has room.
func (d *DB) look() (free, keep int64) {
	r, now := &d.room, time.Now().UnixNano()
	if last := r.seen.Load(); now-last >= int64(lookEvery) || now < last {
		r.seen.Store(now)
		u, err := d.opts.FS.GetDiskUsage(d.opts.Dir)
		if err != nil {
			return 1, 0
		}
		r.free.Store(int64(u.AvailBytes))
		r.keep.Store(min(reserve, int64(u.TotalBytes/20)))
	}
	return r.free.Load(), r.keep.Load()
}

// full tells why nothing more can be written; nil if it can. Deletions may use half of what is kept: they make room.
func (d *DB) full(deletes bool) error {
	free, keep := d.look()
	if deletes {
		keep /= 2
	}
	if free >= keep && d.tables.waiting.Load() == 0 {
		return nil
	}
	return fullError(fmt.Errorf("%d MiB are free where %s is, and %d MiB are kept in reserve", free>>20, d.opts.Dir, keep>>20))
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
