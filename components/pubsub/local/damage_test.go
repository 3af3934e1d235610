package local

import (
	"context"
	"errors"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/outrigger-mesh/outrigger/components"
	"github.com/outrigger-mesh/outrigger/components/internal/store"
	"github.com/outrigger-mesh/outrigger/components/internal/store/db"
	"github.com/outrigger-mesh/outrigger/components/pubsub"
)

// said keeps the errors that were logged.
type said struct {
	mu  sync.Mutex
	all []string
}

func (s *said) Enabled(context.Context, slog.Level) bool { return true }
func (s *said) WithAttrs([]slog.Attr) slog.Handler       { return s }
func (s *said) WithGroup(string) slog.Handler            { return s }

func (s *said) Handle(_ context.Context, r slog.Record) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	r.Attrs(func(a slog.Attr) bool {
		if a.Key == "err" {
			s.all = append(s.all, a.Value.String())
		}
		return true
	})
	return nil
}

// once fails unless exactly one error with the words was logged.
func (s *said) once(t *testing.T, words string) {
	t.Helper()
	s.mu.Lock()
	defer s.mu.Unlock()
	n := 0
	for _, text := range s.all {
		if strings.Contains(text, words) {
			n++
		}
	}
	if n != 1 {
		t.Errorf("%q was logged %d times, want once: %q", words, n, s.all)
	}
}

// later writes a record as a version after this one might.
func (r *rig) later(key []byte) {
	r.t.Helper()
	err := r.space.Update(context.Background(), db.OS, func(tx *db.Tx) error {
		tx.Set(key, []byte{format + 1})
		return nil
	})
	if err != nil {
		r.t.Fatal(err)
	}
}

func cannotRead(t *testing.T, err error, words string) {
	t.Helper()
	if !errors.Is(err, components.ErrDamaged) || !strings.Contains(err.Error(), words) {
		t.Errorf("%v, want ErrDamaged with %s", err, words)
	}
}

// TestAnUnreadableTopicIsAlone has one in the middle of others.
func TestAnUnreadableTopicIsAlone(t *testing.T) {
	var log said
	r := newRig(t, &log)
	for _, topic := range []string{"a", "b", "c"} {
		r.send(topic, "once", 1)
	}
	r.restart(address{"default", "ns", "b"}.key())
	r.passed.Add(int64(time.Hour + time.Minute))
	r.mustSweep()
	r.mustSweep()
	if n := len(r.keys("e")); n != 1 {
		t.Errorf("%d events are left, want that of the topic that cannot be read", n)
	}
	if n := len(r.keys("ix")); n != 0 {
		t.Errorf("%d records of idempotency keys are left", n)
	}
	const name = `topic "b" of namespace "ns" in component "default"`
	_, err := r.publish(t.Context(), publications("b", "", 1))
	cannotRead(t, err, name)
	_, err = r.machine.join(t.Context(), &start{Component: "default", Namespace: "ns", Topic: "b", Group: "g", Settings: hourly}, nil)
	cannotRead(t, err, name)
	r.send("a", "", 1)
	r.send("c", "", 1)
	log.once(t, name)
}

func TestAnUnreadableGroupIsAlone(t *testing.T) {
	var log said
	r := newRig(t, &log)
	r.send("t", "", 1)
	open := func(name string) error {
		m, err := r.machine.join(t.Context(), &start{Component: "default", Namespace: "ns", Topic: "t", Group: name, Settings: hourly}, nil)
		if err == nil {
			m.leave()
		}
		return err
	}
	for _, name := range []string{"a", "b", "c"} {
		if err := open(name); err != nil {
			t.Fatal(err)
		}
	}
	keys := r.keys("g")
	r.restart(keys[1], blockKey(groupID(t, r, keys[2]), 0))
	for range 2 {
		cannotRead(t, open("b"), `the record of group "b"`)
		cannotRead(t, open("c"), `group c: data damaged: the record of settled events, block "0"`)
	}
	if err := open("a"); err != nil {
		t.Error(err)
	}
	r.send("t", "", 1)
	log.once(t, `the record of group "b"`)
}

func groupID(t *testing.T, r *rig, key []byte) uint64 {
	t.Helper()
	v := r.space.View()
	defer v.Close()
	record, ok, err := v.Get(key)
	var g groupRecord
	if err != nil || !ok || decode(key, record, &g) != nil {
		t.Fatal(ok, err)
	}
	return g.ID
}

