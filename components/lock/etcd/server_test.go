//go:build servers

package etcd_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/goleak"

	"github.com/outrigger-mesh/outrigger/components"
	"github.com/outrigger-mesh/outrigger/components/componenttest"
	"github.com/outrigger-mesh/outrigger/components/internal/backend/wiretest"
	"github.com/outrigger-mesh/outrigger/components/internal/etcdconn/etcdtest"
	"github.com/outrigger-mesh/outrigger/components/lock"
	"github.com/outrigger-mesh/outrigger/components/lock/etcd"
	"github.com/outrigger-mesh/outrigger/components/lock/locktest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func open(t *testing.T, o etcd.Options) lock.Driver {
	t.Helper()
	d, err := etcd.Open(t.Context(), components.Env{Logger: slog.New(slog.DiscardHandler)}, o)
	if err != nil {
		t.Fatal(err)
	}
	return d
}

// shortest is the shortest lease that etcd, as it is started for tests, gives.
const shortest = 2 * time.Second

func options(t *testing.T, addresses ...string) etcd.Options {
	t.Helper()
	o := etcd.Options{Etcd: etcdtest.Options(t), Prefix: etcdtest.Prefix(), WaitTTL: shortest}
	if len(addresses) > 0 {
		o.Etcd.Addresses = addresses
	}
	return o
}

func TestConformance(t *testing.T) {
	o := options(t)
	locktest.Suite{Lease: 1500 * time.Millisecond, Tolerance: shortest, Open: func(t *testing.T) lock.Driver { return open(t, o) }}.Run(t)
}

// pair are two drivers of the same locks, one of them at the end of a wire.
type pair struct {
	wire      *wiretest.Wire
	near, far lock.Driver
	waiters   string // what the keys of those who wait for the lock begin with
}

func wired(t *testing.T) pair {
	t.Helper()
	p := pair{wire: wiretest.New(t, etcdtest.Options(t).Addresses[0])}
	o := options(t, p.wire.Addr())
	p.waiters = o.Prefix + "w/" + key + "\x00"
	p.near = open(t, o)
	t.Cleanup(func() { componenttest.Close(t, p.near) })
	o.Etcd.Addresses = etcdtest.Options(t).Addresses
	p.far = open(t, o)
	t.Cleanup(func() { componenttest.Close(t, p.far) })
	return p
}

const key = "ns/app/l"

func try(t *testing.T, d lock.Driver, owner string) (lock.Lease, error) {
	t.Helper()
	return d.TryLock(t.Context(), key, owner, time.Hour)
}

// waits waits for the lock in the background.
func waits(t *testing.T, d lock.Driver, owner string) <-chan lock.Lease {
	t.Helper()
	got := make(chan lock.Lease, 1)
	go func() {
		l, err := d.(lock.Waiter).Lock(t.Context(), key, owner, time.Hour)
		if err != nil {
			t.Errorf("%s: %v", owner, err)
		}
		got <- l
	}()
	return got
}

// queued waits until n wait for the lock.
func (p pair) queued(t *testing.T, n int) {
	t.Helper()
	client := etcdtest.Client(t, etcdtest.Options(t))
	componenttest.Eventually(t, 10*time.Second, func() error {
		got, err := client.Get(t.Context(), p.waiters, clientv3.WithPrefix(), clientv3.WithCountOnly())
		if err == nil && got.Count != int64(n) {
			err = fmt.Errorf("%d wait, not %d", got.Count, n)
		}
		return err
	})
}

func receive(t *testing.T, from <-chan lock.Lease) lock.Lease {
	t.Helper()
	select {
	case l := <-from:
		return l
	case <-time.After(15 * time.Second):
		t.Fatal("it is not given")
		return lock.Lease{}
	}
}

// TestALeaseIsNeverShort, however etcd counts.
func TestALeaseIsNeverShort(t *testing.T) {
	p := wired(t)
	for _, lease := range []time.Duration{2900 * time.Millisecond, 3 * time.Second} {
		began := time.Now()
		first, err := p.near.TryLock(t.Context(), key, "a", lease)
		if err != nil {
			t.Fatal(err)
		}
		if first.Lease > lease {
			t.Errorf("a lease of %s has %s left", lease, first.Lease)
		}
		ctx, cancel := context.WithTimeout(t.Context(), 15*time.Second)
		second, err := p.far.(lock.Waiter).Lock(ctx, key, "b", time.Hour)
		cancel()
		if err != nil || second.Token <= first.Token {
			t.Fatalf("token %d after %d, %v", second.Token, first.Token, err)
		}
		if passed := time.Since(began); passed < lease {
			t.Errorf("a lease of %s was over after %s", lease, passed)
		}
		if err := p.far.Unlock(t.Context(), key, second.Token); err != nil {
			t.Fatal(err)
		}
	}
}

