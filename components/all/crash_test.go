//go:build !race

// Package all_test shows what all local drivers together promise when the power goes.
package all_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"os"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/outrigger-mesh/outrigger/components"
	"github.com/outrigger-mesh/outrigger/components/internal/store"
	"github.com/outrigger-mesh/outrigger/components/internal/store/db"
	"github.com/outrigger-mesh/outrigger/components/lock"
	locks "github.com/outrigger-mesh/outrigger/components/lock/local"
	"github.com/outrigger-mesh/outrigger/components/pubsub"
	events "github.com/outrigger-mesh/outrigger/components/pubsub/local"
	"github.com/outrigger-mesh/outrigger/components/sequence"
	sequences "github.com/outrigger-mesh/outrigger/components/sequence/local"
	"github.com/outrigger-mesh/outrigger/components/state"
	states "github.com/outrigger-mesh/outrigger/components/state/local"
)

// Each cut of the power leaves the disk as it may be then: what was synced, and of the rest some blocks and not others.
const (
	each      = 1000 // acknowledged writes of state and of pubsub
	atLeast   = 20   // of state between two cuts
	betweenAt = 500  // microseconds that a machine runs at least until the next cut
	betweenTo = 9000
)

// sidecar is the local drivers on one store.
type sidecar struct {
	fs       *vfs.MemFS
	d        *db.DB
	state    state.Driver
	pubsub   pubsub.Driver
	lock     lock.Driver
	sequence sequence.Driver
	close    func()
}

func boot(t *testing.T, fs *vfs.MemFS, below vfs.FS) (*sidecar, error) {
	t.Helper()
	ctx, log := context.Background(), slog.New(slog.DiscardHandler)
	d, err := db.Open(db.Options{Dir: "store", FS: below, Logger: log})
	if err != nil {
		return nil, err
	}
	env := components.Env{ID: components.ID{Name: "default"}, DataDir: "/", Logger: log, Shared: components.NewShared()}
	link, err := store.Lend(ctx, env, d)
	if err != nil {
		t.Fatal(err)
	}
	s := &sidecar{fs: fs, d: d}
	var errs [4]error
	s.state, errs[0] = states.Open(ctx, env, states.Options{Durability: "disk", Idempotency: time.Hour, Barriers: time.Hour})
	s.pubsub, errs[1] = events.Open(ctx, env, events.Options{Durability: "disk", Delivery: pubsub.DefaultPolicy, Retention: time.Hour, RetentionBytes: 1 << 30, Idempotency: time.Hour})
	s.lock, errs[2] = locks.Open(ctx, env, locks.Options{Durability: "disk"})
	s.sequence, errs[3] = sequences.Open(ctx, env, sequences.Options{Ahead: 10})
	if err := errors.Join(errs[:]...); err != nil {
		t.Fatal(err)
	}
	s.close = func() {
		for _, one := range []any{s.state, s.pubsub, s.lock, s.sequence} {
			if err := one.(components.Closer).Close(ctx); err != nil {
				t.Error(err)
			}
		}
		link.Close()
		if err := d.Close(); err != nil {
			t.Error(err)
		}
	}
	return s, nil
}

// acknowledged is what callers were told.
type acknowledged struct {
	mu                sync.Mutex
	state, events     []string
	ids               map[int64]int // by how often they were given
	token             uint64        // the newest
	repeated, backwds int
}

func (a *acknowledged) did(note func()) {
	a.mu.Lock()
	defer a.mu.Unlock()
	note()
}

// await waits until so much of state is acknowledged.
func (a *acknowledged) await(t *testing.T, n int) {
	t.Helper()
	for late := time.Now().Add(time.Minute); ; time.Sleep(100 * time.Microsecond) {
		a.mu.Lock()
		there := len(a.state)
		a.mu.Unlock()
		if there >= n {
			return
		}
		if time.Now().After(late) {
			t.Fatalf("%d writes are acknowledged, want %d", there, n)
		}
	}
}

func note(all []string, key string, enough int) []string {
	if len(all) == enough {
		return all
	}
	return append(all, key)
}

