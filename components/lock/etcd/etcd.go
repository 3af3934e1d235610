// Package etcd keeps locks in etcd, for all sidecars that reach it.
//
// Who has a lock is under PREFIX h/NAMESPACE/APP/NAME, as JSON, on a lease of etcd's; the revision in which that key was made is the
// token. Those who wait are under PREFIX w/NAMESPACE/APP/NAME NUL CALL, in the order in which their keys were made.
package etcd

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"go.etcd.io/etcd/api/v3/mvccpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/outrigger-mesh/outrigger/components"
	"github.com/outrigger-mesh/outrigger/components/internal/backend"
	"github.com/outrigger-mesh/outrigger/components/internal/etcdconn"
	"github.com/outrigger-mesh/outrigger/components/lock"
)

func init() {
	components.Register(lock.Drivers, "etcd", Options{Etcd: etcdconn.Defaults(), Prefix: "outrigger/lock/", WaitTTL: 5 * time.Second}, Open)
}

// Options of the driver.
type Options struct {
	Etcd    etcdconn.Options `yaml:"etcd"`
	Prefix  string           `yaml:"prefix" doc:"what all keys begin with in etcd"`
	WaitTTL time.Duration    `yaml:"wait_ttl" doc:"how long who waits keeps its place when its sidecar has gone, in whole seconds from 2s to 1m: so long the lock may be held up"`
}

// Validate refuses what makes no sense.
func (o Options) Validate() error {
	faults := []error{o.Etcd.Validate(), etcdconn.CheckPrefix(o.Prefix)}
	if o.WaitTTL < 2*time.Second || o.WaitTTL > time.Minute || o.WaitTTL%time.Second != 0 {
		faults = append(faults, fmt.Errorf("wait_ttl: %s is not in whole seconds from 2s to 1m", o.WaitTTL))
	}
	return errors.Join(faults...)
}

// Guarantees says what holds.
func (Options) Guarantees() string {
	return `- One owner at a time, among all sidecars on this etcd. Who has a lock is on the disks of most members before it is told, and the loss of the
  others, or of the leader, changes nothing.
- A token is a revision of etcd: it grows for ever, over fail-overs too, unless etcd is restored from a snapshot without ` + "`--bump-revision`" + `.
- Leases are counted by etcd, by the clock of its leader, and never end early: they last up to the next whole second, and at least as
  long as its elections allow (2 s unless it is set up otherwise). A new leader begins each anew. The
  holder is told what is left of what it asked for.
- Those who wait are served first come, first served, at once when the lock is freed or etcd ends the lease. Who waits in a sidecar that
  has gone holds the others up for ` + "`wait_ttl`" + ` at most.
- At most 1000 calls wait for one lock. More are refused with ` + "`OVERLOADED`" + `.
- Who has stopped waiting does not get the lock: what was given to it meanwhile is given back.`
}

// locks asks etcd.
type locks struct {
	conn    *etcdconn.Conn
	release func()
	log     *slog.Logger
	options Options
	ended   context.Context
	end     context.CancelFunc

	mu     sync.Mutex
	tasks  sync.WaitGroup   // in the background; with mu, as are:
	queued map[*claim]int64 // those with a place, and the revision that it was made in
	gates  map[string]*gate // by lock

	first chan struct{}  // holds one while place is looked at
	place *etcdconn.Kept // what the keys of those who wait hang on; nil: nobody has waited yet
}

var (
	_ lock.Waiter        = (*locks)(nil)
	_ components.Closer  = (*locks)(nil)
	_ components.Checker = (*locks)(nil)

	errClosed = fmt.Errorf("%w: the component is closed", components.ErrUnavailable)
)

// Open makes an instance.
func Open(ctx context.Context, env components.Env, o Options) (lock.Driver, error) {
	conn, release, err := etcdconn.Open(ctx, env, o.Etcd)
	if err != nil {
		return nil, err
	}
	if err := conn.CheckWritable(ctx, o.Prefix); err != nil {
		release()
		return nil, err
	}
	l := &locks{conn: conn, release: release, log: env.Logger, options: o, first: make(chan struct{}, 1), queued: map[*claim]int64{}, gates: map[string]*gate{}}
	l.ended, l.end = context.WithCancel(context.Background())
	return l, nil
}

// Close leaves the queues. Locks stay with their holders.
func (l *locks) Close(ctx context.Context) error {
	l.mu.Lock()
	l.end()
	l.mu.Unlock()
	l.tasks.Wait()
	l.first <- struct{}{}
	defer func() { <-l.first }()
	if l.place != nil {
		if err := l.place.Close(ctx); err != nil {
			l.log.Warn("who waited keeps its place until that is over", "op", "close", "err", err)
		}
		l.place = nil
	}
	l.release()
	return nil
}

