package local

import (
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"testing"
	"time"

	"github.com/outrigger-mesh/outrigger/components/internal/store/db"
)

// expectTopics wants so many records of topics.
func (r *rig) expectTopics(when string, n int) {
	r.t.Helper()
	if got := len(r.keys("n")); got != n {
		r.t.Fatalf("%s there are %d records of topics, want %d", when, got, n)
	}
}

// TestTopicsThatAreOverAreForgotten: one goes when it has no event, no group and no idempotency key, and not before.
func TestTopicsThatAreOverAreForgotten(t *testing.T) {
	r := newRig(t, slog.DiscardHandler)
	for i := range 50 {
		r.send(fmt.Sprint("t", i), "", 1)
	}
	r.send("used", "key", 1)
	_, leave := r.join("g") // of topic t
	r.expectTopics("at first", 52)
	pass := func(d time.Duration) {
		r.passed.Add(int64(d))
		r.mustSweep()
	}
	pass(30 * time.Minute)
	r.expectTopics("with events", 52)
	r.send("used", "another", 1) // so that the first event goes, and a key is left
	pass(40 * time.Minute)
	r.expectTopics("with a group, and an event", 2)
	leave()
	pass(time.Hour)
	pass(11 * time.Minute) // what was left of idempotency keys went only then
	r.expectTopics("with a group", 1)
	pass(4 * time.Hour)
	r.expectTopics("with nothing", 0)
	r.mu.Lock()
	places := len(r.places)
	r.mu.Unlock()
	if places != 0 {
		t.Errorf("%d topics are kept in memory", places)
	}
	m, _ := r.join("g")
	r.send("t", "", 3) // anew
	r.get(m, 3)
	r.expectTopics("in the end", 1)
}

// TestKeysKeepTheirTopic: an idempotency key outlives the event.
func TestKeysKeepTheirTopic(t *testing.T) {
	r := newRig(t, slog.DiscardHandler)
	in := publications("t", "key", 1)
	in.Settings.Idempotency = 5 * time.Hour
	send := func() string {
		t.Helper()
		in.Events[0].Event = &event{ID: fmt.Sprint(r.passed.Load())}
		out, err := r.publish(t.Context(), in)
		if err != nil {
			t.Fatal(err)
		}
		return out.Results[0].ID
	}
	first := send()
	r.passed.Add(int64(4 * time.Hour))
	r.mustSweep()
	if n := len(r.keys("e")); n != 0 {
		t.Fatalf("%d events are left", n)
	}
	if again := send(); again != first {
		t.Errorf("the same key gives %q, want the first answer %q", again, first)
	}
}

// TestWhoComesWhileATopicGoes: what is asked of a topic that has been retired since it was found is done with the new one.
func TestWhoComesWhileATopicGoes(t *testing.T) {
	r := newRig(t, slog.DiscardHandler)
	a := address{"default", "ns", "t"}
	stale, err := r.topic(t.Context(), a, &hourly)
	if err != nil {
		t.Fatal(err)
	}
	was := r.place(a)
	if err := r.retire(t.Context(), a); err != nil {
		t.Fatal(err)
	}
	if found, err := r.occupy(t.Context(), was, a, &hourly); found != nil || err != nil {
		t.Errorf("the place that it had: %v, %v", found, err)
	}
	r.expectTopics("after that", 0)
	if err := stale.keep(t.Context()); err != nil {
		t.Error(err)
	}
	g := &group{t: stale, key: groupKey(stale.id, "g")}
	if err := g.create(t.Context(), false); !errors.Is(err, errRetired) {
		t.Errorf("a group of it: %v", err)
	}
	fresh, err := r.topic(t.Context(), address{"default", "ns", "other"}, &hourly)
	if err != nil {
		t.Fatal(err)
	}
	rows := []row{{t: fresh, entry: newEntry(0, &event{}), record: make([]byte, headLength)}, {t: stale, entry: newEntry(0, &event{}), record: make([]byte, headLength)}}
	err = r.space.Update(t.Context(), db.OS, func(tx *db.Tx) error { return storeAll(tx, rows, make([]published, 2), time.Hour) })
	if !errors.Is(err, errRetired) || fresh.assigned != 0 {
		t.Errorf("an event of it: %v; %d events of another were counted", err, fresh.assigned)
	}
	if n := len(r.keys("eg")); n != 0 {
		t.Errorf("%d records of it are there", n)
	}
	r.expectTopics("in the end", 1)
}

// TestATopicThatDoesNotGo: of one whose removal failed nobody knows what is on the disk. It is written again before anything is done.
func TestATopicThatDoesNotGo(t *testing.T) {
	r := newRig(t, slog.DiscardHandler)
	a := address{"default", "ns", "t"}
	r.send("t", "", 1)
	was, err := r.find(t.Context(), a, &hourly)
	if err != nil {
		t.Fatal(err)
	}
	was.retired.Store(true)
	if err := r.space.Update(t.Context(), db.OS, func(tx *db.Tx) error { tx.Delete(was.key); return nil }); err != nil {
		t.Fatal(err)
	}
	r.send("t", "", 1)
	r.restart()
	r.expectTopics("then", 1)
	is, err := r.find(t.Context(), a, &hourly)
	if err != nil {
		t.Fatal(err)
	}
	if is.id != was.id || is.rec.Reached != 2 {
		t.Errorf("topic %d has %d events, want 2 of %d", is.id, is.rec.Reached, was.id)
	}
}

// TestTopicsComeAndGo has topics retired while they are published to and joined for the first time. All that was acknowledged has to be
// a topic's that is there.
func TestTopicsComeAndGo(t *testing.T) {
	r := newRig(t, slog.DiscardHandler)
	for i := range 100 {
		name := fmt.Sprint("t", i)
		var tasks, done sync.WaitGroup
		stop := make(chan struct{})
		tasks.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
					if err := r.retire(t.Context(), address{"default", "ns", name}); err != nil {
						t.Error(err)
						return
					}
				}
			}
		})
		for range 2 {
			done.Go(func() {
				if _, err := r.publish(t.Context(), publications(name, "", 1)); err != nil {
					t.Error(err)
				}
			})
		}
		var joined *member
		done.Go(func() {
			m, err := r.machine.join(t.Context(), &start{Component: "default", Namespace: "ns", Topic: name, Group: "g", Settings: hourly, Earliest: true, AckDeadline: time.Minute}, func(error) {})
			if err != nil {
				t.Error(err)
				return
			}
			joined = m
		})
		done.Wait()
		close(stop)
		tasks.Wait()
		top, err := r.find(t.Context(), address{"default", "ns", name}, &hourly)
		if err != nil {
			t.Fatal(err)
		}
		if top.reached() != 2 || joined == nil || joined.g.t != top {
			t.Fatalf("%s has %d events, want 2; who has joined is of it: %v", name, top.reached(), joined != nil && joined.g.t == top)
		}
		joined.leave()
	}
	r.expectTopics("in the end", 100)
}
