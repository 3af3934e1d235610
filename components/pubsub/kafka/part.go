package kafka

import (
	"container/heap"
	"time"

	"github.com/outrigger-mesh/outrigger/components/pubsub"
)

// part is a partition that this member of the group has. The group's lock guards it.
type part struct {
	g        *group
	id       int32
	progress *progress // as it was read; of open, what has not been read in the partition since
	low      int64     // all before it is settled
	next     int64     // to be read
	items    map[int64]*item
	lanes    map[string]*lane  // of ordering keys with an unsettled event
	ready    heapOf[*item]     // by offset
	dirty    bool              // differs from what is committed
	asked    bool              // another member is to have it
	offered  bool              // nothing is delivered: another member may have it by now
	since    map[int64]settled // that became of events since it was offered

	reading *reading
}

// item is an event that is not settled.
type item struct {
	part     *part // nil: what becomes of it means nothing any more
	away     bool  // another member has the partition by now
	offset   int64
	id       int32 // of the partition
	event    pubsub.Event
	size     int64
	attempts int
	due      int64
	holder   string // another member that has it, or empty

	session *session // where it is delivered
}

// lane are the events with one ordering key that wait for the one before them.
type lane struct{ parked []*item }

func newPart(g *group, id int32, p *progress) *part {
	return &part{g: g, id: id, progress: p, low: p.offset, next: p.offset, items: map[int64]*item{}, lanes: map[string]*lane{},
		ready: heapOf[*item]{less: func(a, b *item) bool { return a.offset < b.offset }}, since: map[int64]settled{}}
}

// arrive takes in the event at an offset. What was not there before it is settled: retention, or the partition's compaction, has it.
func (p *part) arrive(offset int64, e pubsub.Event) {
	if offset < p.next {
		return
	}
	p.skip(offset)
	p.next = offset + 1
	t, open := p.progress.open[offset]
	delete(p.progress.open, offset)
	if p.items[offset] != nil { // a stream here has it
		return
	}
	if !open && offset < p.progress.known {
		p.advance()
		return
	}
	it := &item{part: p, id: p.id, offset: offset, event: e, size: e.Size(), attempts: t.attempts, due: t.due, holder: t.holder}
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

func (p *part) enter(it *item) {
	p.items[it.offset] = it
	p.g.held += it.weight()
	p.dirty = true
}

// skip goes on to an offset. What lies between is not there.
func (p *part) skip(to int64) {
	if to <= p.next {
		return
	}
	for offset := range p.progress.open {
		if offset < to {
			delete(p.progress.open, offset)
		}
	}
	p.next = to
	p.advance()
}

// advance moves low over what is settled.
func (p *part) advance() {
	for p.low < p.next && p.items[p.low] == nil {
		p.low++
		p.dirty = true
	}
}

// begin has an item delivered: now, when it is due, or when the member that has it does not.
func (p *part) begin(it *item) {
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
func (p *part) finish(it *item) {
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
}

// tell applies what another member says of a delivery.
func (p *part) tell(s settled) {
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
	if t, ok := p.progress.open[s.Offset]; ok && t.holder == s.Member {
		p.dirty = true
		if !s.Again {
			delete(p.progress.open, s.Offset)
			return
		}
		p.progress.open[s.Offset] = try{attempts: s.Attempts, due: s.Due}
	}
}

// release frees what members had that are not in the group any more.
func (p *part) release(members map[string]bool) {
	for _, it := range p.items {
		if it.holder != "" && !members[it.holder] {
			it.holder, p.dirty = "", true
			p.begin(it)
		}
	}
	for offset, t := range p.progress.open {
		if t.holder != "" && !members[t.holder] {
			t.holder, p.dirty = "", true
			p.progress.open[offset] = t
		}
	}
}

// attach takes back what this member has had all the time.
func (p *part) attach(it *item) {
	delete(p.progress.open, it.offset)
	it.part, it.away = p, false
	p.enter(it)
	if key := it.event.OrderingKey; key != "" {
		p.lanes[key] = &lane{}
	}
}

// state is what is to be committed.
func (p *part) state() *progress {
	s := &progress{count: p.progress.count, moved: p.progress.moved, offset: p.low, known: max(p.next, p.progress.known), open: make(map[int64]try, len(p.items))}
	for offset, t := range p.progress.open {
		s.open[offset] = t
	}
	for offset, it := range p.items {
		t := try{attempts: it.attempts, due: it.due, holder: it.holder}
		if it.session != nil {
			t.holder = p.g.member
		}
		s.open[offset] = t
	}
	return s
}

// heapOf is a heap by less.
type heapOf[T any] struct {
	list []T
	less func(a, b T) bool
}

func (h *heapOf[T]) Len() int           { return len(h.list) }
func (h *heapOf[T]) Less(i, j int) bool { return h.less(h.list[i], h.list[j]) }
func (h *heapOf[T]) Swap(i, j int)      { h.list[i], h.list[j] = h.list[j], h.list[i] }

// Push is for container/heap.
func (h *heapOf[T]) Push(x any) { h.list = append(h.list, x.(T)) }

// Pop is for container/heap.
func (h *heapOf[T]) Pop() any {
	last := len(h.list) - 1
	x := h.list[last]
	var none T
	h.list[last] = none
	h.list = h.list[:last]
	return x
}

func (h *heapOf[T]) push(x T) { heap.Push(h, x) }
func (h *heapOf[T]) pop() T   { return heap.Pop(h).(T) }
