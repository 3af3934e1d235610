package db

import (
	"sync/atomic"

	"github.com/cockroachdb/pebble/v2"
)

// behind is how far compactions are behind what is written. The engine would hold up who writes until they have caught up, which they never
// do while they wait for room: who writes would wait with them, and nobody would hear that the disk is full. So the writer waits itself,
// before it begins anything, and only for a compaction that can go on.
type behind struct {
	bytes   atomic.Int64 // of tables that no compaction has taken along yet
	starved atomic.Bool  // a compaction waits for room
	gaveUp  atomic.Bool  // the last one had too little, and none has found enough since
	failed  atomic.Bool  // the last one came to no end: for half a minute the engine begins none of the same tables, and then only when something is flushed
	moved   chan struct{}
}

// The next compaction takes all of them along, and about as much of the level below: all that has to fit into what is kept for it.
const (
	muchBehind  = compactionBytes / 2 // who writes waits
	stuckBehind = compactionBytes / 4 // a compaction is due, and those that wait for room do not get better by more
)

func newBehind() behind { return behind{moved: make(chan struct{}, 1)} }

// holds tells that who writes has to wait: for what comes to an end, or he would wait for ever.
func (b *behind) holds() bool {
	return b.bytes.Load() >= muchBehind && !b.starved.Load() && !b.failed.Load()
}

// left tells that there will be no compaction by itself, since the last one had too little room.
func (b *behind) left() bool { return b.gaveUp.Load() && !b.starved.Load() }

// stuck tells that nothing but deletions can be taken until there is room.
func (b *behind) stuck() bool {
	return b.bytes.Load() >= stuckBehind && (b.starved.Load() || b.gaveUp.Load())
}

func (b *behind) starve(starved bool) {
	b.starved.Store(starved)
	b.stir()
}

// goes takes note that a compaction has enough room, as far as can be told.
func (b *behind) goes() {
	b.gaveUp.Store(false)
	b.failed.Store(false)
	b.stir()
}

// stir has the writer look again.
func (b *behind) stir() {
	select {
	case b.moved <- struct{}{}:
	default:
	}
}

func (b *behind) flushed(f pebble.FlushInfo) {
	if f.Err == nil {
		b.bytes.Add(sizeOf(f.Output))
	}
}

func (b *behind) compacted(c pebble.CompactionInfo) {
	defer b.stir()
	b.failed.Store(c.Err != nil)
	if c.Err != nil {
		return
	}
	for _, level := range c.Input {
		if level.Level == 0 {
			b.bytes.Add(-sizeOf(level.Tables))
		}
	}
	if c.Output.Level == 0 {
		b.bytes.Add(sizeOf(c.Output.Tables))
	}
}

func sizeOf(tables []pebble.TableInfo) (n int64) {
	for _, t := range tables {
		n += int64(t.Size)
	}
	return n
}
