package postgres

import (
	"cmp"
	"context"
	"errors"
	"math"
	"slices"
	"time"

	"github.com/outrigger-mesh/outrigger/components"
	"github.com/outrigger-mesh/outrigger/components/internal/backend"
	"github.com/outrigger-mesh/outrigger/components/internal/postgresconn"
	"github.com/outrigger-mesh/outrigger/components/lock"
)

// beatEvery is how often those who wait give a sign of life; three of them may be missing. Who is the first to wait asks as often, too, in
// case a notification was lost.
const beatEvery = time.Second

// queue are those at this sidecar who wait for a lock, by their tickets; who has none yet comes last.
type queue struct{ all []*waiter }

type waiter struct {
	ticket int64
	wake   chan struct{} // holds one element if it is to ask again
}

// Lock waits at the server. What the server forgets, by a crash, begins anew; who waited when the server went away goes on waiting.
func (l *locks) Lock(ctx context.Context, key, owner string, lease time.Duration) (lock.Lease, error) {
	w := l.want(key, owner, lease)
	w.waits = true
	me := l.enter(w.id)
	defer l.exit(w.id, me)
	pause := backend.Backoff{First: 20 * time.Millisecond, Most: 500 * time.Millisecond}
	for {
		t, err := l.take(ctx, w)
		switch {
		case err != nil && w.ticket != 0 && errors.Is(err, components.ErrUnavailable) && pause.Wait(ctx) == nil:
			continue
		case err != nil:
			if w.ticket != 0 || open(err) {
				l.leave(w)
			}
			if ctx.Err() != nil {
				err = context.Cause(ctx)
			}
			return lock.Lease{}, err
		case t.given:
			return t.Lease, nil
		case t.crowded:
			return lock.Lease{}, lock.Crowded("too many calls wait for the lock", t.Lease.Lease)
		}
		pause.Reset()
		w.ticket = t.ticket
		if err := l.pause(ctx, w.id, me, t); err != nil {
			l.leave(w)
			return lock.Lease{}, err
		}
	}
}

// soon is how long a call that is given up waits until the server has taken its place away.
const soon = 200 * time.Millisecond

// leave gives the place up. A server that answers has done it when the call ends, so that nobody finds the lock with who has left.
func (l *locks) leave(w want) {
	late := time.NewTimer(soon)
	defer late.Stop()
	select {
	case <-l.forget(w):
	case <-late.C:
	}
}

// pause waits until it is worth asking again.
func (l *locks) pause(ctx context.Context, id int64, me *waiter, t taken) error {
	var again <-chan time.Time
	if l.order(id, me, t.ticket) {
		timer := time.NewTimer(min(t.Lease.Lease, beatEvery))
		defer timer.Stop()
		again = timer.C
	}
	select {
	case <-again:
	case <-me.wake:
	case <-ctx.Done():
		return context.Cause(ctx)
	}
	return nil
}

func (l *locks) enter(id int64) *waiter {
	l.mu.Lock()
	defer l.mu.Unlock()
	q := l.queues[id]
	if q == nil {
		q = &queue{}
		l.queues[id] = q
	}
	me := &waiter{ticket: math.MaxInt64, wake: make(chan struct{}, 1)}
	q.all = append(q.all, me)
	return me
}

// order puts a waiter where its ticket says, and tells whether it is the first.
func (l *locks) order(id int64, me *waiter, ticket int64) (first bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	q := l.queues[id]
	if me.ticket != ticket {
		me.ticket = ticket
		slices.SortStableFunc(q.all, func(a, b *waiter) int { return cmp.Compare(a.ticket, b.ticket) })
		if q.all[0] != me {
			q.all[0].ask() // what was told meanwhile may have reached one who is behind it now
		}
	}
	return q.all[0] == me
}

// exit ends a wait. Who is the first now has to ask.
func (l *locks) exit(id int64, me *waiter) {
	l.mu.Lock()
	defer l.mu.Unlock()
	q := l.queues[id]
	q.all = slices.DeleteFunc(q.all, func(other *waiter) bool { return other == me })
	if len(q.all) == 0 {
		delete(l.queues, id)
		return
	}
	q.all[0].ask()
}

func (w *waiter) ask() {
	select {
	case w.wake <- struct{}{}:
	default:
	}
}

// told is called for each notification, tellAll when some may have been missed.
func (l *locks) told(payload string) {
	if id, ok := postgresconn.ParseID(payload); ok {
		l.mu.Lock()
		defer l.mu.Unlock()
		if q := l.queues[id]; q != nil {
			q.all[0].ask()
		}
	}
}

func (l *locks) tellAll() {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, q := range l.queues {
		q.all[0].ask()
	}
}

// beatSQL is for those who wait, by their tickets: places whose owners left while the server was away are not kept alive by others.
const beatSQL = "update lock_waiters set alive = clock_timestamp() + interval '3 s' where client = $1 and ticket = any($2)"

// beat gives signs of life while somebody waits.
func (l *locks) beat(ctx context.Context) {
	ticker := time.NewTicker(beatEvery)
	defer ticker.Stop()
	for {
		select {
		case <-ticker.C:
		case <-ctx.Done():
			return
		}
		if all := l.tickets(); len(all) > 0 {
			_ = l.Do(ctx, postgresconn.Statement{SQL: beatSQL, Args: []any{l.id, all}}) // who asks next queues anew
		}
	}
}

// tickets are those of all who wait.
func (l *locks) tickets() (all []int64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, q := range l.queues {
		for _, w := range q.all {
			if w.ticket != math.MaxInt64 {
				all = append(all, w.ticket)
			}
		}
	}
	return all
}
