package local

import (
	"context"
	"sync"
	"time"

	"github.com/outrigger-mesh/outrigger/components/internal/store/db"
	"github.com/outrigger-mesh/outrigger/components/pubsub"
)

// group is what the subscribers of a topic that share it have yet to settle.
type group struct {
	t       *topic
	id      uint64
	key     []byte
	wake    chan struct{} // of pump
	keeping sync.Mutex    // held while what is on the disk is written; before mu

	mu         sync.Mutex
	durability db.Durability
	marks      marks
	lowKept    uint64
	read       uint64                 // all up to it were looked at
	ahead      []*entry               // were read, and not looked at
	epoch      int                    // changes when the group is moved
	retries    map[uint64]retryRecord // of events that were not looked at
	lanes      map[string]*lane       // of ordering keys with an unsettled event
	parked     int
	again      heapOf // to be delivered, by sequence
	later      heapOf // to be delivered when they are due
	members    []*member
	turn       int
	pumping    bool
	forgotten  bool
	broken     error // why what comes next cannot be read: when all before it is settled the members' streams end
	serial     uint64

	fresh, aging []*item  // unsettled ones that are not kept as they are; fresh ones wait for the next time
	gone         []uint64 // settled ones that are kept as unsettled
}

// lane are the events with one ordering key that wait for the one that is unsettled.
type lane struct{ parked []uint64 }

// maxParked bounds what is known of events that wait behind others.
const maxParked = 1 << 20

// item is an event that a group has begun with.
type item struct {
	seq      uint64
	key      string
	attempts int
	due      db.Time
	entry    *entry // nil: to be read
	kept     bool   // there is a record of it
	lost     bool   // retention has removed the event
	broken   error  // the event cannot be read
	settled  bool

	serial   uint64 // of the delivery under way; 0: none
	deadline db.Time
}

// member is a session.
type member struct {
	g        *group
	deadline time.Duration
	room     pubsub.Room
	flying   map[uint64]*item
	order    []due // deadlines, in order
	out      []message
	ready    chan struct{} // out has something
	received uint64        // later serials have not reached the session
	end      context.CancelCauseFunc
}

type due struct {
	item   *item
	serial uint64
	at     db.Time
}

// grace is how much longer the owner of the store waits for a settlement than the process of the subscriber does.
const grace = 2 * time.Second

// give delivers an item.
func (m *member) give(it *item, now db.Time) {
	g := m.g
	g.serial++
	it.attempts++
	it.serial, it.due = g.serial, 0
	m.flying[it.serial] = it
	m.expect(it, now)
	m.room.Messages--
	m.room.Bytes -= it.entry.size
	if it.key != "" && g.lanes[it.key] == nil {
		g.lanes[it.key] = &lane{}
	}
	g.fresh = append(g.fresh, it)
	m.out = append(m.out, message{it.serial, it.attempts, it.entry.event})
	nudge(m.ready)
}

func (m *member) expect(it *item, now db.Time) {
	it.deadline = now.Add(m.deadline + grace)
	m.order = append(m.order, due{it, it.serial, it.deadline})
}

// settle takes what became of a delivery. One that is over means nothing.
func (m *member) settle(s settled, now db.Time) {
	g := m.g
	it := m.flying[s.Serial]
	if it == nil {
		return
	}
	switch s.Outcome {
	case pubsub.Extended:
		m.expect(it, now)
		return
	case pubsub.Done:
		delete(m.flying, s.Serial)
		g.finish(it)
		return
	case pubsub.Returned:
		it.attempts--
	}
	m.back(it, now, s.Delay)
}

// back has an item delivered again.
func (m *member) back(it *item, now db.Time, delay time.Duration) {
	delete(m.flying, it.serial)
	it.serial = 0
	m.g.aging = append(m.g.aging, it)
	if delay <= 0 {
		m.g.again.push(it.seq, it)
		return
	}
	it.due = now.Add(delay)
	it.entry = nil // there may be many, and long
	m.g.later.push(uint64(it.due), it)
}

// finish ends an item for the group, and frees those with its key.
func (g *group) finish(it *item) {
	it.settled, it.entry = true, nil
	g.marks.set(it.seq)
	if it.kept {
		g.gone = append(g.gone, it.seq)
	}
	if it.key == "" {
		return
	}
	l := g.lanes[it.key]
	if l == nil || len(l.parked) == 0 {
		delete(g.lanes, it.key)
		return
	}
	next := l.parked[0]
	l.parked = l.parked[1:]
	g.parked--
	g.begin(g.itemOf(next, it.key))
}

// itemOf makes the item of an event, with what is known of earlier deliveries.
func (g *group) itemOf(seq uint64, key string) *item {
	it := &item{seq: seq, key: key}
	if r, ok := g.retries[seq]; ok {
		it.attempts, it.due, it.kept = r.Attempts, r.Due, true
		delete(g.retries, seq)
	}
	return it
}

// begin has an item delivered, now or when it is due. Until it is settled it holds up its key.
func (g *group) begin(it *item) {
	if it.key != "" && g.lanes[it.key] == nil {
		g.lanes[it.key] = &lane{}
	}
	if it.due > 0 {
		g.later.push(uint64(it.due), it)
		return
	}
	g.again.push(it.seq, it)
}

// expire gives back what members have had for too long, and brings what is due.
func (g *group) expire(now db.Time) {
	for _, m := range g.members {
		n := 0
		for ; n < len(m.order); n++ {
			d := m.order[n]
			if d.item.serial != d.serial || d.item.settled || d.item.deadline != d.at { // over, or extended
				continue
			}
			if d.at > now {
				break
			}
			m.back(d.item, now, 0)
		}
		m.order = m.order[n:]
	}
	for g.later.len() > 0 && db.Time(g.later.least()) <= now {
		it := g.later.pop()
		it.due = 0
		g.again.push(it.seq, it)
	}
}

// next is when expire has something to do; 0: never.
func (g *group) next() (at db.Time) {
	if g.later.len() > 0 {
		at = db.Time(g.later.least())
	}
	for _, m := range g.members {
		if len(m.order) > 0 && (at == 0 || m.order[0].at < at) {
			at = m.order[0].at
		}
	}
	return at
}
