package local_test

import (
	"context"
	"errors"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"strconv"
	"sync/atomic"
	"testing"
	"time"

	"github.com/outrigger-mesh/outrigger/components"
	"github.com/outrigger-mesh/outrigger/components/internal/store"
	"github.com/outrigger-mesh/outrigger/components/internal/store/db"
	"github.com/outrigger-mesh/outrigger/components/pubsub"
	"github.com/outrigger-mesh/outrigger/components/pubsub/local"
)

var topic = pubsub.Topic{Namespace: "shop", Name: "t"}

func publication(data, key string) pubsub.Publication {
	return pubsub.Publication{Topic: topic, Event: pubsub.Event{ID: data, Data: []byte(data), OrderingKey: key}}
}

func publish(t *testing.T, d pubsub.Driver, all ...pubsub.Publication) []pubsub.Result {
	t.Helper()
	results, err := d.Publish(t.Context(), all)
	if err != nil {
		t.Fatal(err)
	}
	return results
}

func subscribe(t *testing.T, d pubsub.Driver, group string) pubsub.Session {
	t.Helper()
	s, err := d.Subscribe(t.Context(), pubsub.Subscription{Topic: topic, Group: group, Earliest: true, AckDeadline: 30 * time.Second})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close(context.Background()) })
	return s
}

// fetch waits for n messages.
func fetch(t *testing.T, s pubsub.Session, n int) (all []pubsub.Message) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	for len(all) < n {
		some, err := s.Fetch(ctx, pubsub.Room{Messages: n - len(all), Bytes: 1 << 20})
		if err != nil {
			t.Fatalf("%d of %d messages have come: %v", len(all), n, err)
		}
		all = append(all, some...)
	}
	return all
}

func want(t *testing.T, m pubsub.Message, data string, attempt int) {
	t.Helper()
	if string(m.Event.Data) != data || m.Attempt != attempt {
		t.Errorf("fetched was %q, attempt %d; want %q, attempt %d", m.Event.Data, m.Attempt, data, attempt)
	}
}

// TestACrashLosesNothing goes on from a copy of the folder as it is while the store is in use: what a kill -9 leaves.
func TestACrashLosesNothing(t *testing.T) {
	dir := t.TempDir()
	d := opener(dir)(t, pubsub.DefaultPolicy)
	t.Cleanup(func() { _ = d.(components.Closer).Close(context.Background()) })
	s := subscribe(t, d, "g")
	publish(t, d, publication("settled", "a"), publication("in flight", "b"), publication("delayed", "c"), publication("returned", "d"), publication("behind", "c"))
	position := map[string]string{}
	for _, m := range fetch(t, s, 4) {
		position[string(m.Event.Data)] = m.Position
	}
	begun := time.Now()
	const delay = 3 * time.Second
	if err := s.Settle(t.Context(), []pubsub.Settlement{{Position: position["settled"]}, {Position: position["delayed"], Outcome: pubsub.Again, Delay: delay},
		{Position: position["returned"], Outcome: pubsub.Returned}}); err != nil {
		t.Fatal(err)
	}
	again := fetch(t, s, 1)[0]
	want(t, again, "returned", 1)
	time.Sleep(time.Second) // far more than what may be in memory only
	copied := t.TempDir()
	copyFiles(t, copied, dir)
	after := opener(copied)(t, pubsub.DefaultPolicy)
	t.Cleanup(func() { _ = after.(components.Closer).Close(context.Background()) })
	s = subscribe(t, after, "g")
	now := fetch(t, s, 2)
	want(t, now[0], "in flight", 2)
	want(t, now[1], "returned", 2)
	late := fetch(t, s, 1)[0]
	want(t, late, "delayed", 2)
	if passed := time.Since(begun); passed < delay {
		t.Errorf("what was delayed by %s came again after %s", delay, passed)
	}
	if err := s.Settle(t.Context(), []pubsub.Settlement{{Position: late.Position}}); err != nil {
		t.Fatal(err)
	}
	want(t, fetch(t, s, 1)[0], "behind", 1)
}

