package etcd

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"maps"
	"time"

	"go.etcd.io/etcd/api/v3/mvccpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/outrigger-mesh/outrigger/components/internal/backend"
	"github.com/outrigger-mesh/outrigger/components/internal/etcdconn"
	"github.com/outrigger-mesh/outrigger/components/lock"
)

// maxWaits is how many wait for one lock: each of them is looked at when a place in the queue becomes free.
const maxWaits = 1000

// claim is a call that has a place in the queue.
type claim struct {
	*locks
	record
	key   string // of the lock
	place string // its key

	placed  bool            // that may be there
	pending <-chan struct{} // closed when it is known whether it is; nil: that is so
	rev     int64           // in which it was made: its turn comes after those with lesser ones
}

// errNoPlace is that etcd has let the place go: its lease had ended.
var errNoPlace = errors.New("the place in the queue is lost")

// Lock queues anew when it has lost its place. An outage that begins while it waits it rides out.
func (l *locks) Lock(ctx context.Context, key, owner string, lease time.Duration) (lock.Lease, error) {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	defer context.AfterFunc(l.ended, func() { cancel(errClosed) })()
	for waited := false; ; waited = true {
		c := &claim{locks: l, record: record{owner, lease}, key: key, place: l.waitersKey(key) + rand.Text()}
		got, err := c.await(ctx, waited)
		c.leave()
		switch {
		case err == nil:
			return got, nil
		case ctx.Err() != nil:
			return got, context.Cause(ctx)
		case !errors.Is(err, errNoPlace):
			return got, err
		}
	}
}

// orderly is how long a call lets those before it ask etcd first.
const orderly = 2 * time.Second

// gate is where calls for one lock wait until those of this instance that came before have asked etcd: else it may hear of them in another
// order.
type gate struct {
	turn  chan struct{} // holds one while somebody asks; who waits to send is served in order
	users int
}

// inOrder waits for that, but not for long, and answers what is to be done when this call has asked.
func (c *claim) inOrder(ctx context.Context) (past func()) {
	c.mu.Lock()
	g := c.gates[c.key]
	if g == nil {
		g = &gate{turn: make(chan struct{}, 1)}
		c.gates[c.key] = g
	}
	g.users++
	c.mu.Unlock()
	timer := time.NewTimer(orderly)
	defer timer.Stop()
	entered := false
	select {
	case g.turn <- struct{}{}:
		entered = true
	case <-timer.C:
	case <-ctx.Done():
	}
	return func() {
		if entered {
			<-g.turn
		}
		c.mu.Lock()
		defer c.mu.Unlock()
		if g.users--; g.users == 0 {
			delete(c.gates, c.key)
		}
	}
}

