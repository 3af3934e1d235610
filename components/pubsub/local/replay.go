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
		for _, prefix := range [][]byte{blocksOf(g.id), retriesOf(g.id)} {
			for key := range tx.Scan(prefix, db.After(prefix)) {
				tx.Delete(append([]byte(nil), key...))
			}
		}
		tx.Set(g.key, encode(groupRecord{g.id, low}))
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
	g.ahead, g.parked, g.again, g.later, g.fresh, g.aging, g.gone = nil, 0, heapOf{}, heapOf{}, nil, nil, nil
	g.lanes, g.retries = map[string]*lane{}, map[uint64]retryRecord{}
	for _, m := range g.members {
		m.flying, m.order = map[uint64]*item{}, nil
	}
	nudge(g.wake)
}

// before is the sequence that the first event of a time, or later, comes after.
func (t *topic) before(wall int64) (uint64, error) {
	t.mu.Lock()
	low, high := t.rec.Removed, t.rec.Reached
	t.mu.Unlock()
	v := t.m.space.View()
	defer v.Close()
	for low < high {
		middle := low + (high-low)/2
		later, err := t.laterThan(v, middle, wall)
		if err != nil {
			return 0, err
		}
		if later {
			high = middle
		} else {
			low = middle + 1
		}
	}
	return low, nil
}

// laterThan tells whether the event after a sequence, if there is one, is of the time or later.
func (t *topic) laterThan(v *db.View, seq uint64, wall int64) (bool, error) {
	for _, record := range v.Scan(eventKey(t.id, seq+1), db.After(number([]byte("e"), t.id))) {
		h, err := headOf(record)
		return h.wall >= wall, err
	}
	return true, v.Err()
}
