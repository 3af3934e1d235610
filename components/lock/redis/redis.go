// Package redis keeps locks in Redis 6 or later, Valkey or a compatible server: one, one with replicas and sentinels, or a cluster.
//
// A lock is a hash under PREFIX/lock/COMPONENT/NAMESPACE/APP/NAME: the greatest token that was given (t), the owner that got it (o),
// when the lease ends, in microseconds by the server's clock (e), whether several calls were told of the token (s), and the call that
// it was given to (c). It goes a day after the lease.
package redis

import (
	"context"
	"crypto/rand"
	"errors"
	"sync"
	"time"

	"github.com/outrigger-mesh/outrigger/components"
	"github.com/outrigger-mesh/outrigger/components/internal/backend"
	"github.com/outrigger-mesh/outrigger/components/internal/redisconn"
	"github.com/outrigger-mesh/outrigger/components/lock"
)

func init() {
	components.Register(lock.Drivers, "redis", Options{redisconn.Defaults()}, Open)
}

// Options of the driver.
type Options struct {
	Redis redisconn.Options `yaml:"redis"`
}

// Validate refuses what cannot work together.
func (o Options) Validate() error { return o.Redis.Validate() }

// Guarantees says what holds.
func (Options) Guarantees() string {
	return `- One owner at a time, among all sidecars with the same component name and prefix, as long as one server has the locks. A lease that is
  over is gone before anything else happens.
- **Two holders are possible**: after a fail-over, when the lock was taken at a primary that was cut off and had not passed it on; after
  a restart of a server that had not written it to its disk (` + "`appendonly no`" + `, or ` + "`appendfsync`" + ` other than always);
  and when keys are removed by hand or evicted. With sentinels, and in a cluster with replicas, a lock counts as taken only when a
  replica has it too, which makes the first rare. Let what is protected compare the tokens, as the fences of state do.
- Tokens grow for ever, also where keys are gone: each is greater than the one before, and than the server's clock in microseconds was
  when that was given. Only a clock that is set back, together with the loss of the lock's key, can undo that: a server that takes over must not
  be behind by more than the time since.
- Leases run by the server's clock, and shift with it when it is set.
- Who has stopped waiting does not keep the lock: what was given to it meanwhile is given back, unless its owner has a name and another
  call of it was told of the same token.
- Who waits asks again and again, every half second at most: whose turn is next is chance.`
}

// Open makes an instance.
func Open(ctx context.Context, env components.Env, o Options) (lock.Driver, error) {
	joined, err := redisconn.Join(ctx, env, o.Redis, "lock")
	if err != nil {
		return nil, err
	}
	closing, stop := context.WithCancel(context.Background())
	return &locks{Joined: joined, closing: closing, stop: stop}, nil
}

type locks struct {
	*redisconn.Joined

	work    sync.WaitGroup  // calls, also those that nobody waits for any longer
	closing context.Context // ends what they do then
	stop    context.CancelFunc
}

var (
	_ components.Closer  = (*locks)(nil)
	_ components.Checker = (*locks)(nil)
)

// Close waits for what is under way, which the client's timeout bounds, and lets go of the client.
func (l *locks) Close(ctx context.Context) error {
	l.stop()
	l.work.Wait()
	return l.Joined.Close(ctx)
}

// TryLock waits for the answer also when ctx has ended: what nobody is told of is given back.
func (l *locks) TryLock(ctx context.Context, key, owner string, lease time.Duration) (lock.Lease, error) {
	answered, call := make(chan answer, 1), rand.Text()
	l.work.Go(func() { answered <- l.eval(context.WithoutCancel(ctx), take, key, owner, lease.Microseconds(), call) })
	select {
	case got := <-answered:
		if l.doubtful(got) {
			l.work.Go(func() { l.giveBack(key, call) })
		}
		if got.err == nil && got.token == 0 {
			got.err = lock.Held(got.left)
		}
		return lock.Lease{Token: got.token, Lease: got.left}, got.err
	case <-ctx.Done():
		l.leave(answered, key, call)
		return lock.Lease{}, context.Cause(ctx)
	}
}

// leaving is how long a call that is given up waits until it has nothing: after that it goes on without its caller.
const leaving = 250 * time.Millisecond

// leave gives back what the call under way gets.
func (l *locks) leave(answered <-chan answer, key, call string) {
	left := make(chan struct{})
	l.work.Go(func() {
		defer close(left)
		if got := <-answered; got.token != 0 || l.doubtful(got) {
			l.giveBack(key, call)
		}
	})
	timer := time.NewTimer(leaving)
	defer timer.Stop()
	select {
	case <-left:
	case <-timer.C:
	}
}

// doubtful tells whether the lock may have been taken.
func (*locks) doubtful(a answer) bool {
	var d *components.Detail
	return errors.As(a.err, &d) && d.Reason == backend.ReasonOutcomeUnknown
}

// giving is how long giveBack tries: then the lease has to run out.
const giving = 10 * time.Second

// giveBack frees a lock that was given to a call, which was not told, unless another call of its owner was. The server may not have heard
// of the call: then what its owner has is of another one.
func (l *locks) giveBack(key, call string) {
	ctx, cancel := context.WithTimeout(l.closing, giving)
	defer cancel()
	for pause := (backend.Backoff{}); ; {
		got := l.eval(ctx, giveBack, key, call)
		if !errors.Is(got.err, components.ErrUnavailable) || pause.Wait(ctx) != nil {
			return
		}
	}
}

func (l *locks) Renew(ctx context.Context, key string, token uint64, lease time.Duration) (time.Duration, error) {
	got := l.eval(ctx, renew, key, number(token), lease.Microseconds())
	return got.left, got.held()
}

func (l *locks) Unlock(ctx context.Context, key string, token uint64) error {
	return l.eval(ctx, unlock, key, number(token)).held()
}
