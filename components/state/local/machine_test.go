package local

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/outrigger-mesh/outrigger/components"
	"github.com/outrigger-mesh/outrigger/components/internal/store/db"
	"github.com/outrigger-mesh/outrigger/components/state"
)

// clocks are two that the tests move as they like.
type clocks struct{ wall, uptime atomic.Int64 }

func (c *clocks) pass(d time.Duration) {
	c.wall.Add(int64(d))
	c.uptime.Add(int64(d))
}

// step is what setting the machine's time does.
func (c *clocks) step(d time.Duration) { c.wall.Add(int64(d)) }

// owner is a machine on a store in memory. Its sweeper looks for what has expired only when it is told to.
type owner struct {
	*machine
	*driver
	clocks *clocks
	fs     vfs.FS
	close  func()
}

func own(t *testing.T, fs vfs.FS, c *clocks) *owner {
	t.Helper()
	clock := db.Clock{Boot: "one", Wall: func() time.Time { return time.Unix(1e9, c.wall.Load()) }, Uptime: func() time.Duration { return time.Duration(c.uptime.Load()) }}
	d, err := db.Open(db.Options{Dir: "store", FS: fs, Clock: clock, Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	m := newMachine(d.Space("state"), slog.New(slog.NewTextHandler(t.Output(), nil)))
	o := &owner{machine: m, driver: &driver{options: Options{Durability: "disk", Idempotency: time.Hour, Barriers: 2 * time.Hour, Fences: 3 * time.Hour}, name: "default/"}, clocks: c, fs: fs}
	o.close = func() {
		if err := d.Close(); err != nil {
			t.Error(err)
		}
	}
	return o
}

func start(t *testing.T) *owner {
	t.Helper()
	c := &clocks{}
	c.pass(time.Hour)
	o := own(t, vfs.NewMem(), c)
	t.Cleanup(func() { o.close() })
	return o
}

// restart ends the owner and begins another on the same store.
func (o *owner) restart(t *testing.T) {
	t.Helper()
	o.close()
	*o = *own(t, o.fs, o.clocks)
}

func (o *owner) do(t state.Transaction) (state.Result, error) {
	in, _ := o.driver.request(t)
	out, err := o.machine.transact(context.Background(), in)
	return state.Result{Outcome: out.Outcome, Versions: out.Versions}, blamed(err)
}

func (o *owner) put(t *testing.T, key string, ttl time.Duration) {
	t.Helper()
	if _, err := o.do(ops(setOf(key, ttl))); err != nil {
		t.Fatal(err)
	}
}

func setOf(key string, ttl time.Duration) state.Operation {
	return state.Operation{Kind: state.Set, Key: key, Item: state.Item{Value: []byte("v"), TTL: ttl}}
}

func ops(all ...state.Operation) state.Transaction { return state.Transaction{Operations: all} }

func (o *owner) left(t *testing.T, key string) time.Duration {
	t.Helper()
	f, err := o.machine.get(t.Context(), getIn{o.key(items, key)})
	switch {
	case err != nil:
		t.Fatal(err)
	case f.Record == nil:
		return -1
	}
	return f.TTL
}

// records counts what is in the store, expired or not.
func (o *owner) records(t *testing.T) (n int) {
	t.Helper()
	v := o.space.View()
	defer v.Close()
	for range v.Scan(nil, nil) {
		n++
	}
	if v.Err() != nil {
		t.Fatal(v.Err())
	}
	return n
}

func (o *owner) sweepAll(t *testing.T) {
	t.Helper()
	for more, err := true, error(nil); more; {
		if more, err = o.sweepSome(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
}

func TestSettingTheTimeOfDayChangesNoTimeToLive(t *testing.T) {
	for _, step := range []time.Duration{time.Hour, -time.Hour} {
		o := start(t)
		o.put(t, "k", time.Minute)
		o.clocks.step(step)
		if left := o.left(t, "k"); left != time.Minute {
			t.Errorf("after a step of %s: %s left, want a minute", step, left)
		}
		o.put(t, "later", time.Minute)
		o.clocks.pass(30 * time.Second)
		o.clocks.step(-2 * step)
		if left := o.left(t, "k"); left != 30*time.Second {
			t.Errorf("after a step back of %s: %s left, want 30 s", step, left)
		}
		o.restart(t)
		o.clocks.step(step)
		o.clocks.pass(30*time.Second - 1)
		if left := o.left(t, "k"); left != 1 {
			t.Errorf("after a step of %s and a restart: %s left, want 1 ns", step, left)
		}
		o.clocks.pass(1)
		if a, b := o.left(t, "k"), o.left(t, "later"); a != -1 || b != -1 {
			t.Errorf("when their time is over: %s and %s left", a, b)
		}
	}
}

func TestSweepTakesTheRoomOfWhatHasExpired(t *testing.T) {
	o := start(t)
	const many = 2*sweepStep + 10
	for i := range many {
		o.put(t, fmt.Sprint("k", i), time.Minute)
	}
	o.put(t, "written anew", time.Minute)
	o.put(t, "written anew", 0)
	o.put(t, "longer", time.Minute)
	o.put(t, "longer", time.Hour)
	o.put(t, "gone", time.Minute)
	if _, err := o.do(ops(state.Operation{Kind: state.Delete, Key: "gone"})); err != nil {
		t.Fatal(err)
	}
	if n := o.records(t); n != 2*many+3 {
		t.Errorf("%d records; an item that expires has two", n)
	}
	o.clocks.pass(time.Minute - 1)
	o.sweepAll(t)
	if n := o.records(t); n != 2*many+3 {
		t.Errorf("%d records are left before their time is over", n)
	}
	o.clocks.pass(1)
	more, err := o.sweepSome(t.Context())
	if n := o.records(t); err != nil || !more || n != 2*many+3-2*sweepStep {
		t.Errorf("%d records after one step, more %v, %v", n, more, err)
	}
	o.sweepAll(t)
	if n := o.records(t); n != 3 || o.left(t, "written anew") != 0 || o.left(t, "longer") <= 0 {
		t.Errorf("%d records are left of 3", n)
	}
}

func TestSweepLeavesWhatWasWrittenMeanwhile(t *testing.T) {
	o := start(t)
	o.put(t, "a", time.Minute)
	o.put(t, "b", time.Minute)
	o.put(t, "c", time.Minute)
	o.clocks.pass(time.Minute)
	due, err := o.due()
	if err != nil || len(due) != 3 {
		t.Fatalf("%d are due, %v", len(due), err)
	}
	o.put(t, "a", 0)
	o.put(t, "b", time.Minute)
	if err := o.remove(t.Context(), due); err != nil {
		t.Fatal(err)
	}
	if a, b := o.left(t, "a"), o.left(t, "b"); a != 0 || b != time.Minute || o.records(t) != 3 {
		t.Errorf("%s and %s are left, %d records", a, b, o.records(t))
	}
}

func TestHowLongRecordsAreKept(t *testing.T) {
	o := start(t)
	key := ops(setOf("k", 0))
	key.IdempotencyKey, key.Digest = "once", "digest"
	first, err := o.do(key)
	if err != nil {
		t.Fatal(err)
	}
	branch := ops(setOf("k", 0))
	branch.Barrier = state.Barrier{GID: "g", Branch: "b", Op: "cancel"}
	guarded := ops(setOf("k", 0))
	guarded.Fence = state.Fence{Component: "default", Name: "l", Token: 5}
	older := guarded
	older.Fence.Token = 4
	outcome := func(tx state.Transaction, want state.Outcome) {
		t.Helper()
		if r, err := o.do(tx); err != nil || r.Outcome != want {
			t.Errorf("%q, %v; want %q", r.Outcome, err, want)
		}
	}
	outcome(branch, state.Empty)
	outcome(guarded, state.Applied)
	o.clocks.pass(time.Hour - 1)
	o.restart(t)
	o.sweepAll(t)
	if again, err := o.do(key); err != nil || !slices.Equal(again.Versions, first.Versions) {
		t.Errorf("within the time: %v, then %v, %v", first, again, err)
	}
	o.clocks.pass(1)
	if again, err := o.do(key); err != nil || slices.Equal(again.Versions, first.Versions) {
		t.Errorf("after the time: %v again, %v", again, err)
	}
	outcome(branch, state.Repeated)
	o.clocks.pass(time.Hour)
	outcome(branch, state.Empty)
	outcome(guarded, state.Applied) // after two hours of three: they begin anew
	o.clocks.pass(3*time.Hour - 1)
	o.restart(t)
	o.sweepAll(t)
	if _, err := o.do(older); !errors.Is(err, components.ErrPrecondition) {
		t.Errorf("an older token within the time: %v", err)
	}
	o.clocks.pass(1)
	outcome(older, state.Applied)
	o.clocks.pass(4 * time.Hour)
	o.sweepAll(t)
	if n := o.records(t); n != 1 {
		t.Errorf("%d records are left, want the item", n)
	}
}

func TestVersionsOfAnOlderCopyDoNotComeBack(t *testing.T) {
	o := start(t)
	r, err := o.do(ops(setOf("k", 0)))
	if err != nil {
		t.Fatal(err)
	}
	restored := own(t, vfs.NewMem(), o.clocks) // as far back as it goes
	defer restored.close()
	again, err := restored.do(ops(setOf("k", 0)))
	if err != nil || again.Versions[0] == r.Versions[0] {
		t.Errorf("version %s again, %v", again.Versions, err)
	}
	before, _, _ := strings.Cut(r.Versions[0], "-")
	if after, _, _ := strings.Cut(again.Versions[0], "-"); after != before {
		t.Errorf("the numbers of the versions are %s and %s: the copy is not as far back as it was to be", before, after)
	}
}
