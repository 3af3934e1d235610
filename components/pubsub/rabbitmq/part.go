package rabbitmq

import (
	"container/heap"
	"hash/fnv"
	"time"

	"github.com/outrigger-mesh/outrigger/components/pubsub"
)

// parts is how many each group's share of a topic is divided into. It is stored, so it must not change.
const parts = 8

// partOf is where an event belongs.
func partOf(key string, offset int64) int {
	if key == "" {
		return int(offset % parts)
	}
	h := fnv.New32a()
	h.Write([]byte(key))
	return int(h.Sum32() % parts)
}

// progress is how far a part is, as it is kept: all before Low is settled, and of what comes then Done. Of others it is known how often they were
// tried, and until when they wait, in milliseconds since 1970.
type progress struct {
	Low      int64           `cbor:"1,keyasint"`
	Done     []int64         `cbor:"2,keyasint,omitempty"`
	Attempts map[int64]int   `cbor:"3,keyasint,omitempty"`
	Due      map[int64]int64 `cbor:"4,keyasint,omitempty"`
}

// part is one that this sidecar serves. The member's mutex guards it.
type part struct {
	number  int
	claim   *claim // of its token
	read    bool   // the stream that is read began before it; else what comes is not for it
	seen    int64  // the first offset that was not looked at
	done    map[int64]bool
	entries map[int64]*entry
	keys    map[string][]*entry // by their offsets; the first one holds up the others
	saved   progress            // what it began with
	given   int                 // entries that applications have
	leaving bool                // nothing more is given; once nothing is, neither, it goes to another
	dirty   bool
	kept    int64 // seen, when it was kept
}

// entry is an event that is not settled.
type entry struct {
	part    *part
	offset  int64
	event   pubsub.Event
	attempt int
	due     time.Time
	holder  *session // that has it; nil: none
	queued  bool     // it is in the heap
	dropped bool     // its part is this sidecar's no more
}

func newPart(number int, c *claim, p progress) *part {
	out := &part{number: number, claim: c, seen: p.Low, kept: p.Low, done: map[int64]bool{}, entries: map[int64]*entry{}, keys: map[string][]*entry{}, saved: p}
	for _, offset := range p.Done {
		out.done[offset] = true
	}
	return out
}

// progress is what is kept now.
func (p *part) progress() progress {
	p.kept = p.seen
	out := progress{Low: p.seen, Attempts: map[int64]int{}, Due: map[int64]int64{}}
	for offset, e := range p.entries {
		out.Low = min(out.Low, offset)
		if e.attempt > 0 {
			out.Attempts[offset] = e.attempt
		}
		if !e.due.IsZero() {
			out.Due[offset] = e.due.UnixMilli()
		}
	}
	for offset := range p.saved.Attempts { // of what was not read again yet
		if offset >= p.seen {
			out.Attempts[offset] = p.saved.Attempts[offset]
		}
	}
	for offset := range p.saved.Due {
		if offset >= p.seen {
			out.Due[offset] = p.saved.Due[offset]
		}
	}
	for offset := range p.done {
		if offset >= out.Low {
			out.Done = append(out.Done, offset)
		} else {
			delete(p.done, offset)
		}
	}
	return out
}

// add takes in an event that was read; nil if it is settled or known.
func (p *part) add(offset int64, event pubsub.Event) *entry {
	if offset < p.seen {
		return nil
	}
	p.seen = offset + 1
	if p.done[offset] {
		return nil
	}
	e := &entry{part: p, offset: offset, event: event, attempt: p.saved.Attempts[offset]}
	if ms := p.saved.Due[offset]; ms != 0 {
		e.due = time.UnixMilli(ms)
	}
	p.entries[offset] = e
	if key := event.OrderingKey; key != "" {
		p.keys[key] = append(p.keys[key], e)
	}
	p.dirty = true
	return e
}

// passEvery is after how many events of other parts it is worth keeping that they were passed.
const passEvery = 500

// pass notes an event of another part.
func (p *part) pass(offset int64) {
	if offset >= p.seen {
		p.seen = offset + 1
		p.dirty = p.dirty || p.seen-p.kept >= passEvery
	}
}

// first tells whether no other holds the entry up.
func (p *part) first(e *entry) bool {
	key := e.event.OrderingKey
	return key == "" || p.keys[key][0] == e
}

// remove settles an entry, and answers the one that was behind it.
func (p *part) remove(e *entry) (next *entry) {
	delete(p.entries, e.offset)
	p.done[e.offset] = true
	p.dirty = true
	key := e.event.OrderingKey
	if key == "" {
		return nil
	}
	rest := p.keys[key][1:]
	if len(rest) == 0 {
		delete(p.keys, key)
		return nil
	}
	p.keys[key] = rest
	return rest[0]
}

// ready are the entries that can be given: first those that come again, each by their offsets.
type ready []*entry

func (r ready) Len() int { return len(r) }
func (r ready) Less(i, j int) bool {
	if again := r[i].attempt > 0; again != (r[j].attempt > 0) {
		return again
	}
	return r[i].offset < r[j].offset
}
func (r ready) Swap(i, j int) { r[i], r[j] = r[j], r[i] }
func (r *ready) Push(x any)   { *r = append(*r, x.(*entry)) }
func (r *ready) Pop() any {
	old := *r
	e := old[len(old)-1]
	old[len(old)-1] = nil
	*r = old[:len(old)-1]
	return e
}

var _ heap.Interface = (*ready)(nil)
