package local

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/outrigger-mesh/outrigger/components"
	"github.com/outrigger-mesh/outrigger/components/internal/store/db"
)

// rig is a store with a clock that the test sets, and a machine on it.
type rig struct {
	*machine
	t      *testing.T
	passed atomic.Int64 // on the clock
	disk   disk
	log    slog.Handler
	stop   func()
}

// disk is the machine's, and has little room left when the test says so.
type disk struct {
	vfs.FS
	full atomic.Bool
}

func (d *disk) GetDiskUsage(path string) (u vfs.DiskUsage, err error) {
	if u, err = d.FS.GetDiskUsage(path); d.full.Load() {
		u.AvailBytes = 8 << 20
	}
	return u, err
}

var hourly = settings{Durability: "os", Retention: time.Hour, RetentionBytes: 1 << 30, Groups: 3 * time.Hour, Idempotency: time.Hour}

func newRig(t *testing.T, log slog.Handler) *rig {
	t.Helper()
	r := &rig{t: t, log: log, disk: disk{FS: vfs.Default}}
	d, err := db.Open(db.Options{Dir: t.TempDir(), FS: &r.disk, Logger: slog.New(slog.DiscardHandler), Clock: db.Clock{Boot: "one",
		Uptime: func() time.Duration { return time.Duration(r.passed.Load()) }, Wall: time.Now}})
	if err != nil {
		t.Fatal(err)
	}
	r.open(d.Space("pubsub"))
	t.Cleanup(func() {
		r.stop()
		if err := d.Close(); err != nil {
			t.Error(err)
		}
	})
	return r
}

func (r *rig) open(space *db.Space) {
	r.t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	m, err := openMachine(ctx, space, slog.New(r.log))
	if err != nil {
		r.t.Fatal(err)
	}
	r.machine = m.(*machine)
	r.stop = func() {
		cancel()
		m.Close()
	}
}

// restart has another owner take over, who cannot read some records.
func (r *rig) restart(unreadable ...[]byte) {
	r.t.Helper()
	r.stop()
	for _, key := range unreadable {
		r.later(key)
	}
	r.open(r.space)
}

// publications are n events of a topic.
func publications(topic, idempotencyKey string, n int) publishIn {
	in := publishIn{Component: "default", Settings: hourly, Events: make([]publication, n)}
	for i := range in.Events {
		in.Events[i] = publication{Namespace: "ns", Topic: topic, Event: &event{}, Key: idempotencyKey}
	}
	return in
}

func (r *rig) send(topic, idempotencyKey string, n int) []published {
	r.t.Helper()
	out, err := r.publish(r.t.Context(), publications(topic, idempotencyKey, n))
	if err != nil {
		r.t.Fatal(err)
	}
	return out.Results
}

func (r *rig) mustSweep() {
	r.t.Helper()
	if err := r.sweep(r.t.Context()); err != nil {
		r.t.Fatal(err)
	}
}

// keys are those of records that begin with one of some bytes.
func (r *rig) keys(kinds string) (all [][]byte) {
	r.t.Helper()
	v := r.space.View()
	defer v.Close()
	for _, kind := range []byte(kinds) {
		for key := range v.Scan([]byte{kind}, []byte{kind + 1}) {
			all = append(all, append([]byte(nil), key...))
		}
	}
	if v.Err() != nil {
		r.t.Fatal(v.Err())
	}
	return all
}

// TestRetentionByTime sweeps more than one step removes.
func TestRetentionByTime(t *testing.T) {
	r := newRig(t, slog.DiscardHandler)
	r.send("t", "once", 1)
	r.send("t", "", 2*maxSweep+10)
	r.passed.Add(int64(time.Hour / 2))
	r.send("t", "", 5)
	before := 2*maxSweep + 16 + 2
	if n := len(r.keys("eix")); n != before {
		t.Fatalf("%d records, want %d", n, before)
	}
	r.mustSweep()
	if n := len(r.keys("eix")); n != before {
		t.Errorf("%d records after a sweep in which nothing was due, want %d", n, before)
	}
	r.passed.Add(int64(time.Hour/2 + time.Minute))
	r.mustSweep()
	if n := len(r.keys("eix")); n != 5 {
		t.Errorf("%d records are left, want the 5 events of the last hour", n)
	}
}

// On a full disk what is past its time goes, though that is written down: nothing else would make room.
func TestRetentionOnAFullDisk(t *testing.T) {
	r := newRig(t, slog.DiscardHandler)
	r.send("t", "once", 10)
	r.send("u", "", 10)
	r.passed.Add(int64(time.Minute)) // a group that was seen at 0 is taken for one of which that is not known
	_, leave := r.join("gone")
	leave()
	r.join("stays")
	r.disk.full.Store(true)
	r.until("the disk is full", func() bool {
		_, err := r.publish(t.Context(), publications("t", "", 1))
		return errors.Is(err, components.ErrExhausted)
	})
	r.passed.Add(int64(10 * time.Hour))
	r.mustSweep()
	if n := len(r.keys("eix")); n != 0 {
		t.Errorf("%d records of events are left", n)
	}
	if n := len(r.keys("g")); n != 1 {
		t.Errorf("%d groups are left, want the one that has a member", n)
	}
}

// On a full disk it is said once that what was settled is not kept, though that is tried again and again; and it is kept when there is room.
func TestWhatIsNotKeptIsSaidOnce(t *testing.T) {
	var log bytes.Buffer
	r := newRig(t, slog.NewTextHandler(&log, nil))
	r.send("t", "", 100)
	m, leave := r.join("g")
	all := r.get(m, 100)
	r.disk.full.Store(true)
	r.until("the disk is full", func() bool {
		_, err := r.publish(t.Context(), publications("t", "", 1))
		return errors.Is(err, components.ErrExhausted)
	})
	low := func() uint64 {
		v := r.space.View()
		defer v.Close()
		record, _, err := v.Get(m.g.key)
		var g groupRecord
		if err != nil || decode(m.g.key, record, &g) != nil {
			t.Fatal(err)
		}
		return g.Low
	}
	for _, one := range all[:5] {
		m.hear(up{Settled: []settled{{Serial: one.Serial}}})
		time.Sleep(2 * keepEvery)
	}
	r.disk.full.Store(false)
	r.until("it is kept", func() bool { return low() == 5 })
	leave()
	r.stop() // nothing more is logged
	if n := strings.Count(log.String(), "could not be kept"); n != 1 {
		t.Errorf("said %d times:\n%s", n, &log)
	}
	r.open(r.space)
}
