package etcdconn

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/outrigger-mesh/outrigger/components/internal/backend"
)

// Seconds is what etcd counts a lease in.
func Seconds(lease time.Duration) int64 { return int64((lease + time.Second - 1) / time.Second) }

// Grant gets a lease, of whole seconds: one that is lost on the way ends by itself.
func (c *Conn) Grant(ctx context.Context, lease time.Duration) (id clientv3.LeaseID, err error) {
	err = c.Do(ctx, Safe, func(ctx context.Context, client *clientv3.Client) error {
		got, err := client.Grant(ctx, Seconds(lease))
		if err == nil {
			id = got.ID
		}
		return err
	})
	return id, err
}

// Revoke ends a lease, and all that hangs on it. One that has ended is no error.
func (c *Conn) Revoke(ctx context.Context, id clientv3.LeaseID) error {
	err := c.Do(ctx, Safe, func(ctx context.Context, client *clientv3.Client) error {
		_, err := client.Revoke(ctx, id)
		return err
	})
	if errors.Is(err, rpctypes.ErrLeaseNotFound) {
		return nil
	}
	return err
}

// Renew begins a lease anew; rpctypes.ErrLeaseNotFound if it has ended.
func (c *Conn) Renew(ctx context.Context, id clientv3.LeaseID) error {
	return c.with(ctx, Safe, func(ctx context.Context, m *Member) error { return m.renew(ctx, m.Client, id) })
}

// renewals share one stream: the library's own KeepAliveOnce opens one, and asks for a token, each time.
type renewals struct {
	mu      sync.Mutex
	stream  etcdserverpb.Lease_LeaseKeepAliveClient
	pending map[int64][]chan error // by lease, in the order in which they were asked for
}

func (r *renewals) renew(ctx context.Context, client *clientv3.Client, id clientv3.LeaseID) error {
	done := make(chan error, 1)
	if err := r.send(client, int64(id), done); err != nil {
		return err
	}
	select {
	case err := <-done:
		return err
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (r *renewals) send(client *clientv3.Client, id int64, done chan error) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.stream == nil {
		stream, err := etcdserverpb.NewLeaseClient(client.ActiveConnection()).LeaseKeepAlive(client.Ctx())
		if err != nil {
			return err
		}
		r.stream, r.pending = stream, map[int64][]chan error{}
		go r.receive(stream)
	}
	if err := r.stream.Send(&etcdserverpb.LeaseKeepAliveRequest{ID: id}); err != nil {
		return err
	}
	r.pending[id] = append(r.pending[id], done)
	return nil
}

// receive hands answers out until the stream ends, which the member's end does at the latest.
func (r *renewals) receive(stream etcdserverpb.Lease_LeaseKeepAliveClient) {
	for {
		got, err := stream.Recv()
		r.mu.Lock()
		if err != nil {
			for _, all := range r.pending {
				for _, done := range all {
					done <- err
				}
			}
			r.stream, r.pending = nil, nil
			r.mu.Unlock()
			return
		}
		if all := r.pending[got.ID]; len(all) > 0 {
			if got.TTL <= 0 {
				err = rpctypes.ErrLeaseNotFound
			}
			all[0] <- err
			if r.pending[got.ID] = all[1:]; len(all) == 1 {
				delete(r.pending, got.ID)
			}
		}
		r.mu.Unlock()
	}
}

// Kept is a lease that is renewed until Close. When etcd has let it end all the same, there is another one.
//
// A write whose answer is missing may be done much later, by a member that was frozen, though it was done again by then and undone since.
// Such a write must hang on the lease: Replace has another one take its place, and ends it, and what hangs on it fails from then on.
type Kept struct {
	conn  *Conn
	lease time.Duration
	again func(context.Context, clientv3.LeaseID) error
	log   *slog.Logger

	mu      sync.Mutex
	id      clientv3.LeaseID
	replace bool // the one that there is
	wake    chan struct{}

	owed bool             // again has not succeeded yet; of the loop, as is
	past clientv3.LeaseID // what is to be ended then; 0: nothing
	stop context.CancelFunc
	loop sync.WaitGroup
}

// Keep gets a lease and renews it. Whenever there is another one again is called with it, to write anew what hung on the one before;
// until it succeeds it is called again. Close it.
func (c *Conn) Keep(ctx context.Context, log *slog.Logger, lease time.Duration, again func(context.Context, clientv3.LeaseID) error) (*Kept, error) {
	id, err := c.Grant(ctx, lease)
	if err != nil {
		return nil, err
	}
	k := &Kept{conn: c, lease: lease, again: again, log: log, id: id, wake: make(chan struct{}, 1)}
	living, stop := context.WithCancel(context.Background())
	k.stop = stop
	k.loop.Go(func() { k.keep(living) })
	return k, nil
}

// ID is the lease as it is now.
func (k *Kept) ID() clientv3.LeaseID {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.id
}

// Lost says that the lease has ended, as far as the caller has seen: it is looked after soon.
func (k *Kept) Lost() {
	select {
	case k.wake <- struct{}{}:
	default:
	}
}

// Replace has another lease take the place of this one soon, and ends this one when again has succeeded.
func (k *Kept) Replace() {
	k.mu.Lock()
	k.replace = true
	k.mu.Unlock()
	k.Lost()
}

// Close ends the lease, and what hangs on it. If etcd cannot be told, it ends by itself.
func (k *Kept) Close(ctx context.Context) error {
	k.stop()
	k.loop.Wait()
	return k.conn.Revoke(ctx, k.ID())
}

func (k *Kept) keep(ctx context.Context) {
	wait := backend.Backoff{First: 50 * time.Millisecond, Most: max(k.lease/6, 100*time.Millisecond)}
	pause := k.lease / 3
	for {
		timer := time.NewTimer(pause)
		select {
		case <-timer.C:
		case <-k.wake:
		case <-ctx.Done():
			timer.Stop()
			return
		}
		timer.Stop()
		if err := k.renew(ctx); err != nil && ctx.Err() == nil {
			k.log.Warn("a lease of etcd is not renewed", "op", "renew", "err", err)
			pause = wait.Next()
			continue
		}
		wait.Reset()
		pause = k.lease / 3
	}
}

func (k *Kept) renew(ctx context.Context) error {
	k.mu.Lock()
	id, replace := k.id, k.replace
	k.mu.Unlock()
	if !replace {
		try, cancel := context.WithTimeout(ctx, k.lease/3) // a member that waits for a leader that is gone must not cost the lease
		err := k.conn.Renew(try, id)
		cancel()
		switch {
		case errors.Is(err, rpctypes.ErrLeaseNotFound):
			k.log.Warn("a lease of etcd has ended: there will be another one", "op", "renew")
		case err != nil || !k.owed:
			return err
		default:
			return k.settle(ctx, id)
		}
	}
	another, err := k.conn.Grant(ctx, k.lease)
	if err != nil {
		return err
	}
	k.mu.Lock()
	k.id, k.replace = another, false
	k.mu.Unlock()
	if k.past == 0 {
		k.past = id
	}
	k.owed = true
	return k.settle(ctx, another)
}

// settle writes anew what hung on the lease before, and ends that.
func (k *Kept) settle(ctx context.Context, id clientv3.LeaseID) error {
	if err := k.again(ctx, id); err != nil {
		return fmt.Errorf("write anew what hung on it: %w", err)
	}
	if err := k.conn.Revoke(ctx, k.past); err != nil {
		return err
	}
	k.owed, k.past = false, 0
	return nil
}
