package local

import (
	"context"

	"github.com/outrigger-mesh/outrigger/components/internal/store/db"
)

// keep writes what has changed since the last time: the marks, and the attempts of what has been unsettled for longer than a
// moment.
func (g *group) keep(ctx context.Context) error {
	g.keeping.Lock()
	defer g.keeping.Unlock()
	g.mu.Lock()
	c := g.changes()
	durability := g.durability
	g.mu.Unlock()
	if len(c.sets)+len(c.deletes) == 0 {
		return nil
	}
	err := g.t.m.space.Update(ctx, durability, func(tx *db.Tx) error {
		for _, s := range c.sets {
			tx.Set(s.key, s.value)
		}
		for _, key := range c.deletes {
			tx.Delete(key)
		}
		return nil
	})
	if err != nil {
		g.mu.Lock()
		defer g.mu.Unlock()
		g.unkept(c)
	}
	return err
}

// changes are what one update of a group writes.
type changes struct {
	sets    []set
	deletes [][]byte
	low     uint64 // that was kept before
	blocks  map[uint64]bool
	items   []*item
	gone    []uint64
}

type set struct{ key, value []byte }

func (g *group) changes() (c changes) {
	c.low, c.blocks, c.items, c.gone = g.lowKept, g.marks.dirty, g.aging, g.gone
	if g.marks.low != g.lowKept {
		c.sets = append(c.sets, set{g.key, encode(groupRecord{g.id, g.marks.low})})
		g.lowKept = g.marks.low
	}
	for n := range c.blocks {
		if b := g.marks.blocks[n]; b != nil {
			c.sets = append(c.sets, set{blockKey(g.id, n), b.encode()})
			g.marks.kept[n] = true
		} else {
			c.deletes = append(c.deletes, blockKey(g.id, n))
			delete(g.marks.kept, n)
		}
	}
	g.marks.dirty = map[uint64]bool{}
	for _, it := range c.items {
		if !it.settled && (it.attempts > 0 || it.kept) {
			c.sets = append(c.sets, set{retryKey(g.id, it.seq), encode(retryRecord{it.attempts, it.due})})
			it.kept = true
		}
	}
	for _, seq := range c.gone {
		c.deletes = append(c.deletes, retryKey(g.id, seq))
	}
	g.aging, g.fresh, g.gone = g.fresh, nil, nil
	if len(g.aging) > 0 {
		g.t.m.note(g)
	}
	return c
}

// unkept has changes that could not be written join the next ones.
func (g *group) unkept(c changes) {
	g.lowKept = c.low
	for n := range c.blocks {
		g.marks.dirty[n] = true
		g.marks.kept[n] = true
	}
	g.aging = append(g.aging, c.items...)
	g.gone = append(g.gone, c.gone...)
}

// group finds or makes the group that a session asks for, and moves it if it asks for that.
func (m *machine) group(ctx context.Context, s *start) (*group, error) {
	t, err := m.topic(ctx, address{s.Component, s.Namespace, s.Topic}, &s.Settings)
	if err != nil {
		return nil, err
	}
	t.join.Lock()
	defer t.join.Unlock()
	t.mu.Lock()
	g := t.groups[s.Group]
	t.mu.Unlock()
	if g == nil {
		if g, err = t.readGroup(ctx, s); err != nil {
			return nil, m.tell(away(t.String()+", group "+s.Group, err))
		}
		t.mu.Lock()
		t.groups[s.Group] = g
		t.mu.Unlock()
	}
	if s.Replay {
		err = g.move(ctx, s)
	}
	return g, away("replay of group "+s.Group, err)
}

func (t *topic) readGroup(ctx context.Context, s *start) (*group, error) {
	g := &group{t: t, key: groupKey(t.id, s.Group), wake: make(chan struct{}, 1), lanes: map[string]*lane{}, retries: map[uint64]retryRecord{},
		durability: db.Durability(s.Settings.Durability)}
	v := t.m.space.View()
	defer v.Close()
	record, ok, err := v.Get(g.key)
	switch {
	case err != nil:
		return nil, err
	case !ok:
		return g, g.create(ctx, s.Earliest)
	}
	var r groupRecord
	if err := decode(g.key, record, &r); err != nil {
		return nil, err
	}
	g.restart(r.ID, r.Low)
	return g, g.recover(v)
}

// create makes the record of a new group. What was stored before is not for it, unless it is to have everything.
func (g *group) create(ctx context.Context, earliest bool) error {
	t := g.t
	t.mu.Lock()
	removed := t.rec.Removed
	t.mu.Unlock()
	var r groupRecord
	err := t.m.space.Update(ctx, g.durability, func(tx *db.Tx) error {
		r = groupRecord{ID: tx.NextID(), Low: t.assigned}
		if earliest {
			r.Low = removed
		}
		tx.Set(g.key, encode(r))
		return nil
	})
	if err == nil {
		g.restart(r.ID, r.Low)
	}
	return err
}

// restart has all up to low settled, and nothing else.
func (g *group) restart(id, low uint64) {
	g.id, g.lowKept, g.read, g.marks = id, low, low, newMarks(low)
}

// recover reads what is settled above low, and what was tried.
func (g *group) recover(v *db.View) error {
	prefix := blocksOf(g.id)
	for key, record := range v.Scan(prefix, db.After(prefix)) {
		b, err := decodeBlock(key, record)
		if err != nil {
			return err
		}
		n := sequenceOf(key)
		g.marks.blocks[n], g.marks.kept[n] = b, true
	}
	prefix = retriesOf(g.id)
	for key, record := range v.Scan(prefix, db.After(prefix)) {
		var r retryRecord
		if err := decode(key, record, &r); err != nil {
			return err
		}
		if seq := sequenceOf(key); g.marks.has(seq) {
			g.gone = append(g.gone, seq)
		} else {
			g.retries[seq] = r
		}
	}
	return v.Err()
}
