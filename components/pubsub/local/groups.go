package local

import (
	"context"
	"errors"

	"github.com/outrigger-mesh/outrigger/components/internal/store/db"
)

// join makes a member of the group that a session asks for, which it makes if it is new, and moves if the session asks for that. end
// ends the session.
func (m *machine) join(ctx context.Context, s *start, end context.CancelCauseFunc) (*member, error) {
	for {
		member, err := m.joinNow(ctx, s, end)
		if !errors.Is(err, errRetired) {
			return member, err
		}
	}
}

func (m *machine) joinNow(ctx context.Context, s *start, end context.CancelCauseFunc) (*member, error) {
	t, err := m.topic(ctx, address{s.Component, s.Namespace, s.Topic}, &s.Settings)
	if err != nil {
		return nil, err
	}
	t.join.Lock()
	defer t.join.Unlock()
	g := t.groupOf(s.Group)
	if g == nil {
		if g, err = t.readGroup(ctx, s); err != nil {
			return nil, m.tell(away(t.String()+", group "+s.Group, err))
		}
		t.mu.Lock()
		t.groups[s.Group] = g
		t.mu.Unlock()
	}
	if s.Replay {
		if err := g.move(ctx, s); err != nil {
			return nil, away("replay of group "+s.Group, err)
		}
	}
	return g.enter(s, end), nil
}

// groupOf is one that somebody has come for, or nil.
func (t *topic) groupOf(name string) *group {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.groups[name]
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
		if t.retired.Load() {
			return errRetired
		}
		r = groupRecord{ID: tx.NextID(), Low: t.assigned, Seen: tx.Now()}
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