// work does what applications do until ctx ends.
func (s *sidecar) work(ctx context.Context, a *acknowledged, round, enough int) {
	var all sync.WaitGroup
	defer all.Wait()
	for w := range 3 {
		all.Go(func() {
			for i := 0; ctx.Err() == nil; i++ {
				key := fmt.Sprintf("shop/orders/%d-%d-%d", round, w, i)
				_, err := s.state.Transact(ctx, state.Transaction{Operations: []state.Operation{{Kind: state.Set, Key: key, Item: state.Item{Value: []byte(key)}}}})
				if err == nil {
					a.did(func() { a.state = note(a.state, key, enough) })
				}
				results, err := s.pubsub.Publish(ctx, []pubsub.Publication{{Topic: topic, Event: pubsub.Event{ID: key, Data: []byte(key)}}})
				if err == nil && results[0].Err == nil {
					a.did(func() { a.events = note(a.events, key, enough) })
				}
			}
		})
	}
	all.Go(func() {
		for ctx.Err() == nil {
			if id, err := s.sequence.Next(ctx, "shop/orders/number", 1); err == nil {
				a.did(func() {
					if a.ids[id]++; a.ids[id] > 1 {
						a.repeated++
					}
				})
			}
			s.locked(ctx, a)
		}
	})
}

func (s *sidecar) locked(ctx context.Context, a *acknowledged) {
	lease, err := s.lock.TryLock(ctx, "shop/orders/stock", strconv.FormatUint(rand.Uint64(), 36), time.Millisecond)
	if err != nil {
		return
	}
	a.did(func() {
		if lease.Token <= a.token {
			a.backwds++
		}
		a.token = lease.Token
	})
	_ = s.lock.Unlock(ctx, "shop/orders/stock", lease.Token) // the lease ends by itself
}

var topic = pubsub.Topic{Namespace: "shop", Name: "orders"}

// found counts how much of what was acknowledged is there.
func (s *sidecar) found(t *testing.T, a *acknowledged) (inState, inPubSub int) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	for _, key := range a.state {
		if item, err := s.state.Get(ctx, key); err == nil && string(item.Value) == key {
			inState++
		}
	}
	session, err := s.pubsub.Subscribe(ctx, pubsub.Subscription{Topic: topic, Group: strconv.FormatUint(rand.Uint64(), 36), Earliest: true, AckDeadline: time.Hour})
	if err != nil {
		t.Fatal(err)
	}
	delivered := map[string]bool{}
	for {
		last, stop := context.WithTimeout(ctx, 300*time.Millisecond)
		some, err := session.Fetch(last, pubsub.Room{Messages: 1000, Bytes: 1 << 24})
		stop()
		if err != nil {
			break
		}
		done := make([]pubsub.Settlement, len(some))
		for i, m := range some {
			delivered[string(m.Event.Data)] = true
			done[i] = pubsub.Settlement{Position: m.Position, Outcome: pubsub.Done}
		}
		if err := session.Settle(ctx, done); err != nil {
			t.Fatal(err)
		}
	}
	if err := session.Close(ctx); err != nil {
		t.Fatal(err)
	}
	for _, key := range a.events {
		if delivered[key] {
			inPubSub++
		}
	}
	return inState, inPubSub
}

// disk is a file system whose files sync in a way of their own.
type disk struct {
	vfs.FS
	sync func(vfs.File) error
}

func (d disk) Create(name string, c vfs.DiskWriteCategory) (vfs.File, error) {
	file, err := d.FS.Create(name, c)
	return diskFile{file, d.sync}, err
}

func (d disk) ReuseForWrite(from, name string, c vfs.DiskWriteCategory) (vfs.File, error) {
	file, err := d.FS.ReuseForWrite(from, name, c)
	return diskFile{file, d.sync}, err
}

func (d disk) OpenReadWrite(name string, c vfs.DiskWriteCategory, opts ...vfs.OpenOption) (vfs.File, error) {
	file, err := d.FS.OpenReadWrite(name, c, opts...)
	return diskFile{file, d.sync}, err
}

