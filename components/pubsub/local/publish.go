package local

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/outrigger-mesh/outrigger/components"
	"github.com/outrigger-mesh/outrigger/components/internal/store/db"
)

// row is one event on its way into the store.
type row struct {
	t           *topic
	entry       *entry
	record      []byte
	key         string // of idempotency
	fingerprint []byte
}

func (m *machine) publish(ctx context.Context, in publishIn) (publishOut, error) {
	for {
		out, err := m.publishNow(ctx, in)
		if !errors.Is(err, errRetired) {
			return out, err
		}
	}
}

func (m *machine) publishNow(ctx context.Context, in publishIn) (publishOut, error) {
	rows := make([]row, len(in.Events))
	for i := range in.Events {
		p := &in.Events[i]
		var t *topic
		if i > 0 && p.Topic == in.Events[i-1].Topic && p.Namespace == in.Events[i-1].Namespace {
			t = rows[i-1].t
		} else {
			var err error
			if t, err = m.topic(ctx, address{in.Component, p.Namespace, p.Topic}, &in.Settings); err != nil {
				return publishOut{}, err
			}
		}
		if p.Event == nil {
			return publishOut{}, fmt.Errorf("%w: a publication without an event", components.ErrInvalid)
		}
		record, err := encodeEvent(p.Event)
		if err != nil {
			return publishOut{}, err
		}
		rows[i] = row{t, newEntry(0, p.Event), record, p.Key, p.Fingerprint}
	}
	results := make([]published, len(rows))
	err := m.space.Update(ctx, db.Durability(in.Settings.Durability), func(tx *db.Tx) error {
		return storeAll(tx, rows, results, in.Settings.Idempotency)
	})
	if err != nil {
		return publishOut{}, away("publish", err)
	}
	for i := range results {
		if err := results[i].unreadable; err != nil {
			_ = m.tell(away(rows[i].t.String(), err)) // the result says it, too
		}
	}
	return publishOut{results}, nil
}

// batch are events of one topic that one update stores one after the other.
type batch struct {
	t       *topic
	entries []*entry
	head    head // of the last
}

type laneOf struct {
	t   *topic
	key string
}

func storeAll(tx *db.Tx, rows []row, results []published, idempotency time.Duration) error {
	for i := range rows {
		if rows[i].t.retired.Load() {
			return errRetired // before anything of the others is assigned
		}
	}
	var stored []*batch // of few topics, mostly of one
	var failed map[laneOf]bool
	now := tx.Now()
	wall := rows[0].t.m.space.Wall().UnixNano()
	for i := range rows {
		r := &rows[i]
		lane := laneOf{r.t, r.entry.event.OrderingKey}
		if lane.key != "" && failed[lane] {
			results[i].Fault = faultSkipped
			continue
		}
		repeated, err := r.repeated(tx, now, now.Add(idempotency), &results[i])
		if err != nil {
			return err
		}
		if results[i].Fault != 0 {
			if failed == nil {
				failed = map[laneOf]bool{}
			}
			failed[lane] = true
		}
		if repeated {
			continue
		}
		results[i].ID = r.entry.event.ID
		if len(stored) == 0 || stored[len(stored)-1].t != r.t {
			n := 1 // as many as may follow
			for i+n < len(rows) && rows[i+n].t == r.t {
				n++
			}
			stored = append(stored, &batch{t: r.t, entries: make([]*entry, 0, n)})
		}
		stored[len(stored)-1].add(tx, r, now, wall)
	}
	tx.Then(func() {
		for _, b := range stored {
			b.t.append(b.entries, b.head)
		}
	})
	return nil
}

func (b *batch) add(tx *db.Tx, r *row, now db.Time, wall int64) {
	t := r.t
	t.assigned++
	t.wall = max(t.wall, wall) // a clock that was set back does not mix up what replay goes by
	t.bytes += uint64(len(r.record))
	b.head = head{now, t.wall, t.bytes}
	b.head.stamp(r.record)
	r.entry.seq = t.assigned
	tx.Set(eventKey(t.id, t.assigned), r.record)
	b.entries = append(b.entries, r.entry)
}

// repeated tells whether the event is not to be stored: its idempotency key was used. If it was not, it is now.
func (r *row) repeated(tx *db.Tx, now, expires db.Time, result *published) (bool, error) {
	if r.key == "" {
		return false, nil
	}
	key := repeatKey(r.t.id, r.key)
	record, ok, err := tx.Get(key)
	if err != nil {
		return false, err
	}
	if ok {
		var first repeatRecord
		if err := decode(key, record, &first); err != nil {
			result.Fault, result.unreadable = faultDamaged, err
			return true, nil
		}
		if first.Expires > now {
			if !bytes.Equal(first.Fingerprint, r.fingerprint) {
				result.Fault = faultReused
			} else {
				result.ID = first.ID
			}
			return true, nil
		}
		tx.Delete(expiryKey(first.Expires, key))
	}
	tx.Set(key, encode(repeatRecord{r.fingerprint, r.entry.event.ID, expires}))
	tx.Set(expiryKey(expires, key), nil)
	return false, nil
}
