package local

import (
	"context"
	"time"

	"github.com/outrigger-mesh/outrigger/components/internal/store/db"
)

// abandonEvery is how often the groups are looked at that nobody has joined. The first time is that long after a process has become
// the owner: after a long pause of all they have that time to come.
const abandonEvery = 10 * time.Minute

// maxAbandon is how many groups of a topic are forgotten at once: others wait while that is written.
const maxAbandon = 100

// abandonNow tells whether that is due.
func (m *machine) abandonNow() bool {
	now := m.space.Now()
	m.mu.Lock()
	defer m.mu.Unlock()
	if now.Sub(m.abandoned) < abandonEvery {
		return false
	}
	m.abandoned = now
	return true
}

// abandon forgets the topic's groups that nobody has been a member of for too long, and writes down which have members.
func (t *topic) abandon(ctx context.Context) error {
	t.join.Lock() // nobody joins meanwhile
	defer t.join.Unlock()
	seen, gone, err := t.groupsSeen()
	if err != nil || len(seen)+len(gone) == 0 {
		return err
	}
	for _, o := range gone {
		if o.group != nil {
			o.group.keeping.Lock()
			defer o.group.keeping.Unlock()
		}
	}
	return t.m.space.Update(ctx, db.OS, func(tx *db.Tx) error {
		if len(gone) > 0 {
			tx.MakesRoom()
		}
		for _, o := range seen {
			if err := o.see(tx); err != nil {
				return err
			}
		}
		for _, o := range gone {
			tx.Delete(o.key)
			forgetSettled(tx, o.id)
		}
		tx.Then(func() { t.forget(gone) })
		return nil
	})
}

// owned is a group of a topic, of which somebody may have come.
type owned struct {
	key   []byte
	id    uint64
	group *group // or nil
}

// groupsSeen are the groups that have members, or of which it is not known when they had, and some of those that had none for too
// long.
func (t *topic) groupsSeen() (seen, gone []owned, err error) {
	t.mu.Lock()
	groups, limit := t.rec.Groups, max(t.rec.Groups, t.rec.Retention)
	t.mu.Unlock()
	if groups == 0 {
		return nil, nil, nil
	}
	now := t.m.space.Now()
	prefix := groupKey(t.id, "")
	v := t.m.space.View()
	defer v.Close()
	for key, record := range v.Scan(prefix, db.After(prefix)) {
		var r groupRecord
		if err := decode(key, record, &r); err != nil {
			_ = t.m.tell(away(t.String(), err)) // others go on
			continue
		}
		o := owned{append([]byte(nil), key...), r.ID, t.groupOf(string(key[len(prefix):]))}
		switch {
		case r.Seen == 0 || o.group.hasMembers():
			seen = append(seen, o)
		case now.Sub(r.Seen) > limit && len(gone) < maxAbandon:
			gone = append(gone, o)
		}
	}
	return seen, gone, v.Err()
}

func (g *group) hasMembers() bool {
	if g == nil {
		return false
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	return len(g.members) > 0
}

// see writes down that there are members now.
func (o *owned) see(tx *db.Tx) error {
	record, ok, err := tx.Get(o.key)
	if err != nil || !ok {
		return err
	}
	var r groupRecord
	if err := decode(o.key, record, &r); err != nil {
		return err
	}
	r.Seen = tx.Now()
	tx.Set(o.key, encode(r))
	return nil
}

// forget has what is still to be kept of groups forgotten.
func (t *topic) forget(gone []owned) {
	for _, o := range gone {
		if o.group == nil {
			continue
		}
		o.group.mu.Lock()
		o.group.forgotten = true
		o.group.mu.Unlock()
		t.mu.Lock()
		delete(t.groups, string(o.key[len(groupKey(0, "")):]))
		t.mu.Unlock()
	}
}

// forgetSettled removes what is known of a group's events.
func forgetSettled(tx *db.Tx, id uint64) {
	for _, prefix := range [][]byte{blocksOf(id), retriesOf(id)} {
		for key := range tx.Scan(prefix, db.After(prefix)) {
			tx.Delete(append([]byte(nil), key...))
		}
	}
}
