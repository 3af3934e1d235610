package local

import (
	"context"
	"sort"
	"sync"
	"sync/atomic"

	"github.com/outrigger-mesh/outrigger/components/internal/store/db"
)

const (
	maxTail      = 8 << 10 // events of a topic that are kept in memory for those that read along
	maxTailBytes = 8 << 20
)

// topic is one that somebody has come for.
type topic struct {
	address
	m    *machine
	key  []byte
	id   uint64
	join sync.Mutex // held while a group is read or made

	retired atomic.Bool // its record is gone, or may be: nothing is written of it

	// Of the goroutine that writes. They may be ahead of what is on the disk after a write that failed: sequences have gaps then.
	assigned uint64
	bytes    uint64
	wall     int64

	mu     sync.Mutex
	rec    topicRecord // as it is in truth; the one on the disk follows
	groups map[string]*group
	users  int // sessions; while there are any, the tail is kept
	tail   tail
}

// entry is an event of a topic. It does not change.
type entry struct {
	seq   uint64
	event *event
	size  int64
}

func newEntry(seq uint64, e *event) *entry { return &entry{seq, e, e.size()} }

// tail are the newest events, all after before.
type tail struct {
	before  uint64
	entries []*entry
	bytes   int64
}

// catchUp looks for events after those the record knows of.
func (t *topic) catchUp(v *db.View) error {
	for key, record := range v.Scan(eventKey(t.rec.ID, t.rec.Reached+1), db.After(number([]byte("e"), t.rec.ID))) {
		h, err := headOf(key, record)
		if err != nil {
			return err
		}
		t.rec.Reached, t.rec.ReachedBytes, t.rec.Wall = sequenceOf(key), h.bytes, h.wall
	}
	return v.Err()
}

func (t *topic) keep(ctx context.Context) error {
	t.mu.Lock()
	record := encode(t.rec)
	t.mu.Unlock()
	return t.m.space.Update(ctx, db.OS, func(tx *db.Tx) error {
		if !t.retired.Load() {
			tx.Set(t.key, record)
		}
		return nil
	})
}

// append takes in events that are safe now.
func (t *topic) append(entries []*entry, h head) {
	t.mu.Lock()
	last := entries[len(entries)-1].seq
	t.rec.Reached, t.rec.ReachedBytes, t.rec.Wall = last, h.bytes, h.wall
	full := int64(h.bytes-t.rec.RemovedBytes) > t.rec.RetentionBytes
	if t.users > 0 {
		t.tail.add(entries)
	}
	for _, g := range t.groups {
		nudge(g.wake)
	}
	t.mu.Unlock()
	t.m.note(t)
	if full {
		nudge(t.m.full)
	}
}

func (l *tail) add(entries []*entry) {
	l.entries = append(l.entries, entries...)
	for _, e := range entries {
		l.bytes += e.size
	}
	if len(l.entries) <= maxTail && l.bytes <= maxTailBytes {
		return
	}
	n := 0 // an eighth, so that this is not done for each event
	for ; n < len(l.entries)-1 && (len(l.entries)-n > maxTail/8*7 || l.bytes > maxTailBytes/8*7); n++ {
		l.before = l.entries[n].seq
		l.bytes -= l.entries[n].size
	}
	l.entries = append(make([]*entry, 0, len(l.entries)), l.entries[n:]...) // readers have parts of the old one
}

// after is where in the tail the events after a sequence begin.
func (l *tail) after(seq uint64) int {
	return sort.Search(len(l.entries), func(i int) bool { return l.entries[i].seq > seq })
}

func (t *topic) use() {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.users++; t.users == 1 {
		t.tail = tail{before: t.rec.Reached}
	}
}

func (t *topic) leave() {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.users--; t.users == 0 {
		t.tail = tail{}
	}
}

// reached is the sequence of the newest event.
func (t *topic) reached() uint64 {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.rec.Reached
}

// maxRead is how many events are read at once, and maxReadBytes of how many bytes.
const (
	maxRead      = 512
	maxReadBytes = 1 << 20
)

// read answers events after a sequence, in order.
func (t *topic) read(after uint64) ([]*entry, error) {
	t.mu.Lock()
	if t.users > 0 && after >= t.tail.before {
		i := t.tail.after(after)
		some := t.tail.entries[i:min(i+maxRead, len(t.tail.entries)):min(i+maxRead, len(t.tail.entries))]
		t.mu.Unlock()
		return some, nil
	}
	t.mu.Unlock()
	v := t.m.space.View()
	defer v.Close()
	var some []*entry
	bytes := 0
	for key, record := range v.Scan(eventKey(t.id, after+1), db.After(number([]byte("e"), t.id))) {
		e, err := decodeEvent(key, record)
		if err != nil && len(some) > 0 {
			return some, nil // first those before it
		}
		if err != nil {
			return nil, err
		}
		some = append(some, newEntry(sequenceOf(key), e))
		if bytes += len(record); len(some) == maxRead || bytes >= maxReadBytes {
			break
		}
	}
	return some, v.Err()
}

// get reads the events of items, or finds that they are lost or cannot be read.
func (t *topic) get(items []*item) ([]found, error) {
	out := make([]found, len(items))
	t.mu.Lock()
	for i, it := range items {
		if at := t.tail.after(it.seq - 1); at < len(t.tail.entries) && t.tail.entries[at].seq == it.seq {
			out[i].entry = t.tail.entries[at]
		}
	}
	t.mu.Unlock()
	v := t.m.space.View()
	defer v.Close()
	for i, it := range items {
		if out[i].entry != nil {
			continue
		}
		key := eventKey(t.id, it.seq)
		record, ok, err := v.Get(key)
		if err != nil {
			return nil, err
		}
		if !ok {
			out[i].lost = true
			continue
		}
		e, err := decodeEvent(key, record)
		if err != nil {
			out[i].unreadable = err
			continue
		}
		out[i].entry = newEntry(it.seq, e)
	}
	return out, nil
}

// found is what there is of an item's event: one of these.
type found struct {
	entry      *entry
	lost       bool
	unreadable error
}