// lease answers what the places of this instance hang on.
func (l *locks) lease(ctx context.Context) (*etcdconn.Kept, error) {
	select {
	case l.first <- struct{}{}:
		defer func() { <-l.first }()
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	if l.ended.Err() != nil {
		return nil, errClosed
	}
	if l.place != nil {
		return l.place, nil
	}
	place, err := l.conn.Keep(ctx, l.log, l.options.WaitTTL, l.move)
	l.place = place
	return place, err
}

// move has the places that there are hang on another lease. Those that hung on one that has ended are gone, as each call sees itself.
func (l *locks) move(ctx context.Context, lease clientv3.LeaseID) error {
	l.mu.Lock()
	queued := maps.Clone(l.queued)
	l.mu.Unlock()
	for c, rev := range queued {
		err := l.conn.Do(ctx, etcdconn.Safe, func(ctx context.Context, client *clientv3.Client) error {
			_, err := client.Txn(ctx).If(clientv3.Compare(clientv3.CreateRevision(c.place), "=", rev)).
				Then(clientv3.OpPut(c.place, c.Owner, clientv3.WithLease(lease))).Commit()
			return err
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// enter takes a lock that nobody has or waits for, or that the owner has, and else a place in the queue.
func (c *claim) enter(ctx context.Context) (got lock.Lease, queued bool, err error) {
	for {
		place, err := c.lease(ctx)
		if err != nil {
			return got, false, err
		}
		q := c.queue(ctx, place)
		err = q.err
		switch {
		case errors.Is(err, rpctypes.ErrLeaseNotFound):
			place.Lost()
			err = (&backend.Backoff{First: soon}).Wait(ctx)
		case err != nil:
		case q.waiting == 0:
			if got, err = c.take(ctx, c.key, c.record, c.nobodyWaits(c.key)); err == nil {
				return got, false, nil
			}
		case q.holder != nil && q.holder.Owner == c.Owner:
			if got, err = c.again(ctx, c.key, q.holder, c.Lease); err == nil {
				return got, false, nil
			}
		case q.waiting > maxWaits:
			return got, false, lock.Crowded(fmt.Sprintf("%d calls wait for the lock", maxWaits), c.left(ctx, q.holder))
		default:
			return got, true, nil
		}
		if err != nil && !errors.Is(err, errNotTaken) {
			return got, false, err
		}
	}
}

// queued is what came of asking for a place.
type queued struct {
	holder  *holder // who has the lock
	waiting int64   // calls by now; none if the lock is free
	rev     int64   // in which the place was made
	err     error
}

// queue gets a place, unless the lock is free. It goes on when ctx has ended: what became of it must be known, to be undone.
func (c *claim) queue(ctx context.Context, kept *etcdconn.Kept) (q queued) {
	done, pending := make(chan queued, 1), make(chan struct{})
	c.mu.Lock()
	if c.ended.Err() != nil {
		c.mu.Unlock()
		return queued{err: errClosed}
	}
	c.placed, c.pending = true, pending
	c.tasks.Go(func() {
		defer close(pending)
		q, tries := c.ask(context.WithoutCancel(ctx), kept.ID())
		if tries > 1 || etcdconn.Away(q.err) {
			kept.Replace() // or a place may be made when nobody wants it any more
		}
		done <- q
	})
	c.mu.Unlock()
	select {
	case q = <-done:
	case <-ctx.Done():
		return queued{err: ctx.Err()}
	}
	c.pending = nil
	if q.err == nil && q.waiting > 0 {
		c.mu.Lock()
		defer c.mu.Unlock()
		c.rev, c.queued[c] = q.rev, q.rev
	} else {
		c.placed = q.err != nil
	}
	return q
}

func (c *claim) ask(ctx context.Context, lease clientv3.LeaseID) (q queued, tries int) {
	at := c.holderKey(c.key)
	q.err = c.conn.Do(ctx, etcdconn.Safe, func(ctx context.Context, client *clientv3.Client) (err error) {
		tries++
		done, err := client.Txn(ctx).If(clientv3.Compare(clientv3.CreateRevision(at), "=", 0), c.nobodyWaits(c.key)).
			Else(clientv3.OpPut(c.place, c.Owner, clientv3.WithLease(lease)), clientv3.OpGet(at), clientv3.OpGet(c.place),
				clientv3.OpGet(c.waitersKey(c.key), clientv3.WithPrefix(), clientv3.WithCountOnly())).Commit()
		if err != nil || done.Succeeded {
			return err
		}
		q.rev, q.waiting = done.Responses[2].GetResponseRange().Kvs[0].CreateRevision, done.Responses[3].GetResponseRange().Count
		q.holder, err = c.holder(done.Responses[1].GetResponseRange().Kvs)
		return err
	})
	return q, tries
}

// leave gives the place up, if there is one, in the background.
func (c *claim) leave() {
	c.mu.Lock()
	delete(c.queued, c)
	c.mu.Unlock()
	if !c.placed {
		return
	}
	c.later(func(ctx context.Context) error {
		if c.pending != nil {
			<-c.pending
		}
		return c.conn.Do(ctx, etcdconn.Safe, func(ctx context.Context, client *clientv3.Client) error {
			_, err := client.Delete(ctx, c.place)
			return err
		})
	})
}

// await waits until the lock is the claim's. That etcd is away at the very beginning is an error; later it is ridden out.
func (c *claim) await(ctx context.Context, waited bool) (got lock.Lease, err error) {
	for wait, queued := (backend.Backoff{First: soon, Most: time.Second}), false; ; {
		if queued {
			got, err = c.turn(ctx)
		} else {
			past := c.inOrder(ctx)
			got, queued, err = c.enter(ctx)
			past()
		}
		waited = waited || queued
		switch {
		case err == nil && !queued, err == nil && got.Token != 0:
			return got, nil
		case err == nil, errors.Is(err, errNotTaken):
			wait.Reset()
		case !etcdconn.Away(err) || !waited:
			return got, err
		case wait.Wait(ctx) != nil:
			return got, ctx.Err()
		}
	}
}

// turn takes the lock if it is the claim's turn. Else it waits until something has changed, and fails with errNotTaken.
func (c *claim) turn(ctx context.Context) (got lock.Lease, err error) {
	h, before, revision, err := c.see(ctx)
	switch {
	case err != nil:
		return got, err
	case h != nil && h.Owner == c.Owner:
		return c.again(ctx, c.key, h, c.Lease)
	case h == nil && before == "":
		got, err = c.take(ctx, c.key, c.record, clientv3.Compare(clientv3.CreateRevision(c.place), "=", c.rev), clientv3.OpDelete(c.place))
		c.placed = err != nil
		return got, err
	}
	return got, c.change(ctx, before, revision)
}

// see answers who has the lock, the place of who waits before this claim, and as of which revision.
func (c *claim) see(ctx context.Context) (h *holder, before string, revision int64, err error) {
	next := append(clientv3.WithLastCreate(), clientv3.WithMaxCreateRev(c.rev-1), clientv3.WithKeysOnly())
	err = c.conn.Do(ctx, etcdconn.Safe, func(ctx context.Context, client *clientv3.Client) error {
		got, err := client.Txn(ctx).Then(clientv3.OpGet(c.holderKey(c.key)), clientv3.OpGet(c.place, clientv3.WithKeysOnly()),
			clientv3.OpGet(c.waitersKey(c.key), next...)).Commit()
		if err != nil {
			return err
		}
		kvs := func(i int) []*mvccpb.KeyValue { return got.Responses[i].GetResponseRange().Kvs }
		if own := kvs(1); len(own) == 0 || own[0].CreateRevision != c.rev {
			return errNoPlace
		}
		before = ""
		for _, kv := range kvs(2) {
			before = string(kv.Key)
		}
		revision = got.Header.Revision
		h, err = c.holder(kvs(0))
		return err
	})
	return h, before, revision, err
}

// change waits until who is before the claim has gone, or the lock was freed for the first in the queue, or given to the claim's owner.
func (c *claim) change(ctx context.Context, before string, revision int64) error {
	m, err := c.conn.Member(ctx)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	var holders, others clientv3.WatchChan
	if before == "" {
		holders = m.Client.Watch(ctx, c.holderKey(c.key), clientv3.WithRev(revision+1))
	} else {
		holders = m.Client.Watch(ctx, c.holderKey(c.key), clientv3.WithRev(revision+1), clientv3.WithFilterDelete())
		others = m.Client.Watch(ctx, before, clientv3.WithRev(revision+1))
	}
	for {
		var news clientv3.WatchResponse
		var more bool
		select {
		case news, more = <-holders:
		case news, more = <-others:
		case <-ctx.Done():
			return ctx.Err()
		}
		if !more || news.Err() != nil {
			return errNotTaken // and who looks again finds what is wrong
		}
		for _, e := range news.Events {
			if e.Type == mvccpb.Event_DELETE || string(e.Kv.Key) != c.holderKey(c.key) || c.owns(e.Kv) {
				return errNotTaken
			}
		}
	}
}

func (c *claim) owns(kv *mvccpb.KeyValue) bool {
	h, err := c.holder([]*mvccpb.KeyValue{kv})
	return err != nil || h.Owner == c.Owner
}
