package local

import (
	"context"
	"log/slog"
	"sync"
	"time"

	"github.com/outrigger-mesh/outrigger/components/internal/store"
	"github.com/outrigger-mesh/outrigger/components/internal/store/db"
	"github.com/outrigger-mesh/outrigger/components/lock"
)

func init() { store.Register("lock", open) }

// machine decides who has a lock, in updates of the store: so it does one thing after the other, and what it tells anybody is
// durable. Whoever looks at a lock first takes it from a holder whose lease is over, by the clock of that moment, and gives
// it to whoever waits first: neither a timer that is late nor a process that was frozen keeps a lease longer than it is.
type machine struct {
	ctx     context.Context // ends with the store
	space   *db.Space
	log     *slog.Logger
	queues  map[string][]*claim // by key, in the order of their coming; of the goroutine that writes
	waiting map[string]int      // how many are in the queues, by component; of the goroutine that writes
	unread  map[string]db.Time  // by key, until when a lock may be held whose record cannot be read; of the sweep
	tasks   sync.WaitGroup
}

func open(ctx context.Context, space *db.Space, log *slog.Logger) (store.Machine, error) {
	m := &machine{ctx: ctx, space: space, log: log, queues: map[string][]*claim{}, waiting: map[string]int{}, unread: map[string]db.Time{}}
	m.tasks.Go(m.sweep)
	return m, nil
}

func (m *machine) Handlers(mux *store.Mux) {
	tryLock.Handle(mux, m.tryLock)
	renew.Handle(mux, m.renew)
	unlock.Handle(mux, m.unlock)
	waitLock.Handle(mux, m.wait)
}

func (m *machine) Close() { m.tasks.Wait() }

func (m *machine) tryLock(ctx context.Context, in ask) (answer, error) {
	c := &claim{ask: in, ctx: ctx}
	got, err := m.take(c, false)
	if err != nil {
		return answer{}, err
	}
	return m.answer(*got), nil
}

func (m *machine) renew(ctx context.Context, in ask) (out answer, err error) {
	var h holder
	err = m.update(ctx, in.Durability, func(tx *db.Tx) (refusal, err error) {
		var held bool
		if h, held, err = m.look(tx, in.Key); err != nil {
			return nil, err
		}
		if !held || h.Token != in.Token {
			return lock.Lost(), nil
		}
		h.Deadline = tx.Now().Add(in.Lease)
		return nil, m.put(tx, in.Key, h)
	})
	if err != nil {
		return out, err
	}
	return m.answer(h), nil
}

func (m *machine) unlock(ctx context.Context, in ask) (answer, error) {
	return answer{}, m.update(ctx, in.Durability, func(tx *db.Tx) (refusal, err error) {
		h, held, err := m.look(tx, in.Key)
		if err != nil {
			return nil, err
		}
		if !held || h.Token != in.Token || in.Alone && h.Again {
			return lock.Lost(), nil
		}
		return nil, m.free(tx, in.Key)
	})
}

// update runs fn in an update. A refusal is an error that leaves what fn has done: others may have got a lock by it.
func (m *machine) update(ctx context.Context, dur db.Durability, fn func(*db.Tx) (refusal, err error)) error {
	var refused error
	err := m.space.Update(ctx, dur, func(tx *db.Tx) (err error) {
		refused, err = fn(tx)
		return err
	})
	if err != nil {
		return err
	}
	return refused
}

// answer tells what is left of a lease by now.
func (m *machine) answer(h holder) answer {
	return answer{Token: h.Token, Left: max(h.Deadline.Sub(m.space.Now()), time.Millisecond)}
}

// look is how each update begins: who has the lock now.
func (m *machine) look(tx *db.Tx, key string) (h holder, held bool, err error) {
	record, ok, err := tx.Get([]byte(key))
	if err != nil {
		return h, false, err
	}
	if ok {
		if h, err = decode(key, record); err != nil {
			return h, false, err
		}
		if tx.Now() < h.Deadline {
			return h, true, nil
		}
		tx.Delete([]byte(key))
	}
	return m.next(tx, key)
}

// next gives a lock that nobody has to whoever waits first, and to what else the same owner waits with.
func (m *machine) next(tx *db.Tx, key string) (h holder, held bool, err error) {
	for _, c := range m.queues[key] {
		switch {
		case c.ctx.Err() != nil: // it is on its way out
		case !held:
			held = true
			h = m.holder(c, tx)
		case c.Owner == h.Owner:
			c.token = h.Token
			h.Again = true
		}
	}
	if held {
		err = m.put(tx, key, h)
	}
	return h, held, err
}

// free takes the lock from who has it.
func (m *machine) free(tx *db.Tx, key string) error {
	tx.Delete([]byte(key))
	_, _, err := m.next(tx, key)
	return err
}

// put writes down who has the lock; once that is durable they are told, and who waits first now is told until when.
func (m *machine) put(tx *db.Tx, key string, h holder) error {
	record, err := store.EncodeRecord(h)
	if err != nil {
		return err
	}
	tx.Set([]byte(key), record)
	tx.Then(func() { m.tell(key, h) })
	return nil
}