// TestAnUnreadableKeyFailsItsEvent leaves the other events of a call alone, and ends with the key's time.
func TestAnUnreadableKeyFailsItsEvent(t *testing.T) {
	var log said
	r := newRig(t, &log)
	r.send("t", "app/k", 1)
	r.later(r.keys("i")[0])
	in := publications("t", "", 3)
	in.Events[1].Key = "app/k"
	for range 2 {
		out, err := r.publish(t.Context(), in)
		if err != nil {
			t.Fatal(err)
		}
		var faults []int
		for _, one := range out.Results {
			faults = append(faults, one.Fault)
		}
		if !slices.Equal(faults, []int{0, faultDamaged, 0}) {
			t.Fatalf("faults %v, want only that of the second", faults)
		}
	}
	log.once(t, `"app/k"`)
	r.passed.Add(int64(time.Hour + time.Minute))
	r.mustSweep()
	if fault := r.send("t", "app/k", 1)[0].Fault; fault != 0 {
		t.Errorf("fault %d after the key's time", fault)
	}
}

// TestUnreadableEventsAreNotRetainedLonger removes them with the next that can be read.
func TestUnreadableEventsAreNotRetainedLonger(t *testing.T) {
	r := newRig(t, slog.DiscardHandler)
	r.send("t", "", 5)
	keys := r.keys("e")
	for _, i := range []int{0, 1, 3} {
		r.later(keys[i])
	}
	r.passed.Add(int64(time.Hour / 2))
	r.send("t", "", 2)
	r.later(r.keys("e")[5])
	r.passed.Add(int64(time.Hour/2 + time.Minute))
	r.mustSweep()
	if left := r.keys("e"); len(left) != 2 || sequenceOf(left[0]) != 6 {
		t.Errorf("%d events are left, want the last two", len(left))
	}
}

func TestReplayPassesOverWhatIsUnreadable(t *testing.T) {
	r := newRig(t, slog.DiscardHandler)
	r.send("t", "", 4)
	r.later(r.keys("e")[2])
	topic, err := r.find(t.Context(), address{"default", "ns", "t"}, &hourly)
	if err != nil {
		t.Fatal(err)
	}
	for at, want := range map[int64]uint64{1: 0, time.Now().Add(time.Hour).UnixNano(): 4} {
		if low, err := topic.before(at); low != want || err != nil {
			t.Errorf("what begins at %d comes after event %d, %v; want %d", at, low, err, want)
		}
	}
}

// TestAnUnreadableEventEndsTheStream has what is before it handled, and what is after it wait for somebody to decide.
func TestAnUnreadableEventEndsTheStream(t *testing.T) {
	var log said
	d, err := db.Open(db.Options{Dir: t.TempDir(), Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	env := components.Env{ID: components.ID{Name: "default"}, Logger: slog.New(&log), DataDir: t.TempDir(), Shared: components.NewShared()}
	link, err := store.Lend(t.Context(), env, d)
	if err != nil {
		t.Fatal(err)
	}
	defer link.Close()
	defaults, _ := pubsub.Drivers.Defaults("local")
	driver, err := Open(t.Context(), env, defaults.(Options))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = driver.(components.Closer).Close(context.Background()) }()
	r := &rig{t: t, machine: &machine{space: d.Space("pubsub")}}
	var before time.Time
	for _, text := range []string{"1", "2", "3"} {
		before = time.Now()
		if _, err := driver.Publish(t.Context(), []pubsub.Publication{{Topic: pubsub.Topic{Namespace: "ns", Name: "t"}, Event: pubsub.Event{Data: []byte(text)}}}); err != nil {
			t.Fatal(err)
		}
	}
	r.later(r.keys("e")[1])
	join := func(from time.Time) pubsub.Session {
		t.Helper()
		s, err := driver.Subscribe(t.Context(), pubsub.Subscription{Topic: pubsub.Topic{Namespace: "ns", Name: "t"}, Group: "g", Earliest: true,
			AckDeadline: time.Minute, ReplayFrom: from})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = s.Close(context.Background()) })
		return s
	}
	room := pubsub.Room{Messages: 10, Bytes: 1 << 20}
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	s := join(time.Time{})
	for _, step := range []struct {
		text    string
		attempt int
		outcome pubsub.Outcome
	}{{"1", 1, pubsub.Again}, {"1", 2, pubsub.Done}} {
		all, err := s.Fetch(ctx, room)
		if err != nil || len(all) != 1 || string(all[0].Event.Data) != step.text || all[0].Attempt != step.attempt {
			t.Fatalf("fetched was %+v, %v; want %+v", all, err, step)
		}
		if err := s.Settle(ctx, []pubsub.Settlement{{Position: all[0].Position, Outcome: step.outcome, Delay: 200 * time.Millisecond}}); err != nil {
			t.Fatal(err)
		}
	}
	for range 2 {
		_, err = s.Fetch(ctx, room)
		cannotRead(t, err, `topic "t" of namespace "ns" in component "default": data damaged: the record of event "2" `)
		s = join(time.Time{})
	}
	log.once(t, `event "2" `)
	all, err := join(before).Fetch(ctx, room)
	if err != nil || len(all) != 1 || string(all[0].Event.Data) != "3" {
		t.Errorf("after it was passed over, %+v, %v were fetched, want 3", all, err)
	}
}
