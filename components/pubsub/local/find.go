package local

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"sync/atomic"

	"github.com/outrigger-mesh/outrigger/components"
	"github.com/outrigger-mesh/outrigger/components/internal/store/db"
)

// address is what tells one topic from another.
type address struct{ component, namespace, name string }

func (a address) String() string {
	return fmt.Sprintf("topic %q of namespace %q in component %q", a.name, a.namespace, a.component)
}

func (a address) key() []byte {
	return []byte("n" + a.component + "\x00" + a.namespace + "\x00" + a.name)
}

// addressOf is that of a topic's record.
func addressOf(key []byte) (a address, ok bool) {
	parts := bytes.Split(key[1:], []byte{0})
	if len(parts) != 3 {
		return a, false
	}
	return address{string(parts[0]), string(parts[1]), string(parts[2])}, true
}

// place is that of a topic in the machine. Who reads or makes it has its turn meanwhile; who comes for another does not wait. One
// that no topic has got in a turn is left: topics that cannot be made, of whatever names, take no memory.
type place struct {
	turn  chan struct{}
	topic atomic.Pointer[topic]
	left  bool // with the turn: it is the topic's place no longer
}

// take fails only where another has the turn, so that each place has somebody who leaves it if it gets no topic.
func (p *place) take(ctx context.Context) error {
	select {
	case p.turn <- struct{}{}:
		return nil
	default:
	}
	select {
	case p.turn <- struct{}{}:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// free ends a turn.
func (m *machine) free(a address, p *place) {
	if p.topic.Load() == nil {
		m.leave(a, p)
	}
	<-p.turn
}

// leave has whoever comes next make another place, and whoever waits for a turn.
func (m *machine) leave(a address, p *place) {
	m.mu.Lock()
	if m.places[a] == p {
		delete(m.places, a)
	}
	m.mu.Unlock()
	p.left = true
}

func (m *machine) place(a address) *place {
	m.mu.Lock()
	defer m.mu.Unlock()
	p := m.places[a]
	if p == nil {
		p = &place{turn: make(chan struct{}, 1)}
		m.places[a] = p
	}
	return p
}

// find finds a topic, or makes it.
func (m *machine) find(ctx context.Context, a address, set *settings) (*topic, error) {
	for {
		p := m.place(a)
		if t := p.topic.Load(); t != nil && !t.retired.Load() {
			return t, nil
		}
		if err := p.take(ctx); err != nil {
			return nil, err
		}
		t, err := m.occupy(ctx, p, a, set)
		m.free(a, p)
		if err != nil {
			return nil, m.tell(away(a.String(), err))
		}
		if t != nil {
			return t, nil
		}
	}
}

// occupy has the topic of a place there, whose turn is taken. It is nil where the topic has got another place.
func (m *machine) occupy(ctx context.Context, p *place, a address, set *settings) (*topic, error) {
	t := p.topic.Load()
	switch {
	case p.left:
		return nil, nil
	case t != nil && t.retired.Load():
		return t, t.revive(ctx)
	case t != nil:
		return t, nil
	}
	t, err := m.readTopic(ctx, a, set)
	if err == nil {
		p.topic.Store(t)
	}
	return t, err
}

// topic finds one that is kept as its component wants now, or makes it.
func (m *machine) topic(ctx context.Context, a address, set *settings) (*topic, error) {
	t, err := m.find(ctx, a, set)
	if err != nil {
		return nil, err
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.rec.Retention != set.Retention || t.rec.RetentionBytes != set.RetentionBytes || t.rec.Groups != set.Groups {
		t.rec.Retention, t.rec.RetentionBytes, t.rec.Groups = set.Retention, set.RetentionBytes, set.Groups
		m.note(t)
	}
	return t, nil
}

// readTopic is called before anybody can publish to the topic in this process, so what is on the disk is all there is.
func (m *machine) readTopic(ctx context.Context, a address, set *settings) (*topic, error) {
	t := &topic{address: a, m: m, key: a.key(), groups: map[string]*group{}}
	v := m.space.View()
	defer v.Close()
	record, ok, err := v.Get(t.key)
	if err != nil {
		return nil, err
	}
	if !ok {
		t.rec = topicRecord{Retention: set.Retention, RetentionBytes: set.RetentionBytes, Groups: set.Groups}
		err = m.space.Update(ctx, db.Durability(set.Durability), func(tx *db.Tx) error {
			t.rec.ID = tx.NextID()
			tx.Set(t.key, encode(t.rec))
			return nil
		})
	} else if err = decode(t.key, record, &t.rec); err == nil {
		err = t.catchUp(v)
	}
	if err != nil { // an update whose caller has given up may still be under way, and write to t
		return nil, err
	}
	t.id, t.assigned, t.bytes, t.wall = t.rec.ID, t.rec.Reached, t.rec.ReachedBytes, t.rec.Wall
	return t, nil
}

// tell logs that something cannot be read, the first time. Whoever asks for it is told each time; others go on.
func (m *machine) tell(err error) error {
	if !errors.Is(err, components.ErrDamaged) {
		return err
	}
	m.mu.Lock()
	told := m.told[err.Error()]
	m.told[err.Error()] = true
	m.mu.Unlock()
	if !told {
		m.log.Error("a record cannot be read", "err", err)
	}
	return err
}
