package local

import (
	"log/slog"
	"testing"
	"time"

	"github.com/outrigger-mesh/outrigger/components/internal/store/db"
	"github.com/outrigger-mesh/outrigger/components/pubsub"
)

// join is a session without a stream, with room for much. It leaves when left is called, or with the test.
func (r *rig) join(group string) (m *member, left func()) {
	r.t.Helper()
	s := &start{Component: "default", Namespace: "ns", Topic: "t", Group: group, Settings: hourly, Earliest: true, AckDeadline: time.Minute}
	m, err := r.machine.join(r.t.Context(), s, func(error) {})
	if err != nil {
		r.t.Fatal(err)
	}
	r.t.Cleanup(m.leave)
	m.hear(up{Messages: 1000, Bytes: 1 << 30})
	return m, m.leave
}

// get waits for n deliveries.
func (r *rig) get(m *member, n int) (all []message) {
	r.t.Helper()
	for late := time.After(20 * time.Second); len(all) < n; {
		select {
		case <-m.ready:
			all = append(all, m.take()...)
		case <-late:
			r.t.Fatalf("%d of %d deliveries have come", len(all), n)
		}
	}
	return all
}

// until waits for what is done in the background.
func (r *rig) until(what string, done func() bool) {
	r.t.Helper()
	for end := time.Now().Add(20 * time.Second); !done(); time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			r.t.Fatal("it never happens that", what)
		}
	}
}

// TestAttemptsGoWithTheirEvents has retention remove events that were tried: all of them, and those before one that stays.
func TestAttemptsGoWithTheirEvents(t *testing.T) {
	for name, stays := range map[string]int{"all": 0, "those before": 2} {
		t.Run(name, func(t *testing.T) {
			r := newRig(t, slog.DiscardHandler)
			r.send("t", "", 3)
			m, leave := r.join("g")
			var tried []settled
			for _, one := range r.get(m, 3) {
				tried = append(tried, settled{one.Serial, pubsub.Again, 24 * time.Hour})
			}
			m.hear(up{Settled: tried})
			r.until("the attempts are kept", func() bool { return len(r.keys("r")) == 3 })
			leave()
			r.passed.Add(int64(time.Hour / 2))
			if stays > 0 {
				r.send("t", "", stays)
			}
			r.restart()
			r.passed.Add(int64(time.Hour/2 + time.Minute))
			r.mustSweep()
			if n := len(r.keys("e")); n != stays {
				t.Fatalf("%d events are left, want %d", n, stays)
			}
			m, _ = r.join("g")
			r.get(m, stays)
			r.until("the attempts of what is gone are removed", func() bool { return len(r.keys("r")) <= stays })
		})
	}
}

// TestAttemptsOfWhatIsSettledAreRemoved is for stores that have such records.
func TestAttemptsOfWhatIsSettledAreRemoved(t *testing.T) {
	r := newRig(t, slog.DiscardHandler)
	r.send("t", "", 1)
	m, leave := r.join("g")
	m.hear(up{Settled: []settled{{Serial: r.get(m, 1)[0].Serial}}})
	leave()
	r.stop()
	err := r.space.Update(t.Context(), db.OS, func(tx *db.Tx) error {
		tx.Set(retryKey(m.g.id, 1), encode(retryRecord{Attempts: 1}))
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	r.open(r.space)
	r.join("g")
	r.until("the attempts are removed", func() bool { return len(r.keys("r")) == 0 })
}

// TestAMachineThatSleeps: what is due when it wakes comes then, and not as much later.
func TestAMachineThatSleeps(t *testing.T) {
	t.Parallel()
	r := newRig(t, slog.DiscardHandler)
	r.send("t", "", 1)
	m, _ := r.join("g")
	m.hear(up{Settled: []settled{{r.get(m, 1)[0].Serial, pubsub.Again, time.Hour}}})
	r.until("it waits", func() bool { return len(r.keys("r")) == 1 })
	r.passed.Add(int64(time.Hour)) // no timer has run meanwhile
	r.get(m, 1)
}
