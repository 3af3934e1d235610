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
	var c changes
	if !g.forgotten {
		c = g.changes()
	}
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
		c.sets = append(c.sets, set{g.key, encode(groupRecord{g.id, g.marks.low, g.t.m.space.Now()})})
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
