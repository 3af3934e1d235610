package parts

import (
	"maps"
	"slices"
	"time"
)

// IDs are the parts that it has.
func (g *Group) IDs() []int32 {
	g.mu.Lock()
	defer g.mu.Unlock()
	return slices.Sorted(maps.Keys(g.parts))
}

// Part is one that it has; nil: it has not.
func (g *Group) Part(id int32) *Part {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.parts[id]
}

// Moved is how often the group had been moved to a time when the part was taken over.
func (p *Part) Moved() int64 { return p.progress.Moved }

// Take takes a part over, and takes back what this member had of it before and has all the time. What it has settled meanwhile it knows best.
// Read has it read.
func (g *Group) Take(id int32, progress *Progress) *Part {
	g.mu.Lock()
	defer g.mu.Unlock()
	p := newPart(g, id, progress)
	p.dirty = true
	g.parts[id] = p
	for offset, t := range maps.Clone(progress.Open) {
		at := Place{id, offset}
		if t.Holder != g.member {
			continue
		}
		if it := g.away[at]; it != nil {
			delete(g.away, at)
			p.attach(it)
			continue
		}
		if s, ok := g.untold[at]; ok {
			p.tell(s)
			continue
		}
		t.Holder = ""
		progress.Open[offset] = t
	}
	maps.DeleteFunc(g.untold, func(at Place, _ Settled) bool { return at.Part == id })
	g.reorder()
	return p
}

// Read is told who reads the part.
func (p *Part) Read(by Reading) {
	p.g.mu.Lock()
	defer p.g.mu.Unlock()
	p.reading = by
}

// Offer has nothing be delivered of a part any more, so that another member may have it: its state, as it is kept after that, is that of all
// that this one knows, but for what Drop tells then.
func (p *Part) Offer() {
	p.g.mu.Lock()
	defer p.g.mu.Unlock()
	p.offered = true
}

// Offered tells whether it is.
func (p *Part) Offered() bool {
	p.g.mu.Lock()
	defer p.g.mu.Unlock()
	return p.offered
}

// Keep takes an offer back.
func (p *Part) Keep() {
	p.g.mu.Lock()
	defer p.g.mu.Unlock()
	p.offered = false
	clear(p.since)
	p.g.dispatch()
}

// Drop gives up a part, which another member may have. What is delivered here stays here, and what was settled since it was offered is to be
// told.
func (g *Group) Drop(p *Part) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.parts[p.id] != p {
		return
	}
	p.stop()
	delete(g.parts, p.id)
	for _, it := range p.items {
		g.held -= it.weight()
		it.part = nil
		if it.session != nil {
			it.away = true
			g.away[Place{p.id, it.offset}] = it
		}
	}
	for _, s := range p.since {
		g.tell(s)
	}
	g.reorder()
	g.resume()
}

// Void gives up a part, and has all that is delivered of it mean nothing any more.
func (g *Group) Void(p *Part) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.parts[p.id] == p {
		p.void()
		delete(g.parts, p.id)
		g.reorder()
		g.resume()
	}
}

// Lose is for a member that the group has gone on without: others may have all that it had. It goes on with another name.
func (g *Group) Lose(name string) {
	g.mu.Lock()
	defer g.mu.Unlock()
	for _, p := range g.parts {
		p.void()
	}
	for _, it := range g.away {
		it.away = false
	}
	clear(g.parts)
	clear(g.away)
	clear(g.untold)
	g.reorder()
	g.member, g.lease = name, time.Time{}
}

// Return gives back what it has of parts that others have.
func (g *Group) Return() {
	g.mu.Lock()
	defer g.mu.Unlock()
	for at, it := range g.away {
		it.away = false
		g.tell(Settled{Member: g.member, Part: at.Part, Offset: at.Offset, Again: true, Attempts: it.attempts})
	}
	clear(g.away)
}

// Tell applies what another member says of a delivery, if it is of a part that is here.
func (g *Group) Tell(s Settled) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if p := g.parts[s.Part]; p != nil {
		p.tell(s)
	}
}

// Release frees what members had that are not in the group any more; those that are, other than this one, are true.
func (g *Group) Release(members map[string]bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	for _, p := range g.parts {
		p.release(members)
	}
}

// Dispatch delivers what can be.
func (g *Group) Dispatch() {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.dispatch()
}

// Change is what is to be kept of a part.
type Change struct {
	Part  *Part
	State *Progress
}

// Changes are those that have not been answered yet, and are taken for kept from now on. Sure: no other member can have what is offered.
func (g *Group) Changes(sure bool) (all []Change) {
	g.mu.Lock()
	defer g.mu.Unlock()
	for _, p := range g.order {
		if p.dirty {
			p.dirty = false
			all = append(all, Change{p, p.state()})
		}
		if p.offered && sure {
			clear(p.since)
		}
	}
	return all
}

// Change is what is to be kept of the part whether it has changed or not.
func (p *Part) Change() Change {
	p.g.mu.Lock()
	defer p.g.mu.Unlock()
	p.dirty = false
	return Change{p, p.state()}
}

// Again says that changes could not be kept.
func (g *Group) Again(all ...Change) {
	g.mu.Lock()
	defer g.mu.Unlock()
	for _, c := range all {
		c.Part.dirty = true
	}
}

// Confirm forgets what the owner of a part has kept of what it was told, and answers whether anything was forgotten.
func (g *Group) Confirm(id int32, kept *Progress) (some bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.parts[id] != nil {
		return false
	}
	for at, s := range g.untold {
		if at.Part != id {
			continue
		}
		if t, open := kept.Open[at.Offset]; !open || t.Holder != s.Member || at.Offset < kept.Offset {
			delete(g.untold, at)
			some = true
		}
	}
	return some
}
