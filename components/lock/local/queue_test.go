package local

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/outrigger-mesh/outrigger/components"
	"github.com/outrigger-mesh/outrigger/components/internal/store/db"
)

// queues is a machine whose waits are only entered by a test.
type queues struct {
	*machine
	t *testing.T
}

func newQueues(t *testing.T) queues {
	t.Helper()
	d, err := db.Open(db.Options{Dir: "store", FS: vfs.NewMem()})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	m, err := open(ctx, d.Space("lock"), slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		cancel()
		m.Close()
		if err := d.Close(); err != nil {
			t.Error(err)
		}
	})
	return queues{m.(*machine), t}
}

// wait enters one that has the lock if it is free.
func (q queues) wait(key string, came db.Time) (*claim, error) {
	c := &claim{ask: ask{Key: key, Owner: fmt.Sprint(key, came), Lease: time.Hour, Durability: db.OS}, ctx: q.t.Context(), came: came,
		given: make(chan holder, 1), first: make(chan db.Time, 1)}
	_, err := q.take(c, true)
	return c, err
}

func (q queues) fill(key string, n int) (last *claim) {
	q.t.Helper()
	for i := range n {
		var err error
		if last, err = q.wait(key, db.Time(i)); err != nil {
			q.t.Fatalf("number %d for %s: %v", i, key, err)
		}
	}
	return last
}

// refuses fails unless one more is refused.
func (q queues) refuses(key string) {
	q.t.Helper()
	_, err := q.wait(key, -1)
	var d *components.Detail
	if !errors.Is(err, components.ErrExhausted) || !errors.As(err, &d) || d.Reason != components.ReasonOverloaded || d.RetryAfter <= 0 {
		q.t.Errorf("one more for %s: %v, want OVERLOADED", key, err)
	}
}

func TestQueuesAreBounded(t *testing.T) {
	q := newQueues(t)
	var last *claim
	for i := range maxWaitsAll / maxWaits {
		key := fmt.Sprintf("default/a/b/%d", i)
		last = q.fill(key, 1+maxWaits) // the first has the lock
		if i == 0 {
			q.refuses(key)
		}
	}
	q.fill("default/a/b/more", 1)
	q.refuses("default/a/b/more")
	q.fill("other/a/b/more", 2)
	if err := q.space.Update(t.Context(), db.OS, func(*db.Tx) error {
		q.dequeue(last)
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	if _, err := q.wait("default/a/b/more", 1); err != nil {
		t.Errorf("when one has left: %v", err)
	}
	q.refuses("default/a/b/more")
}

func TestQueueIsInTheOrderOfComing(t *testing.T) {
	q := newQueues(t)
	first, err := q.tryLock(t.Context(), ask{Key: "k", Owner: "o", Lease: time.Hour, Durability: db.OS})
	if err != nil {
		t.Fatal(err)
	}
	came := rand.Perm(50)
	waits := make([]*claim, len(came))
	for _, at := range came {
		if waits[at], err = q.wait("k", db.Time(at)); err != nil {
			t.Fatal(err)
		}
	}
	token := first.Token
	for i, c := range waits {
		if _, err := q.unlock(t.Context(), ask{Key: "k", Token: token, Durability: db.OS}); err != nil {
			t.Fatal(err)
		}
		select {
		case h := <-c.given:
			token = h.Token
		default:
			t.Fatalf("number %d was not served when it was its turn", i)
		}
	}
	if len(q.queues) != 0 || len(q.waiting) != 0 {
		t.Errorf("%d queues and %d counts are left", len(q.queues), len(q.waiting))
	}
}
