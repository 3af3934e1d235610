package local

import (
	"cmp"
	"context"
	"errors"
	"time"

	"github.com/outrigger-mesh/outrigger/components"
	"github.com/outrigger-mesh/outrigger/components/internal/store/db"
)

const (
	sweepEvery = 10 * time.Second
	// maxSweep is how many records one update removes: others do not wait long for it.
	maxSweep = 1000
)

func (m *machine) sweepAlways() {
	tick := time.NewTicker(sweepEvery)
	defer tick.Stop()
	for {
		select {
		case <-m.ctx.Done():
			return
		case <-tick.C:
		case <-m.full:
		}
		if err := m.sweep(m.ctx); err != nil && m.ctx.Err() == nil {
			m.log.Error("what is past its time could not be removed; it is tried again", "err", err)
		}
	}
}

// sweep removes the events that are not retained any more, groups that nobody comes for, topics of which nothing is left, and
// idempotency keys whose time is over. What goes wrong with one topic leaves the others alone; the first of that is answered, but for
// what cannot be read, which was told.
func (m *machine) sweep(ctx context.Context) (first error) {
	keys, err := m.topicKeys()
	if err != nil {
		return err
	}
	groups := m.abandonNow()
	for _, a := range keys {
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if err := m.sweepTopic(ctx, a, groups); err != nil && !errors.Is(m.tell(err), components.ErrDamaged) && first == nil {
			first = err
		}
	}
	for more := true; more; {
		if more, err = m.sweepRepeats(ctx); err != nil {
			return cmp.Or(first, err)
		}
	}
	return first
}

func (m *machine) topicKeys() (all []address, err error) {
	v := m.space.View()
	defer v.Close()
	for key := range v.Scan([]byte("n"), []byte("o")) {
		if a, ok := addressOf(key); ok {
			all = append(all, a)
		}
	}
	return all, v.Err()
}

func (m *machine) sweepTopic(ctx context.Context, a address, groups bool) error {
	t, err := m.find(ctx, a, &settings{})
	if err != nil {
		return err
	}
	for more := true; more && err == nil; {
		more, err = t.sweep(ctx)
	}
	if err == nil && groups {
		err = t.abandon(ctx)
	}
	if err == nil && groups {
		err = m.retire(ctx, a)
	}
	return away(a.String(), err)
}

// sweep removes up to maxSweep events. more tells whether there may be others to remove.
func (t *topic) sweep(ctx context.Context) (more bool, err error) {
	t.mu.Lock()
	rec := t.rec
	t.mu.Unlock()
	removed, err := t.past(&rec)
	if err != nil || len(removed) == 0 {
		return false, err
	}
	err = t.m.space.Update(ctx, db.OS, func(tx *db.Tx) error {
		tx.MakesRoom()
		for _, key := range removed {
			tx.Delete(key)
		}
		tx.Set(t.key, encode(rec))
		tx.Then(func() {
			t.mu.Lock()
			defer t.mu.Unlock()
			t.rec.Removed, t.rec.RemovedBytes = rec.Removed, rec.RemovedBytes
		})
		return nil
	})
	return len(removed) == maxSweep, err
}

// past finds the oldest events that are not to be retained, and says in the record that they are gone. One that cannot be read goes
// with the next that can.
func (t *topic) past(rec *topicRecord) (keys [][]byte, err error) {
	now := t.m.space.Now()
	v := t.m.space.View()
	defer v.Close()
	n := 0 // of keys, are to go
	var unreadable error
	for key, record := range v.Scan(eventKey(t.id, rec.Removed+1), db.After(number([]byte("e"), t.id))) {
		if len(keys) == maxSweep {
			break
		}
		h, err := headOf(key, record)
		if err != nil {
			unreadable = err
			keys = append(keys, append([]byte(nil), key...))
			continue
		}
		tooMuch := int64(rec.ReachedBytes-rec.RemovedBytes) > rec.RetentionBytes
		if !tooMuch && h.at.Add(rec.Retention) > now {
			break
		}
		rec.Removed, rec.RemovedBytes = sequenceOf(key), h.bytes
		keys = append(keys, append([]byte(nil), key...))
		n = len(keys)
	}
	if n == 0 && len(keys) == maxSweep {
		return nil, unreadable
	}
	return keys[:n], v.Err()
}

func (m *machine) sweepRepeats(ctx context.Context) (more bool, err error) {
	var keys [][]byte
	v := m.space.View()
	for key := range v.Scan([]byte("x"), number([]byte("x"), uint64(m.space.Now()))) {
		if keys = append(keys, append([]byte(nil), key...)); len(keys) == maxSweep {
			break
		}
	}
	err = v.Err()
	v.Close()
	if err != nil || len(keys) == 0 {
		return false, err
	}
	err = m.space.Update(ctx, db.OS, func(tx *db.Tx) error {
		for _, key := range keys {
			tx.Delete(key)
			if err := forget(tx, key[9:], db.Time(sequenceOf(key[:9]))); err != nil {
				return err
			}
		}
		return nil
	})
	return len(keys) == maxSweep, err
}

// forget removes the record of an idempotency key, unless it was used again since.
func forget(tx *db.Tx, key []byte, at db.Time) error {
	record, ok, err := tx.Get(key)
	if err != nil || !ok {
		return err
	}
	var r repeatRecord
	if err := decode(key, record, &r); err != nil || r.Expires <= at { // what cannot be read is of no more use
		tx.Delete(key)
	}
	return nil
}