// TestWhatWasTakenUnheardIsGivenBack: the answer is lost, and nobody knows that it has the lock.
func TestWhatWasTakenUnheardIsGivenBack(t *testing.T) {
	p := wired(t)
	for i := range 12 {
		owner := fmt.Sprint("call ", i)
		ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
		asked := make(chan error, 1)
		go func() {
			_, err := p.near.TryLock(ctx, key, owner, time.Hour)
			asked <- err
		}()
		time.Sleep(time.Duration(i) * 500 * time.Microsecond) // so that another answer is lost each time
		p.wire.Set(wiretest.Deaf)
		err := <-asked
		cancel()
		p.wire.Set(wiretest.Whole)
		if err == nil { // it was faster
			if l, err := try(t, p.near, owner); err != nil || p.near.Unlock(t.Context(), key, l.Token) != nil {
				t.Fatal(err)
			}
		}
		l := receive(t, waits(t, p.far, "somebody"))
		if err := p.far.Unlock(t.Context(), key, l.Token); err != nil {
			t.Fatal(err)
		}
	}
}

// TestThePlaceInTheQueue stays over a short outage, and is lost to one that is longer than wait_ttl: who comes back queues anew.
func TestThePlaceInTheQueue(t *testing.T) {
	for _, long := range []bool{false, true} {
		t.Run(fmt.Sprint("long ", long), func(t *testing.T) {
			p := wired(t)
			first, err := try(t, p.far, "first")
			if err != nil {
				t.Fatal(err)
			}
			one := waits(t, p.near, "one")
			p.queued(t, 1)
			two := waits(t, p.far, "two")
			p.queued(t, 2)
			p.wire.Set(wiretest.Cut)
			if long {
				p.queued(t, 1)
			}
			if !long {
				p.wire.Set(wiretest.Whole)
			}
			if err := p.far.Unlock(t.Context(), key, first.Token); err != nil {
				t.Fatal(err)
			}
			order := []<-chan lock.Lease{one, two}
			if long {
				order = []<-chan lock.Lease{two, one}
			}
			last := first.Token
			for i, from := range order {
				l := receive(t, from)
				if l.Token <= last {
					t.Errorf("token %d after %d", l.Token, last)
				}
				last = l.Token
				if i == 0 {
					p.wire.Set(wiretest.Whole)
				}
				if err := p.far.Unlock(t.Context(), key, l.Token); err != nil {
					t.Fatal(err)
				}
			}
		})
	}
}

// TestAnOwnersOtherCallGetsItsLock: it does not wait for what its owner has.
func TestAnOwnersOtherCallGetsItsLock(t *testing.T) {
	p := wired(t)
	first, err := try(t, p.far, "first")
	if err != nil {
		t.Fatal(err)
	}
	one := waits(t, p.near, "twice")
	p.queued(t, 1)
	between := waits(t, p.far, "between")
	p.queued(t, 2)
	two := waits(t, p.near, "twice")
	p.queued(t, 3)
	if err := p.far.Unlock(t.Context(), key, first.Token); err != nil {
		t.Fatal(err)
	}
	a, b := receive(t, one), receive(t, two)
	if a.Token != b.Token {
		t.Errorf("one owner has the tokens %d and %d", a.Token, b.Token)
	}
	if err := p.near.Unlock(t.Context(), key, a.Token); err != nil {
		t.Fatal(err)
	}
	if l := receive(t, between); l.Token <= a.Token {
		t.Errorf("token %d after %d", l.Token, a.Token)
	}
}

