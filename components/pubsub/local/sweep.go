package local

import (
	"context"
	"time"

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

// sweep removes the events that are not retained any more, and idempotency keys whose time is over.
func (m *machine) sweep(ctx context.Context) error {
	keys, err := m.topicKeys()
	if err != nil {
		return err
	}
	for _, key := range keys {
		t, err := m.known(ctx, key)
		if err != nil {
			return err
		}
		for more := true; more && err == nil; {
			if more, err = t.sweep(ctx); err != nil {
				return err
			}
		}
	}
	for more := true; more; {
		if more, err = m.sweepRepeats(ctx); err != nil {
			return err
		}
	}
	return nil
}

func (m *machine) topicKeys() (keys [][]byte, err error) {
	v := m.space.View()
	defer v.Close()
	for key := range v.Scan([]byte("n"), []byte("o")) {
		keys = append(keys, append([]byte(nil), key...))
	}
	return keys, v.Err()
}

// known is a topic of which there is a record.
func (m *machine) known(ctx context.Context, key []byte) (*topic, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if t := m.topics[string(key)]; t != nil {
		return t, nil
	}
	t, err := m.readTopic(ctx, key, settings{})
	if err == nil {
		m.topics[string(key)] = t
	}
	return t, err
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

// past finds the oldest events that are not to be retained, and says in the record that they are gone.
func (t *topic) past(rec *topicRecord) (keys [][]byte, err error) {
	now := t.m.space.Now()
	v := t.m.space.View()
	defer v.Close()
	for key, record := range v.Scan(eventKey(t.id, rec.Removed+1), db.After(number([]byte("e"), t.id))) {
		h, err := headOf(record)
		if err != nil {
			return nil, err
		}
		tooMuch := int64(rec.ReachedBytes-rec.RemovedBytes) > rec.RetentionBytes
		if !tooMuch && h.at.Add(rec.Retention) > now || len(keys) == maxSweep {
			break
		}
		rec.Removed, rec.RemovedBytes = sequenceOf(key), h.bytes
		keys = append(keys, append([]byte(nil), key...))
	}
	return keys, v.Err()
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
	if err := decode(record, &r); err != nil {
		return err
	}
	if r.Expires <= at {
		tx.Delete(key)
	}
	return nil
}
