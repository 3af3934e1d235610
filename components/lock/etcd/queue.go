package etcd

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
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
	rev   int64  // in which that was made: its turn comes after those with lesser ones
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
		if err == nil {
			return got, nil
		}
		c.leave()
		switch {
		case ctx.Err() != nil:
			return got, context.Cause(ctx)
		case !errors.Is(err, errNoPlace):
			return got, err
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
	// The places that hung on one that has ended are gone: each call sees that itself.
	place, err := l.conn.Keep(ctx, l.log, l.options.WaitTTL, func(context.Context, clientv3.LeaseID) error { return nil })
	l.place = place
	return place, err
}

// enter takes a lock that nobody has or waits for, or that the owner has, and else a place in the queue.
func (c *claim) enter(ctx context.Context) (got lock.Lease, queued bool, err error) {
	for {
		place, err := c.lease(ctx)
		if err != nil {
			return got, false, err
		}
		h, n, err := c.queue(ctx, place.ID())
		switch {
		case errors.Is(err, rpctypes.ErrLeaseNotFound):
			place.Lost()
			err = nil
			if (&backend.Backoff{First: soon}).Wait(ctx) != nil {
				err = ctx.Err()
			}
		case err != nil:
		case n == 0:
			if got, err = c.take(ctx, c.key, c.record, c.nobodyWaits(c.key)); err == nil {
				return got, false, nil
			}
		case h != nil && h.Owner == c.Owner:
			c.leave()
			if got, err = c.again(ctx, c.key, h, c.Lease); err == nil {
				return got, false, nil
			}
		case n > maxWaits:
			return got, false, lock.Crowded(fmt.Sprintf("%d calls wait for the lock", maxWaits), c.left(ctx, h))
		default:
			return got, true, nil
		}
		if err != nil && !errors.Is(err, errNotTaken) {
			return got, false, err
		}
	}
}

// queue gets a place, unless the lock is free, and answers who has the lock and how many wait by then: none if it is free.
func (c *claim) queue(ctx context.Context, place clientv3.LeaseID) (h *holder, waiting int64, err error) {
	at := c.holderKey(c.key)
	err = c.conn.Do(ctx, etcdconn.Safe, func(ctx context.Context, client *clientv3.Client) error {
		done, err := client.Txn(ctx).If(clientv3.Compare(clientv3.CreateRevision(at), "=", 0), c.nobodyWaits(c.key)).
			Else(clientv3.OpPut(c.place, c.Owner, clientv3.WithLease(place)), clientv3.OpGet(at), clientv3.OpGet(c.place),
				clientv3.OpGet(c.waitersKey(c.key), clientv3.WithPrefix(), clientv3.WithCountOnly())).Commit()
		if err != nil || done.Succeeded {
			h, waiting = nil, 0
			return err
		}
		c.rev, waiting = done.Responses[2].GetResponseRange().Kvs[0].CreateRevision, done.Responses[3].GetResponseRange().Count
		h, err = c.holder(done.Responses[1].GetResponseRange().Kvs)
		return err
	})
	return h, waiting, err
}

// leave gives the place up, in the background.
func (c *claim) leave() {
	c.later(func(ctx context.Context) error {
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
			got, queued, err = c.enter(ctx)
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
		if got, err = c.again(ctx, c.key, h, c.Lease); err == nil {
			c.leave()
		}
		return got, err
	case h == nil && before == "":
		return c.take(ctx, c.key, c.record, clientv3.Compare(clientv3.CreateRevision(c.place), "=", c.rev), clientv3.OpDelete(c.place))
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