// TestTheQueueIsNotPassed by who does not wait, and is bounded.
func TestTheQueueIsNotPassed(t *testing.T) {
	p := wired(t)
	client := etcdtest.Client(t, etcdtest.Options(t))
	place := p.waiters
	if _, err := client.Put(t.Context(), place+"somebody", "x"); err != nil {
		t.Fatal(err)
	}
	if l, err := try(t, p.near, "a"); !errors.Is(err, components.ErrPrecondition) {
		t.Errorf("a lock that somebody waits for is given to who does not: %v, %v", l, err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
	defer cancel()
	if l, err := p.near.(lock.Waiter).Lock(ctx, key, "a", time.Hour); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("a lock that somebody waits for is given to who came later: %v, %v", l, err)
	}
	for i := range 1000 {
		if _, err := client.Put(t.Context(), fmt.Sprint(place, i), "x"); err != nil {
			t.Fatal(err)
		}
	}
	var d *components.Detail
	_, err := p.near.(lock.Waiter).Lock(t.Context(), key, "a", time.Hour)
	if !errors.Is(err, components.ErrExhausted) || !errors.As(err, &d) || d.Reason != components.ReasonOverloaded {
		t.Errorf("one too many: %v", err)
	}
	if _, err := client.Delete(t.Context(), place, clientv3.WithPrefix()); err != nil {
		t.Fatal(err)
	}
	if _, err := try(t, p.near, "a"); err != nil {
		t.Errorf("when nobody waits: %v", err)
	}
}

// TestALateRenewalChangesNothing: a server that was frozen does what it was asked for when it goes on; another lease that was given since stands.
func TestALateRenewalChangesNothing(t *testing.T) {
	p := wired(t)
	got, err := p.far.TryLock(t.Context(), key, "a", time.Minute)
	if err != nil {
		t.Fatal(err)
	}
	late := 0
	for i := range 64 {
		ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
		done := make(chan error, 1)
		go func() {
			_, err := p.near.Renew(ctx, key, got.Token, 10*time.Second)
			done <- err
		}()
		time.Sleep(time.Duration(i%16) * 700 * time.Microsecond) // so that it is at another step each time
		p.wire.Set(wiretest.Stalled)
		if err := <-done; err != nil {
			late++
		}
		cancel()
		if _, err := p.far.Renew(t.Context(), key, got.Token, time.Hour+time.Duration(i)*time.Minute); err != nil {
			t.Fatal(err)
		}
		p.wire.Set(wiretest.Whole)
		componenttest.Eventually(t, 10*time.Second, func() error { _, err := p.near.TryLock(t.Context(), key+"2", "a", time.Minute); return err })
		time.Sleep(20 * time.Millisecond) // for what was on the wire
		_, err := try(t, p.far, "b")
		var d *components.Detail
		if !errors.As(err, &d) || d.RetryAfter < 50*time.Minute {
			t.Fatalf("after %d late renewals a lease of an hour: %v, %v left", late, err, d.RetryAfter)
		}
	}
	if late < 6 {
		t.Errorf("%d of 64 renewals were late: that shows nothing", late)
	}
}

// TestAPlaceThatIsMadeLateDoesNotStay: its lease has ended by then, and the other places of the sidecar hang on another.
func TestAPlaceThatIsMadeLateDoesNotStay(t *testing.T) {
	p := wired(t)
	first, err := try(t, p.far, "first")
	if err != nil {
		t.Fatal(err)
	}
	one := waits(t, p.near, "one")
	p.queued(t, 1)
	client := etcdtest.Client(t, etcdtest.Options(t))
	place := func() (lease clientv3.LeaseID, made int64) {
		t.Helper()
		got, err := client.Get(t.Context(), p.waiters, clientv3.WithPrefix())
		if err != nil || len(got.Kvs) == 0 {
			t.Fatal("there is no place", err)
		}
		return clientv3.LeaseID(got.Kvs[0].Lease), got.Kvs[0].CreateRevision
	}
	lease, made := place()
	p.wire.Set(wiretest.Deaf)
	ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
	defer cancel()
	if l, err := p.near.(lock.Waiter).Lock(ctx, key, "two", time.Hour); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("%v, %v", l, err)
	}
	p.wire.Set(wiretest.Whole)
	componenttest.Eventually(t, 10*time.Second, func() error {
		left, err := client.TimeToLive(t.Context(), lease)
		if err == nil && left.TTL != -1 {
			err = fmt.Errorf("the lease that a late place would hang on has %d s left", left.TTL)
		}
		return err
	})
	p.queued(t, 1)
	if another, again := place(); another == lease || again != made {
		t.Errorf("the place was made in %d, and now in %d; lease %d, then %d", made, again, lease, another)
	}
	if err := p.far.Unlock(t.Context(), key, first.Token); err != nil {
		t.Fatal(err)
	}
	receive(t, one)
}