// copyFiles leaves out sockets.
func copyFiles(t *testing.T, to, from string) {
	t.Helper()
	err := filepath.WalkDir(from, func(path string, entry fs.DirEntry, err error) error {
		relative, fault := filepath.Rel(from, path)
		switch {
		case err != nil || fault != nil:
			return errors.Join(err, fault)
		case entry.IsDir():
			return os.MkdirAll(filepath.Join(to, relative), 0o700)
		case !entry.Type().IsRegular():
			return nil
		}
		content, err := os.ReadFile(path)
		if errors.Is(err, fs.ErrNotExist) { // the engine has removed it meanwhile
			return nil
		}
		if err != nil {
			return err
		}
		return os.WriteFile(filepath.Join(to, relative), content, 0o600)
	})
	if err != nil {
		t.Fatal(err)
	}
}

// clock is one that a test sets.
type clock struct{ passed atomic.Int64 }

func (c *clock) forward(d time.Duration) { c.passed.Add(int64(d)) }

// timed opens drivers on a store whose clock the test sets.
func timed(t *testing.T, c *clock) func(o local.Options) pubsub.Driver {
	t.Helper()
	begun := time.Now()
	d, err := db.Open(db.Options{Dir: t.TempDir(), Logger: slog.New(slog.DiscardHandler), Clock: db.Clock{Boot: "one",
		Uptime: func() time.Duration { return time.Since(begun) + time.Duration(c.passed.Load()) },
		Wall:   func() time.Time { return time.Now().Add(time.Duration(c.passed.Load())) }}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := d.Close(); err != nil {
			t.Error(err)
		}
	})
	env := components.Env{ID: components.ID{Name: "default"}, Logger: slog.New(slog.DiscardHandler), DataDir: t.TempDir(), Shared: components.NewShared()}
	link, err := store.Lend(t.Context(), env, d)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(link.Close)
	return func(o local.Options) pubsub.Driver {
		driver, err := local.Open(t.Context(), env, o)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = driver.(components.Closer).Close(context.Background()) })
		return driver
	}
}

func options() local.Options {
	defaults, _ := pubsub.Drivers.Defaults("local")
	o := defaults.(local.Options)
	o.Durability = "os"
	return o
}

func TestIdempotencyKeysAreForgotten(t *testing.T) {
	var c clock
	d := timed(t, &c)(options())
	once := publication("1", "")
	once.IdempotencyKey, once.Fingerprint = "app/k", []byte("a")
	publish(t, d, once)
	again := once
	again.Event.ID = "2"
	c.forward(24*time.Hour - time.Minute)
	if r := publish(t, d, again)[0]; r.ID != "1" || r.Err != nil {
		t.Errorf("a minute before its time is over the key answers %q, %v", r.ID, r.Err)
	}
	c.forward(2 * time.Minute)
	if r := publish(t, d, again)[0]; r.ID != "2" || r.Err != nil {
		t.Errorf("after its time the key answers %q, %v", r.ID, r.Err)
	}
}

// TestAFrozenSubscriberLosesWhatItHas has the owner of the store count the deadline too.
func TestAFrozenSubscriberLosesWhatItHas(t *testing.T) {
	var c clock
	d := timed(t, &c)(options())
	frozen := subscribe(t, d, "g")
	publish(t, d, publication("1", "k"), publication("2", "k"))
	had := fetch(t, frozen, 1)[0]
	c.forward(time.Minute)
	other := subscribe(t, d, "g") // which wakes the group
	m := fetch(t, other, 1)[0]
	want(t, m, "1", 2)
	if err := frozen.Settle(t.Context(), []pubsub.Settlement{{Position: had.Position}}); err != nil { // it has woken, too late
		t.Fatal(err)
	}
	if err := other.Settle(t.Context(), []pubsub.Settlement{{Position: m.Position}}); err != nil {
		t.Fatal(err)
	}
	want(t, fetch(t, other, 1)[0], "2", 1)
}

