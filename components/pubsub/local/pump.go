package local

import (
	"errors"
	"hash/maphash"
	"time"

	"github.com/outrigger-mesh/outrigger/components"
	"github.com/outrigger-mesh/outrigger/components/internal/store/db"
)

// lookAgain is how long a timer is trusted, which stands still while the machine sleeps. The store's clock goes on.
const lookAgain = 5 * time.Second

// pump hands out the group's events as long as it has members.
func (g *group) pump() {
	timer := time.NewTimer(time.Hour)
	defer timer.Stop()
	for {
		next, missing, more := g.step()
		if next < 0 {
			return
		}
		var err error
		switch {
		case missing != nil:
			err = g.load(missing)
		case more:
			err = g.readOn()
		}
		if errors.Is(err, components.ErrDamaged) {
			g.breakOff(err)
			continue
		}
		if err != nil {
			g.t.m.log.Error("events could not be read; it is tried again", "err", err)
			next = g.t.m.space.Now().Add(time.Second)
		} else if missing != nil || more {
			continue
		}
		timer.Reset(time.Hour)
		if next > 0 {
			timer.Reset(min(max(next.Sub(g.t.m.space.Now()), 0), lookAgain))
		}
		select {
		case <-g.wake:
		case <-timer.C:
		}
	}
}

// step hands out what can be, and says what else there is to do: at the time next (0: never; negative: the group has no
// members), to load the events of these items, to read on.
func (g *group) step() (next db.Time, missing []*item, more bool) {
	reached := g.t.reached()
	g.mu.Lock()
	defer g.mu.Unlock()
	if len(g.members) == 0 {
		g.pumping = false
		return -1, nil, false
	}
	now := g.t.m.space.Now()
	g.expire(now)
	missing, more = g.handOut(now, reached)
	g.endBroken()
	if len(g.fresh)+len(g.aging)+len(g.gone) > 0 {
		g.t.m.note(g)
	}
	return g.next(), missing, more
}

// handOut delivers, what comes again first, until nobody has room for what is next.
func (g *group) handOut(now db.Time, reached uint64) (missing []*item, more bool) {
	for g.anyRoom() {
		if g.again.len() > 0 {
			it := g.again.peek()
			if it.lost {
				g.again.pop()
				g.finish(it)
				continue
			}
			if it.broken != nil {
				g.broken = it.broken
				return nil, false
			}
			if it.entry == nil {
				return g.withoutEvent(), false
			}
			m := g.whoTakes(it.entry)
			if m == nil {
				return nil, false
			}
			g.again.pop()
			m.give(it, now)
			continue
		}
		e := g.lookAt()
		if e == nil {
			return nil, len(g.ahead) == 0 && g.read < reached && g.broken == nil
		}
		m := g.whoTakes(e)
		if m == nil {
			return nil, false
		}
		g.passed(e.seq)
		it := g.itemOf(e.seq, e.event.OrderingKey)
		it.entry = e
		m.give(it, now)
	}
	return nil, false
}

// lookAt goes on to the next event that can be delivered now. Those that wait behind others, or for their time, it puts aside.
func (g *group) lookAt() *entry {
	for len(g.ahead) > 0 {
		e := g.ahead[0]
		key := e.event.OrderingKey
		switch {
		case g.marks.has(e.seq):
			g.passed(e.seq)
		case key != "" && g.lanes[key] != nil:
			if g.parked >= maxParked {
				return nil
			}
			g.passed(e.seq)
			l := g.lanes[key]
			l.parked = append(l.parked, e.seq)
			g.parked++
		case g.retries[e.seq].Due > 0:
			g.passed(e.seq)
			g.begin(g.itemOf(e.seq, key))
		default:
			return e
		}
	}
	return nil
}

// passed takes the first of those ahead. What is missing before it was removed, or was never there.
func (g *group) passed(seq uint64) {
	if seq > g.read+1 {
		g.skip(g.read+1, seq)
	}
	g.read = seq
	g.ahead = g.ahead[1:]
}

// skip settles all from from to below to, which are not there.
func (g *group) skip(from, to uint64) {
	g.marks.setUntil(from, to)
	for seq := range g.retries {
		if from <= seq && seq < to {
			delete(g.retries, seq)
			g.gone = append(g.gone, seq)
		}
	}
}

func (g *group) anyRoom() bool {
	for _, m := range g.members {
		if m.room.Messages > 0 {
			return true
		}
	}
	return false
}

// whoTakes finds a member that has room for an event; nil if there is none. Events without a key go to the members in turn. Those with
// one go to the same member while it has room, and nobody comes or goes: it may have in memory what the others need.
func (g *group) whoTakes(e *entry) *member {
	key, n := e.event.OrderingKey, len(g.members)
	at := g.turn + 1
	if key != "" {
		at = int(maphash.String(seed, key) % uint64(n))
	}
	for i := range n {
		turn := (at + i) % n
		if m := g.members[turn]; m.room.Messages > 0 && m.room.Bytes >= e.size {
			if key == "" {
				g.turn = turn
			}
			return m
		}
	}
	return nil
}

var seed = maphash.MakeSeed()

// withoutEvent are items to come again soon whose events are not in memory; the next one is among them.
func (g *group) withoutEvent() (missing []*item) {
	for _, r := range g.again.list {
		if r.item.entry == nil && !r.item.lost && r.item.broken == nil {
			if missing = append(missing, r.item); len(missing) == maxRead {
				break
			}
		}
	}
	return missing
}

// load reads the events of items.
func (g *group) load(missing []*item) error {
	all, err := g.t.get(missing)
	if err != nil {
		return err
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	for i, f := range all {
		missing[i].entry, missing[i].lost, missing[i].broken = f.entry, f.lost, f.unreadable
	}
	return nil
}

// readOn reads events that come next.
func (g *group) readOn() error {
	g.mu.Lock()
	after, epoch := g.read, g.epoch
	g.mu.Unlock()
	reached := g.t.reached() // before reading: what comes meanwhile is not taken for removed
	entries, err := g.t.read(after)
	if err != nil {
		return err
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.epoch != epoch {
		return nil
	}
	g.ahead = entries
	if len(entries) == 0 && reached > after { // retention has removed them
		g.skip(after+1, reached+1)
		g.read = reached
	}
	return nil
}

// breakOff is for an event that cannot be read. Nothing after it is delivered: what is skipped would be lost.
func (g *group) breakOff(err error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.broken = err
}

// endBroken ends the members' streams once there is nothing left that can be delivered, and nothing to be settled.
func (g *group) endBroken() {
	if g.broken == nil || g.later.len() > 0 || g.again.len() > 0 && g.again.peek().broken == nil {
		return
	}
	for _, m := range g.members {
		if len(m.flying) > 0 {
			return
		}
	}
	err := g.t.m.tell(away(g.t.String(), g.broken))
	for _, m := range g.members {
		m.end(err)
	}
}

// mend has what could not be read tried again: retention may have removed it.
func (g *group) mend() {
	g.broken = nil
	for _, r := range g.again.list {
		r.item.broken = nil
	}
}
