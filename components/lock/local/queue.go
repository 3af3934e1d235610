package local

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sort"
	"strings"
	"time"

	"github.com/outrigger-mesh/outrigger/components"
	"github.com/outrigger-mesh/outrigger/components/internal/store"
	"github.com/outrigger-mesh/outrigger/components/internal/store/db"
	"github.com/outrigger-mesh/outrigger/components/lock"
)

// claim is a call that wants a lock.
type claim struct {
	ask
	ctx   context.Context
	came  db.Time
	given chan holder  // holds one
	first chan db.Time // holds one: it waits first now, and the lease before it ends then

	token uint64 // that it was given, not one that its owner had before; of the goroutine that writes
}

// holder is a claim's owner with a new token.
func (m *machine) holder(c *claim, tx *db.Tx) holder {
	c.token = tx.NextID()
	return holder{Token: c.token, Owner: c.Owner, Deadline: tx.Now().Add(c.Lease), Raised: m.space.Raised()}
}

// take answers who has the lock now: c's owner, or, if it queues, nil when it has to wait. Without a queue that is refused.
func (m *machine) take(c *claim, queue bool) (got *holder, err error) {
	var refused error
	err = m.space.Update(c.ctx, c.Durability, func(tx *db.Tx) error {
		h, held, err := m.look(tx, c.Key)
		switch {
		case err != nil:
			return err
		case !held, h.Owner == c.Owner && h.Raised != m.space.Raised():
			h = m.holder(c, tx)
		case h.Owner == c.Owner:
			h.Again, h.Deadline = true, tx.Now().Add(c.Lease)
		case queue:
			if refused = m.crowded(c.Key, h.Deadline.Sub(tx.Now())); refused == nil {
				m.enqueue(c)
				m.tellFirst(c.Key, h.Deadline)
			}
			return nil
		default: // and yet what look did is kept
			refused = lock.Held(h.Deadline.Sub(tx.Now()))
			return nil
		}
		got = &h
		return m.put(tx, c.Key, h)
	})
	if err != nil { // it may come about all the same
		m.giveUp(c)
		return nil, err
	}
	return got, refused
}

// wait serves a driver's waitLock.
func (m *machine) wait(ctx context.Context, p store.Peer[ask, answer]) error {
	in, err := p.Recv()
	if err != nil {
		return err
	}
	c := &claim{ask: in, ctx: ctx, came: m.space.Now().Add(-in.Waited), given: make(chan holder, 1), first: make(chan db.Time, 1)}
	got, err := m.await(c)
	if err != nil {
		return err
	}
	if err = p.Send(m.answer(got)); err == nil {
		_, err = p.Recv()
	}
	if err != nil {
		m.giveUp(c)
		return fmt.Errorf("%w: who was given the lock has gone", components.ErrUnavailable)
	}
	return nil
}

// lookAgain is how long the first in the queue trusts its timer, which stands still while the machine sleeps. The store's clock
// goes on.
const lookAgain = 5 * time.Second

// await waits until the lock is c's.
func (m *machine) await(c *claim) (got holder, err error) {
	taken, err := m.take(c, true)
	if err != nil {
		return got, err
	}
	if taken != nil {
		return *taken, nil
	}
	defer func() {
		if err != nil {
			m.giveUp(c)
		}
	}()
	var due <-chan time.Time // set for the first
	for {
		select {
		case got = <-c.given:
			return got, nil
		case end := <-c.first:
			due = time.After(min(end.Sub(m.space.Now()), lookAgain))
		case <-due:
			if err := m.lookFor(c); err != nil {
				return got, err
			}
		case <-c.ctx.Done():
			return got, context.Cause(c.ctx)
		case <-m.ctx.Done():
			return got, db.ErrClosed
		}
	}
}

// lookFor sees whether the lease before c is over; what comes of it c hears from tell or tellFirst.
func (m *machine) lookFor(c *claim) error {
	return m.space.Update(c.ctx, c.Durability, func(tx *db.Tx) error {
		h, held, err := m.look(tx, c.Key)
		if err == nil && held {
			tx.Then(func() { m.tellFirst(c.Key, h.Deadline) })
		}
		return err
	})
}

// giveUp takes out of the queue who is not there any more, and gives back what it was given.
func (m *machine) giveUp(c *claim) {
	m.tasks.Go(func() {
		err := m.space.Update(m.ctx, c.Durability, func(tx *db.Tx) error {
			m.dequeue(c)
			h, held, err := m.look(tx, c.Key)
			switch {
			case err != nil:
				return err
			case held && h.Token == c.token && !h.Again:
				return m.free(tx, c.Key)
			case held:
				tx.Then(func() { m.tellFirst(c.Key, h.Deadline) })
			}
			return nil
		})
		if err != nil && m.ctx.Err() == nil && !errors.Is(err, components.ErrDamaged) { // of that its caller was told
			m.log.Warn("a lock whose holder has gone is not given back before its lease ends", "err", err)
		}
	})
}

// What follows is done by the goroutine that writes.

// Each call that waits is a stream, and a place in the memory of the process that owns the store.
const (
	maxWaits    = 1000   // for one lock
	maxWaitsAll = 10_000 // for the locks of a component
)

// crowded refuses who would be one too many in a queue.
func (m *machine) crowded(key string, left time.Duration) error {
	switch name := componentOf(key); {
	case len(m.queues[key]) >= maxWaits:
		return lock.Crowded(fmt.Sprintf("%d calls wait for the lock", maxWaits), left)
	case m.waiting[name] >= maxWaitsAll:
		return lock.Crowded(fmt.Sprintf("%d calls wait for locks of component %s", maxWaitsAll, name), left)
	}
	return nil
}

func componentOf(key string) string {
	name, _, _ := strings.Cut(key, "/")
	return name
}

func (m *machine) enqueue(c *claim) {
	q := m.queues[c.Key]
	i := sort.Search(len(q), func(i int) bool { return c.came < q[i].came })
	m.queues[c.Key] = slices.Insert(q, i, c)
	m.waiting[componentOf(c.Key)]++
}

func (m *machine) dequeue(c *claim) {
	m.keep(c.Key, func(other *claim) bool { return other != c })
}

func (m *machine) keep(key string, which func(*claim) bool) {
	before := len(m.queues[key])
	if before == 0 {
		return
	}
	q := slices.DeleteFunc(m.queues[key], func(c *claim) bool { return !which(c) })
	if m.queues[key] = q; len(q) == 0 {
		delete(m.queues, key)
	}
	name := componentOf(key)
	if m.waiting[name] -= before - len(q); m.waiting[name] == 0 {
		delete(m.waiting, name)
	}
}

// tell lets those who wait know that the lock is theirs.
func (m *machine) tell(key string, h holder) {
	m.keep(key, func(c *claim) bool {
		if c.token != h.Token {
			return true
		}
		c.given <- h
		return false
	})
	m.tellFirst(key, h.Deadline)
}

// tellFirst lets who waits first know when to look.
func (m *machine) tellFirst(key string, end db.Time) {
	if q := m.queues[key]; len(q) > 0 {
		select {
		case <-q[0].first: // what it was told before
		default:
		}
		q[0].first <- end
	}
}
