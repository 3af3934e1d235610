package local

import (
	"bytes"
	"log/slog"
	"testing"
	"time"

	"github.com/outrigger-mesh/outrigger/components/pubsub"
)

// TestAbandonedGroupsAreForgotten has one group with a member, and one that had one.
func TestAbandonedGroupsAreForgotten(t *testing.T) {
	r := newRig(t, slog.DiscardHandler)
	r.passed.Add(int64(time.Second))
	for range 3 {
		r.send("t", "", 1)
	}
	_, leave := r.join("stays")
	m, gone := r.join("goes")
	var nacked []settled
	for _, one := range r.get(m, 3) {
		nacked = append(nacked, settled{one.Serial, pubsub.Again, 24 * time.Hour})
	}
	nacked[1].Outcome = pubsub.Done
	m.hear(up{Settled: nacked})
	r.until("what became of the events is kept", func() bool { return len(r.keys("r")) >= 2 && len(r.keys("a")) > 0 })
	id := m.g.id
	gone()
	pass := func(d time.Duration, groups int) {
		t.Helper()
		r.passed.Add(int64(d))
		r.mustSweep()
		if n := len(r.keys("g")); n != groups {
			t.Fatalf("there are %d groups, want %d", n, groups)
		}
	}
	pass(2*time.Hour, 2)
	pass(50*time.Minute, 2)
	leave()
	r.stop()
	r.passed.Add(int64(time.Hour)) // nobody is there
	r.open(r.space)
	pass(5*time.Minute, 2) // who was there has the time to come back
	pass(6*time.Minute, 1)
	for _, key := range r.keys("ar") { // others are of who stays, if that was sent something
		if bytes.HasPrefix(key, blocksOf(id)) || bytes.HasPrefix(key, retriesOf(id)) {
			t.Errorf("a record of what it had settled is left: %q", key)
		}
	}
	r.send("t", "", 1)
	m, leave = r.join("stays")
	if first := r.get(m, 1)[0]; first.Attempt != 1 {
		t.Errorf("attempt %d", first.Attempt)
	}
	m.hear(up{Settled: []settled{{Serial: 1}}})
	pass(10*time.Hour, 1)
	leave()
	pass(4*time.Hour, 0)
	m.g.mu.Lock()
	m.g.lowKept-- // as if something could not be kept before
	m.g.mu.Unlock()
	if err := m.g.keep(t.Context()); err != nil || len(r.keys("g")) != 0 {
		t.Errorf("%v, %d groups: one that is forgotten is kept", err, len(r.keys("g")))
	}
	m, _ = r.join("stays") // anew
	r.send("t", "", 1)
	r.get(m, 1)
	if n := len(r.keys("g")); n != 1 {
		t.Errorf("%d groups, want one", n)
	}
}
