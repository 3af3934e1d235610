package local

import (
	"context"

	"github.com/outrigger-mesh/outrigger/components/internal/store/db"
)

// move has the group begin with the first event of a time. What its members have is theirs no longer.
func (g *group) move(ctx context.Context, s *start) error {
	low, err := g.t.before(s.ReplayFrom)
	if err != nil {
		return err
	}
	g.keeping.Lock()
	defer g.keeping.Unlock()
	return g.t.m.space.Update(ctx, db.Durability(s.Settings.Durability), func(tx *db.Tx) error {
		forgetSettled(tx, g.id)
		tx.Set(g.key, encode(groupRecord{g.id, low, tx.Now()}))
		tx.Then(func() { g.begun(low) })
		return nil
	})
}

// begun forgets all but the place.
func (g *group) begun(low uint64) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.restart(g.id, low)
	g.epoch++
	g.broken = nil
	g.ahead, g.parked, g.again, g.later, g.fresh, g.aging, g.gone = nil, 0, heapOf{}, heapOf{}, nil, nil, nil
	g.lanes, g.retries = map[string]*lane{}, map[uint64]retryRecord{}
	for _, m := range g.members {
		m.flying, m.order = map[uint64]*item{}, nil
	}
	nudge(g.wake)
}

// before is the sequence that the first event of a time, or later, comes after. Events that cannot be read are passed over: a group
// that cannot go on because of one is moved so.
func (t *topic) before(wall int64) (uint64, error) {
	t.mu.Lock()
	low, high, reached := t.rec.Removed, t.rec.Reached, t.rec.Reached
	t.mu.Unlock()
	v := t.m.space.View()
	defer v.Close()
	for low < high {
		middle := low + (high-low)/2
		seq, h, err := t.firstAfter(v, middle)
		if err != nil {
			return 0, err
		}
		if seq == 0 || h.wall >= wall {
			high = middle
		} else {
			low = seq
		}
	}
	seq, _, err := t.firstAfter(v, low)
	if seq == 0 {
		return reached, err
	}
	return seq - 1, err
}

// firstAfter is the first event after a sequence that can be read; 0: there is none.
func (t *topic) firstAfter(v *db.View, seq uint64) (uint64, head, error) {
	for key, record := range v.Scan(eventKey(t.id, seq+1), db.After(number([]byte("e"), t.id))) {
		if h, err := headOf(key, record); err == nil {
			return sequenceOf(key), h, nil
		}
	}
	return 0, head{}, v.Err()
}
