// Package local keeps locks in the local store, which the sidecars of a machine share through one data folder.
//
// A record has the key COMPONENT/NAMESPACE/APP/NAME; its first byte is the format, 1, and CBOR follows: token (1), owner (2), the
// end of the lease by the store's clock in nanoseconds (3), whether several calls were told of the token (4), and by how much the
// store's numbers had been raised when it was given, because the store comes from a backup (5).
package local

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"time"

	"github.com/outrigger-mesh/outrigger/components"
	"github.com/outrigger-mesh/outrigger/components/internal/store"
	"github.com/outrigger-mesh/outrigger/components/internal/store/db"
	"github.com/outrigger-mesh/outrigger/components/lock"
)

func init() {
	components.Register(lock.Drivers, "local", Options{Durability: string(db.Disk)}, Open)
}

// Options of the driver.
type Options struct {
	Durability string `yaml:"durability" doc:"disk: who has a lock is on the disk before anybody is told; os: it survives the end of every process, but not that of the machine"`
}

// Validate refuses a durability that there is not.
func (o Options) Validate() error { return store.CheckDurability(o.Durability) }

// Guarantees says what holds.
func (Options) Guarantees() string {
	return `- One owner at a time, among all sidecars with this data folder. Who has a lock, and until when, survives the end of any of them.
- Tokens grow for ever, also when a backup of the store is restored: they go on as if one had been given in each nanosecond since.
  A lease of the backup goes on, but its token is not given again; of leases that began after the backup a restored store knows
  nothing, so that another can have the lock at once, with a greater token.
- With durability ` + "`os`" + ` a machine that loses power may forget who had a lock.
- Leases run by the store's clock: it goes on evenly whatever is done to the wall clock, over restarts, and while the machine
  sleeps. Only how long a machine was off is told by the wall clock.
- A lease that is over is gone before anything else happens, also for a process that was frozen meanwhile.
- Those who wait are served first come, first served, at once when the lock is freed or the lease ends. When another process takes the
  store over they queue anew, in about the order of their coming.
- At most 1000 calls wait for one lock, and 10,000 for all locks of a component. More are refused with ` + "`OVERLOADED`" + `.
- Who has stopped waiting does not get the lock: what was given to it meanwhile is given back, unless its owner has a name and
  another call of it was told of the same token.`
}

// Open makes an instance.
func Open(ctx context.Context, env components.Env, o Options) (lock.Driver, error) {
	link, err := store.Join(ctx, env)
	if err != nil {
		return nil, err
	}
	return &locks{Client: store.Client{Link: link}, prefix: env.ID.Name + "/", durability: db.Durability(o.Durability)}, nil
}

// locks asks the machine of the store, wherever that is.
type locks struct {
	store.Client
	prefix     string
	durability db.Durability
}

var (
	_ lock.Waiter        = (*locks)(nil)
	_ components.Closer  = (*locks)(nil)
	_ components.Checker = (*locks)(nil)
)

func (l *locks) TryLock(ctx context.Context, key, owner string, lease time.Duration) (lock.Lease, error) {
	got, err := tryLock.Call(ctx, l.Link, ask{Key: l.prefix + key, Owner: owner, Lease: lease, Durability: l.durability})
	return lock.Lease{Token: got.Token, Lease: got.Left}, err
}

func (l *locks) Renew(ctx context.Context, key string, token uint64, lease time.Duration) (time.Duration, error) {
	got, err := renew.Call(ctx, l.Link, ask{Key: l.prefix + key, Token: token, Lease: lease, Durability: l.durability})
	return got.Left, err
}

func (l *locks) Unlock(ctx context.Context, key string, token uint64) error {
	_, err := unlock.Call(ctx, l.Link, ask{Key: l.prefix + key, Token: token, Durability: l.durability})
	return err
}

// How long Lock pauses when the store is between two owners.
const (
	firstPause = 20 * time.Millisecond
	lastPause  = 500 * time.Millisecond
)

// Lock queues anew when the store has another owner.
func (l *locks) Lock(ctx context.Context, key, owner string, lease time.Duration) (lock.Lease, error) {
	came := time.Now()
	for pause := firstPause; ; pause = min(2*pause, lastPause) {
		got, err := l.queue(ctx, ask{Key: l.prefix + key, Owner: owner, Lease: lease, Waited: time.Since(came), Durability: l.durability})
		if err == nil || !errors.Is(err, components.ErrUnavailable) || ctx.Err() != nil {
			return got, err
		}
		select {
		case <-time.After(pause/2 + rand.N(pause)):
		case <-ctx.Done():
			return lock.Lease{}, context.Cause(ctx)
		}
	}
}

// queue waits on one stream.
func (l *locks) queue(ctx context.Context, in ask) (lock.Lease, error) {
	s, err := waitLock.Open(ctx, l.Link)
	if err != nil {
		return lock.Lease{}, err
	}
	defer s.Close()
	if err := s.Send(in); err != nil && !errors.Is(err, io.EOF) { // what it ended with Recv tells
		return lock.Lease{}, err
	}
	got, err := s.Recv()
	if errors.Is(err, io.EOF) {
		err = fmt.Errorf("%w: the store ended the wait for a lock", components.ErrUnavailable)
	}
	if err != nil {
		return lock.Lease{}, err
	}
	if err := heard(s); err != nil {
		l.giveBack(ctx, in, got.Token)
		return lock.Lease{}, err
	}
	return lock.Lease{Token: got.Token, Lease: got.Left}, nil
}

// heard tells the machine that the lock's new holder is there, and succeeds once it knows.
func heard(s store.Stream[ask, answer]) error {
	if err := s.Send(ask{}); err != nil && !errors.Is(err, io.EOF) {
		return err
	}
	_, err := s.Recv()
	if errors.Is(err, io.EOF) {
		return nil
	}
	return err
}

// giveBack frees what the machine may take for ours. If it cannot be told, the lease runs out.
func (l *locks) giveBack(ctx context.Context, in ask, token uint64) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), lastPause)
	defer cancel()
	_, _ = unlock.Call(ctx, l.Link, ask{Key: in.Key, Token: token, Alone: true, Durability: in.Durability})
}