// Check implements components.Checker.
func (l *locks) Check(ctx context.Context) error { return l.conn.Check(ctx, l.options.Prefix) }

func (l *locks) holderKey(key string) string { return l.options.Prefix + "h/" + key }
func (l *locks) waitersKey(key string) string {
	return l.options.Prefix + "w/" + key + "\x00" // which no name has
}

// record is what etcd keeps of who has a lock.
type record struct {
	Owner string        `json:"owner"`
	Lease time.Duration `json:"lease"` // that was asked for, in nanoseconds
}

// holder is who has a lock.
type holder struct {
	record
	token    uint64
	revision int64 // in which that was written
	leaseID  clientv3.LeaseID
}

func (l *locks) holder(kvs []*mvccpb.KeyValue) (*holder, error) {
	if len(kvs) == 0 {
		return nil, nil
	}
	h := holder{token: uint64(kvs[0].CreateRevision), revision: kvs[0].ModRevision, leaseID: clientv3.LeaseID(kvs[0].Lease)}
	if err := json.Unmarshal(kvs[0].Value, &h.record); err != nil {
		return nil, fmt.Errorf("%w: lock %q in %s: %w", components.ErrDamaged, kvs[0].Key, l.conn.Where(), err)
	}
	return &h, nil
}

func encode(r record) string {
	raw, err := json.Marshal(r)
	if err != nil {
		panic(err) // strings and numbers marshal
	}
	return string(raw)
}

// look answers who has a lock, nil if nobody has.
func (l *locks) look(ctx context.Context, key string) (h *holder, err error) {
	err = l.conn.Do(ctx, etcdconn.Safe, func(ctx context.Context, client *clientv3.Client) error {
		got, err := client.Get(ctx, l.holderKey(key))
		if err == nil {
			h, err = l.holder(got.Kvs)
		}
		return err
	})
	return h, err
}

func (l *locks) TryLock(ctx context.Context, key, owner string, lease time.Duration) (lock.Lease, error) {
	for {
		h, err := l.look(ctx, key)
		switch {
		case err != nil:
			return lock.Lease{}, err
		case h == nil:
			got, err := l.take(ctx, key, record{owner, lease}, l.nobodyWaits(key))
			if !errors.Is(err, errNotTaken) {
				return got, err
			}
			if h, err = l.look(ctx, key); err != nil {
				return lock.Lease{}, err
			}
		}
		if h == nil || h.Owner != owner {
			return lock.Lease{}, lock.Held(l.left(ctx, h))
		}
		if got, err := l.again(ctx, key, h, lease); !errors.Is(err, errNotTaken) {
			return got, err
		}
	}
}

// soon is when a lock that nobody has goes to who waits first.
const soon = 20 * time.Millisecond

// left is how long the holder, if there is one, may have the lock, as far as etcd says.
func (l *locks) left(ctx context.Context, h *holder) time.Duration {
	if h == nil {
		return soon
	}
	left := h.Lease
	err := l.conn.Do(ctx, etcdconn.Safe, func(ctx context.Context, client *clientv3.Client) error {
		got, err := client.TimeToLive(ctx, h.leaseID)
		if err == nil {
			left = min(left, time.Duration(got.TTL)*time.Second)
		}
		return err
	})
	if err != nil {
		l.log.Debug("what is left of a lease is not known", "op", "try_lock", "err", err)
	}
	return max(left, time.Millisecond)
}

// errNotTaken is that a write was not done because something else had become of the lock.
var errNotTaken = errors.New("somebody else was faster")

// nobodyWaits is the condition that who does not wait itself takes a lock under.
func (l *locks) nobodyWaits(key string) clientv3.Cmp {
	return clientv3.Compare(clientv3.CreateRevision(l.waitersKey(key)).WithPrefix(), "=", 0)
}

// take takes a lock that nobody has, if that is so and the conditions hold; then it does what else is to be done. If it is not known
// whether it did, what it may have taken is given back.
func (l *locks) take(ctx context.Context, key string, r record, only clientv3.Cmp, also ...clientv3.Op) (got lock.Lease, err error) {
	at, began := l.holderKey(key), time.Now()
	id, err := l.conn.Grant(ctx, r.Lease)
	if err != nil {
		return got, err
	}
	err = l.conn.Do(ctx, etcdconn.Safe, func(ctx context.Context, client *clientv3.Client) error {
		done, err := client.Txn(ctx).If(clientv3.Compare(clientv3.CreateRevision(at), "=", 0), only).
			Then(append(also, clientv3.OpPut(at, encode(r), clientv3.WithLease(id)))...).Else(clientv3.OpGet(at)).Commit()
		switch {
		case err != nil:
			return err
		case done.Succeeded:
			got.Token = uint64(done.Header.Revision)
			return nil
		}
		// A try whose answer was lost may have taken it: the lease is of this call alone.
		if kvs := done.Responses[0].GetResponseRange().Kvs; len(kvs) > 0 && kvs[0].Lease == int64(id) {
			got.Token = uint64(kvs[0].CreateRevision)
			return nil
		}
		return errNotTaken
	})
	if err != nil {
		l.revoke(id)
		return got, err
	}
	got.Lease = lock.Left(r.Lease, began)
	return got, nil
}