type diskFile struct {
	vfs.File
	sync func(vfs.File) error
}

func (f diskFile) Sync() error     { return f.sync(f.File) }
func (f diskFile) SyncData() error { return f.sync(f.File) }

// forgets syncs nothing.
func forgets(vfs.File) error { return nil }

// takesTime syncs at some moment of a while, so that several syncs are under way when the power goes.
func takesTime(f vfs.File) error {
	wait := func() { time.Sleep(time.Duration(rand.IntN(100)) * time.Microsecond) }
	wait()
	defer wait()
	return f.Sync()
}

type tally struct {
	cuts, state, inState, events, inPubSub, repeated, backwards int
}

func (c tally) String() string {
	return fmt.Sprintf("state %d/%d acknowledged found | pubsub %d/%d | ids repeated %d | tokens backwards %d",
		c.inState, c.state, c.inPubSub, c.events, c.repeated, c.backwards)
}

// crash cuts the power again and again until enough was acknowledged, and looks after each cut for all that ever was.
func crash(t *testing.T, seed uint64, enough int, below func(vfs.FS) vfs.FS) (c tally, err error) {
	rng := rand.New(rand.NewPCG(seed, 0))
	fs, a := vfs.NewCrashableMem(), &acknowledged{ids: map[int64]int{}}
	for ; len(a.state) < enough || len(a.events) < enough; c.cuts++ {
		s, err := boot(t, fs, below(fs))
		if err != nil {
			return c, err
		}
		ctx, stop := context.WithCancel(context.Background())
		next := min(len(a.state)+atLeast, enough)
		var working sync.WaitGroup
		working.Go(func() { s.work(ctx, a, c.cuts, enough) })
		a.await(t, next)
		time.Sleep(time.Duration(betweenAt+rng.IntN(betweenTo-betweenAt)) * time.Microsecond)
		a.mu.Lock() // what is acknowledged from here on may be lost with the old machine
		fs = fs.CrashClone(vfs.CrashCloneCfg{UnsyncedDataPercent: rng.IntN(101), RNG: rng})
		before := &acknowledged{state: a.state[:len(a.state):len(a.state)], events: a.events[:len(a.events):len(a.events)], ids: a.ids, token: a.token, repeated: a.repeated, backwds: a.backwds}
		a.ids = map[int64]int{}
		a.mu.Unlock()
		stop()
		working.Wait()
		s.close()
		a = before
	}
	s, err := boot(t, fs, below(fs))
	if err != nil {
		return c, err
	}
	defer s.close()
	c.state, c.events, c.repeated, c.backwards = len(a.state), len(a.events), a.repeated, a.backwds
	c.inState, c.inPubSub = s.found(t, a)
	return c, nil
}

func seed(t *testing.T) uint64 {
	if text := os.Getenv("SEED"); text != "" {
		n, err := strconv.ParseUint(text, 10, 64)
		if err != nil {
			t.Fatal(err)
		}
		return n
	}
	return rand.Uint64()
}

func TestPowerCuts(t *testing.T) {
	n := seed(t)
	c, err := crash(t, n, each, func(fs vfs.FS) vfs.FS { return disk{fs, takesTime} })
	if err != nil {
		t.Fatalf("after %d cuts the store does not open, seed %d: %v", c.cuts, n, err)
	}
	fmt.Printf("%s | cuts %d | seed %d\n", c, c.cuts, n)
	if c.inState != c.state || c.inPubSub != c.events || c.repeated > 0 || c.backwards > 0 {
		t.Error("something that was acknowledged is gone, or came again")
	}
}

// A disk that only says that it has synced is found out.
func TestPowerCutsWithoutSync(t *testing.T) {
	c, err := crash(t, 7, 50, func(fs vfs.FS) vfs.FS { return disk{fs, forgets} })
	if err == nil && c.inState == c.state && c.inPubSub == c.events && c.repeated == 0 && c.backwards == 0 {
		t.Errorf("nothing was missed: %s", c)
	}
}
