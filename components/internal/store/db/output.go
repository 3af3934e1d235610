package db

import (
	"context"
	"fmt"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/vfs"
)

// ofCompactions is the category of what the engine's compactions write.
const ofCompactions vfs.DiskWriteCategory = "pebble-compaction"

// outputs are the tables that a compaction writes. They need room before the tables that they replace give it back, and may not take what
// the journal and the tables in memory need: a compaction for which there is too little gives back what it has written, and one that
// begins waits until there is more than that. There is one at a time.
type outputs struct {
	room    func(bytes int64) bool  // tells whether a compaction may take so much; nil: as much as there is
	written atomic.Int64            // by the one that goes on
	lacked  atomic.Int64            // what the last one had written when there was too little; 0: it came to its end
	urgent  atomic.Pointer[urgency] // what makes room, or is to
	behind  behind
}

// urgency has a few compactions begin at once though there was too little room for the last: the engine may choose others before the
// one that is waited for. end tells who waits that it was of no use.
type urgency struct {
	tries atomic.Int32
	end   context.CancelCauseFunc
}

// errNoRoom is of compactions. It is not an errWrite: they are tried again.
var errNoRoom = fmt.Errorf("there is too little room for a compaction: %w", syscall.ENOSPC)

// compacted is told of every compaction that has ended.
func (o *outputs) compacted(c pebble.CompactionInfo) {
	defer o.behind.compacted(c)
	written := o.written.Swap(0)
	switch {
	case noRoom(c.Err):
		o.lacked.Store(written + 1)
		o.behind.gaveUp.Store(true)
	case c.Err == nil:
		o.lacked.Store(0)
		o.behind.goes()
	}
}

// begin waits, after a compaction that there was too little room for.
func (t *tableFS) begin() error {
	o := &t.outputs
	if o.lacked.Load() == 0 || o.written.Load() > 0 || !t.patient.Load() {
		return nil
	}
	urgent := o.urgent.Load()
	if urgent != nil {
		if urgent.tries.Add(-1) >= 0 {
			o.behind.goes()
			return nil
		}
		urgent.end(errNoRoom)
	}
	o.behind.starve(true)
	defer o.behind.starve(false)
	pause := time.NewTicker(roomPause)
	defer pause.Stop()
	for {
		if lacked := o.lacked.Load(); o.room == nil || o.room(lacked+lacked/2+1<<20) {
			o.behind.goes()
			return nil
		}
		select {
		case <-pause.C:
			if now := o.urgent.Load(); now != nil && now != urgent { // it is waited for another
				return errNoRoom
			}
		case <-t.ended:
			return errNoRoom
		}
	}
}

func (t *tableFS) createOutput(name string, c vfs.DiskWriteCategory) (vfs.File, error) {
	if err := t.begin(); err != nil {
		return nil, err
	}
	f, err := t.FS.Create(name, c)
	if err != nil {
		return nil, unmade(err)
	}
	return &output{f, t}, nil
}

// output is a table that a compaction writes.
type output struct {
	vfs.File
	fs *tableFS
}

func unmade(err error) error {
	if noRoom(err) {
		return fmt.Errorf("%w: %w", errNoRoom, err)
	}
	return unwritten(err)
}

func (f *output) Write(p []byte) (int, error) {
	all := &f.fs.outputs
	if all.room != nil && !all.room(int64(len(p))) {
		return 0, errNoRoom
	}
	n, err := f.File.Write(p)
	all.written.Add(int64(n))
	f.fs.wrote.Add(int64(n))
	return n, unmade(err)
}

func (f *output) Sync() error { return unmade(f.File.Sync()) }

func (f *output) SyncData() error { return unmade(f.File.SyncData()) }

func (f *output) SyncTo(length int64) (full bool, err error) {
	full, err = f.File.SyncTo(length)
	return full, unmade(err)
}
