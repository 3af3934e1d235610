package local

import (
	"context"
	"errors"

	"github.com/outrigger-mesh/outrigger/components/internal/store/db"
)

// errRetired is of an update for a topic whose record has been removed meanwhile: it is to be found, or made, again.
var errRetired = errors.New("the topic was retired")

// errUsed is of a topic that is not to be retired.
var errUsed = errors.New("the topic is in use")

// retire removes the record of a topic of which nothing else is left: no event, group or idempotency key. Who comes for it later
// makes it anew, with another id. Who has come for it before is told so by the update that it makes: those run one after the other.
func (m *machine) retire(ctx context.Context, a address) error {
	p := m.place(a)
	if err := p.take(ctx); err != nil {
		return err
	}
	defer m.free(a, p)
	t := p.topic.Load()
	if t == nil || t.used() {
		return nil
	}
	err := m.space.Update(ctx, db.OS, func(tx *db.Tx) error {
		for _, prefix := range t.prefixes() {
			for range tx.Scan(prefix, db.After(prefix)) {
				return errUsed
			}
		}
		t.retired.Store(true) // until it is there again, whether this is written or not
		tx.Delete(t.key)
		return nil
	})
	switch {
	case errors.Is(err, errUsed):
		return nil
	case err != nil:
		return err
	}
	m.leave(a, p)
	return nil
}

// prefixes are those of what belongs to a topic.
func (t *topic) prefixes() [][]byte {
	return [][]byte{number([]byte("e"), t.id), groupKey(t.id, ""), repeatKey(t.id, "")}
}

// used looks whether anything of the topic is left, which the update that retires it looks at again.
func (t *topic) used() bool {
	v := t.m.space.View()
	defer v.Close()
	for _, prefix := range t.prefixes() {
		for range v.Scan(prefix, db.After(prefix)) {
			return true
		}
	}
	return v.Err() != nil
}

// revive writes down a topic that could not be retired, and of which it is not known whether its record is there.
func (t *topic) revive(ctx context.Context) error {
	t.mu.Lock()
	record := encode(t.rec)
	t.mu.Unlock()
	return t.m.space.Update(ctx, db.Disk, func(tx *db.Tx) error {
		tx.Set(t.key, record)
		tx.Then(func() { t.retired.Store(false) })
		return nil
	})
}
