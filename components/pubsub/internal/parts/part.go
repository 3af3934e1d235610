package parts

import (
	"time"

	"github.com/outrigger-mesh/outrigger/components/pubsub"
)

// Part is one that this sidecar has. The group's lock guards it.
type Part struct {
	g        *Group
	id       int32
	progress *Progress // as it was taken over; of Open, what has not been read in the part since
	low      int64     // all before it is settled
	next     int64     // to be read
	items    map[int64]*item
	lanes    map[string]*lane  // of ordering keys with an unsettled event
	ready    heapOf[*item]     // by offset
	dirty    bool              // differs from what is kept
	offered  bool              // nothing is delivered: another member may have it by now
	since    map[int64]Settled // that became of events since it was offered
	reading  Reading
}

// item is an event that is not settled.
type item struct {
	part     *Part // nil: what becomes of it means nothing any more
	away     bool  // another member has the part by now
	offset   int64
	id       int32 // of the part
	event    pubsub.Event
	size     int64
	attempts int
	due      int64
	holder   string // another member that has it, or empty

	session *Session // where it is delivered
}

// lane are the events with one ordering key that wait for the one before them.
type lane struct{ parked []*item }

func newPart(g *Group, id int32, p *Progress) *Part {
	return &Part{g: g, id: id, progress: p, low: p.Offset, next: p.Offset, items: map[int64]*item{}, lanes: map[string]*lane{},
		ready: heapOf[*item]{less: func(a, b *item) bool { return a.offset < b.offset }}, since: map[int64]Settled{}}
}

// ID is the part's number.
func (p *Part) ID() int32 { return p.id }

// Next is the offset that is to be read next.
func (p *Part) Next() int64 {
	p.g.mu.Lock()
	defer p.g.mu.Unlock()
	return p.next
}

// Skip goes on to an offset: what lies between is not there any more.
func (p *Part) Skip(to int64) {
	p.g.mu.Lock()
	defer p.g.mu.Unlock()
	p.skip(to)
}

// Rewind has the part read from an offset that has been read, of a log that has become shorter.
func (p *Part) Rewind(to int64) {
	p.g.mu.Lock()
	defer p.g.mu.Unlock()
	p.next = to
}

// maxOpen bounds the events of a part that are not settled and were read.
const maxOpen = 64 << 10

// Arrive takes in events that were read, in the order of their offsets, and has the part paused if that is much.
func (p *Part) Arrive(offsets []int64, events []pubsub.Event) {
	g := p.g
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.parts[p.id] != p {
		return
	}
	for i := range offsets {
		p.arrive(offsets[i], events[i])
	}
	g.dispatch()
	if g.held > g.ahead || len(p.items) > maxOpen {
		p.reading.Pause(true)
	}
}

// arrive takes in the event at an offset. What was not there before it is settled: retention, or compaction, has it.
func (p *Part) arrive(offset int64, e pubsub.Event) {
	if offset < p.next {
		return
	}
	p.skip(offset)
	p.next = offset + 1
	t, open := p.progress.Open[offset]
	delete(p.progress.Open, offset)
	if p.items[offset] != nil { // a stream here has it
		return
	}
	if !open && offset < p.progress.Known {
		p.advance()
		return
	}
	it := &item{part: p, id: p.id, offset: offset, event: e, size: e.Size(), attempts: t.Attempts, due: t.Due, holder: t.Holder}
	p.enter(it)
	if key := e.OrderingKey; key != "" {
		if l := p.lanes[key]; l != nil {
			l.parked = append(l.parked, it)
			return
		}
		p.lanes[key] = &lane{}
	}
	p.begin(it)
}

// weight is what an item takes of memory, about.
func (it *item) weight() int64 { return it.size + 512 }

func (p *Part) enter(it *item) {
	p.items[it.offset] = it
	p.g.held += it.weight()
	p.dirty = true
}

func (p *Part) skip(to int64) {
	if to <= p.next {
		return
	}
	for offset := range p.progress.Open {
		if offset < to {
			delete(p.progress.Open, offset)
		}
	}
	p.next = to
	p.advance()
}

// advance moves low over what is settled.
func (p *Part) advance() {
	for p.low < p.next && p.items[p.low] == nil {
		p.low++
		p.dirty = true
	}
}

// begin has an item delivered: now, when it is due, or when the member that has it does not.
func (p *Part) begin(it *item) {
	switch {
	case it.holder != "":
	case it.due > time.Now().UnixMilli():
		p.g.later.push(it)
		p.g.setTimer()
	default:
		p.ready.push(it)
	}
}

// finish ends an item for the group, and frees those with its key.
func (p *Part) finish(it *item) {
	delete(p.items, it.offset)
	p.g.held -= it.weight()
	p.dirty = true
	p.advance()
	key := it.event.OrderingKey
	l := p.lanes[key]
	switch {
	case l == nil:
	case len(l.parked) == 0:
		delete(p.lanes, key)
	default:
		next := l.parked[0]
		l.parked = l.parked[1:]
		p.begin(next)
	}
	p.g.resume()
}

// tell applies what another member says of a delivery.
func (p *Part) tell(s Settled) {
	if it := p.items[s.Offset]; it != nil && it.holder == s.Member {
		it.holder = ""
		if !s.Again {
			p.finish(it)
			return
		}
		it.attempts, it.due, p.dirty = s.Attempts, s.Due, true
		p.begin(it)
		return
	}
	if t, ok := p.progress.Open[s.Offset]; ok && t.Holder == s.Member {
		p.dirty = true
		if !s.Again {
			delete(p.progress.Open, s.Offset)
			return
		}
		p.progress.Open[s.Offset] = Try{Attempts: s.Attempts, Due: s.Due}
	}
}

// release frees what members had that are not in the group any more.
func (p *Part) release(members map[string]bool) {
	for _, it := range p.items {
		if it.holder != "" && !members[it.holder] {
			it.holder, p.dirty = "", true
			p.begin(it)
		}
	}
	for offset, t := range p.progress.Open {
		if t.Holder != "" && !members[t.Holder] {
			t.Holder, p.dirty = "", true
			p.progress.Open[offset] = t
		}
	}
}

// attach takes back what this member has had all the time.
func (p *Part) attach(it *item) {
	delete(p.progress.Open, it.offset)
	it.part, it.away = p, false
	p.enter(it)
	if key := it.event.OrderingKey; key != "" {
		p.lanes[key] = &lane{}
	}
}

// void has all that is delivered of a part mean nothing any more.
func (p *Part) void() {
	p.stop()
	for _, it := range p.items {
		p.g.held -= it.weight()
		it.part = nil
	}
}

func (p *Part) stop() {
	if p.reading != nil {
		p.reading.Stop()
	}
}

// state is what is to be kept.
func (p *Part) state() *Progress {
	s := &Progress{Count: p.progress.Count, Moved: p.progress.Moved, Offset: p.low, Known: max(p.next, p.progress.Known), Open: make(map[int64]Try, len(p.items))}
	for offset, t := range p.progress.Open {
		s.Open[offset] = t
	}
	for offset, it := range p.items {
		t := Try{Attempts: it.attempts, Due: it.due, Holder: it.holder}
		if it.session != nil {
			t.Holder = p.g.member
		}
		s.Open[offset] = t
	}
	return s
}