// TestRetentionByBytes publishes more than a topic retains, with a group that has not read it.
func TestRetentionByBytes(t *testing.T) {
	var c clock
	o := options()
	o.RetentionBytes = 64 << 10
	d := timed(t, &c)(o)
	slow := subscribe(t, d, "slow")
	for i := range 40 {
		var all []pubsub.Publication
		for j := range 50 {
			one := publication(strconv.Itoa(50*i+j), "")
			one.Event.Metadata = map[string]string{"filling": string(make([]byte, 100))}
			all = append(all, one)
		}
		publish(t, d, all...)
	}
	for end := time.Now().Add(20 * time.Second); ; time.Sleep(20 * time.Millisecond) {
		s := subscribe(t, d, "g"+strconv.FormatInt(time.Now().UnixNano(), 36))
		first, err := strconv.Atoi(string(fetch(t, s, 1)[0].Event.Data))
		if err != nil {
			t.Fatal(err)
		}
		if first > 1000 { // a record takes more than 100 bytes
			if first > 1900 { // and none takes 640
				t.Errorf("the oldest event is %d: less is kept than was asked for", first)
			}
			break
		}
		if time.Now().After(end) {
			t.Fatalf("the oldest event is still %d", first)
		}
	}
	last := ""
	for last != "1999" {
		all := fetch(t, slow, 1)
		last = string(all[0].Event.Data)
		if err := slow.Settle(t.Context(), []pubsub.Settlement{{Position: all[0].Position}}); err != nil {
			t.Fatal(err)
		}
	}
	publish(t, d, publication("next", ""))
	want(t, fetch(t, slow, 1)[0], "next", 1)
}

// TestWhatIsSettledTooLateComesAgain has the store notice a deadline by a settlement that comes after it.
func TestWhatIsSettledTooLateComesAgain(t *testing.T) {
	var c clock
	d := timed(t, &c)(options())
	s := subscribe(t, d, "g")
	publish(t, d, publication("1", ""))
	had := fetch(t, s, 1)[0]
	c.forward(time.Minute)
	if err := s.Settle(t.Context(), []pubsub.Settlement{{Position: had.Position}}); err != nil {
		t.Fatal(err)
	}
	time.Sleep(200 * time.Millisecond) // so that it is not overtaken
	want(t, fetch(t, s, 1)[0], "1", 2)
}

// TestTheEndOfAStreamKeepsWhatWasSettled has the owner of the store killed right after it.
func TestTheEndOfAStreamKeepsWhatWasSettled(t *testing.T) {
	dir := t.TempDir()
	d := opener(dir)(t, pubsub.DefaultPolicy)
	t.Cleanup(func() { _ = d.(components.Closer).Close(context.Background()) })
	s := subscribe(t, d, "g")
	publish(t, d, publication("1", ""))
	if err := s.Settle(t.Context(), []pubsub.Settlement{{Position: fetch(t, s, 1)[0].Position}}); err != nil {
		t.Fatal(err)
	}
	if err := s.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	copied := t.TempDir()
	copyFiles(t, copied, dir)
	after := opener(copied)(t, pubsub.DefaultPolicy)
	t.Cleanup(func() { _ = after.(components.Closer).Close(context.Background()) })
	publish(t, after, publication("2", ""))
	want(t, fetch(t, subscribe(t, after, "g"), 1)[0], "2", 1)
}

// TestWhatIsOnItsWayIsNoAttempt ends sessions while messages are on their way to them.
func TestWhatIsOnItsWayIsNoAttempt(t *testing.T) {
	d := opener(t.TempDir())(t, pubsub.DefaultPolicy)
	t.Cleanup(func() { _ = d.(components.Closer).Close(context.Background()) })
	over, cancel := context.WithCancel(t.Context())
	cancel()
	came := map[string]int{} // what has come all the same, since it was there when it was asked for
	for i := range 100 {
		publish(t, d, publication(strconv.Itoa(i), ""))
		s := subscribe(t, d, "g")
		some, _ := s.Fetch(over, pubsub.Room{Messages: 1000, Bytes: 1 << 20})
		for _, m := range some {
			came[string(m.Event.Data)]++
		}
		time.Sleep(time.Duration(i) * 10 * time.Microsecond)
		if err := s.Close(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	for _, m := range fetch(t, subscribe(t, d, "g"), 100) {
		want(t, m, string(m.Event.Data), 1+came[string(m.Event.Data)])
	}
}