// again puts a new lease under what an owner has. It is not the one before: that is of the call that took the lock, which may
// yet give it back.
func (l *locks) again(ctx context.Context, key string, h *holder, lease time.Duration) (lock.Lease, error) {
	at, began := l.holderKey(key), time.Now()
	id, err := l.conn.Grant(ctx, lease)
	if err != nil {
		return lock.Lease{}, err
	}
	err = l.conn.Do(ctx, etcdconn.Safe, func(ctx context.Context, client *clientv3.Client) error {
		done, err := client.Txn(ctx).If(clientv3.Compare(clientv3.ModRevision(at), "=", h.revision)).
			Then(clientv3.OpPut(at, encode(record{h.Owner, lease}), clientv3.WithLease(id))).Else(clientv3.OpGet(at, clientv3.WithKeysOnly())).Commit()
		if err != nil || done.Succeeded {
			return err
		}
		if kvs := done.Responses[0].GetResponseRange().Kvs; len(kvs) > 0 && kvs[0].Lease == int64(id) { // a try whose answer was lost
			return nil
		}
		return errNotTaken
	})
	if err != nil {
		if errors.Is(err, errNotTaken) { // else it may hang on the new one
			l.revoke(id)
		}
		return lock.Lease{}, err
	}
	l.revoke(h.leaseID)
	return lock.Lease{Token: h.token, Lease: lock.Left(lease, began)}, nil
}

func (l *locks) Renew(ctx context.Context, key string, token uint64, lease time.Duration) (time.Duration, error) {
	for {
		h, err := l.look(ctx, key)
		if err != nil {
			return 0, err
		}
		if h == nil || h.token != token {
			return 0, lock.Lost()
		}
		if h.Lease != lease {
			got, err := l.again(ctx, key, h, lease)
			if errors.Is(err, errNotTaken) {
				continue // it is over, or another call has renewed it
			}
			return got.Lease, err
		}
		began := time.Now()
		err = l.conn.Renew(ctx, h.leaseID)
		if errors.Is(err, rpctypes.ErrLeaseNotFound) {
			continue // it is over, or there is another one by now
		}
		return lock.Left(lease, began), err
	}
}

// errUnheard is that a lock is not held any more, be it by a try whose answer was lost.
var errUnheard = errors.New("the token does not hold the lock any more")

func (l *locks) Unlock(ctx context.Context, key string, token uint64) error {
	at, tries := l.holderKey(key), 0
	err := l.conn.Do(ctx, etcdconn.Safe, func(ctx context.Context, client *clientv3.Client) error {
		tries++
		done, err := client.Txn(ctx).If(clientv3.Compare(clientv3.CreateRevision(at), "=", int64(token))).
			Then(clientv3.OpDelete(at, clientv3.WithPrevKV())).Commit()
		switch {
		case err != nil:
			return err
		case !done.Succeeded && tries > 1:
			return errUnheard
		case !done.Succeeded:
			return lock.Lost()
		}
		for _, kv := range done.Responses[0].GetResponseDeleteRange().PrevKvs {
			l.revoke(clientv3.LeaseID(kv.Lease))
		}
		return nil
	})
	if errors.Is(err, errUnheard) {
		return backend.Unknown(ctx, l.conn.Where(), err)
	}
	return err
}

// revoke ends a lease that nobody needs, in the background.
func (l *locks) revoke(id clientv3.LeaseID) {
	l.later(func(ctx context.Context) error { return l.conn.Revoke(ctx, id) })
}

// later does what nobody waits for, and does it again while etcd is away, until Close.
func (l *locks) later(do func(context.Context) error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.ended.Err() != nil {
		return
	}
	l.tasks.Go(func() {
		wait := backend.Backoff{}
		for {
			err := do(context.WithoutCancel(l.ended)) // one try is bounded by the timeout
			if err == nil || !etcdconn.Away(err) || wait.Wait(l.ended) != nil {
				return
			}
		}
	})
}
