package local_test

import (
	"context"
	"errors"
	"log/slog"
	"sync/atomic"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/outrigger-mesh/outrigger/components"
	"github.com/outrigger-mesh/outrigger/components/internal/store"
	"github.com/outrigger-mesh/outrigger/components/internal/store/db"
	"github.com/outrigger-mesh/outrigger/components/lock"
	"github.com/outrigger-mesh/outrigger/components/lock/local"
)

// machine is a computer whose clocks and power the test has in its hands.
type machine struct {
	fs           *vfs.MemFS
	wall, uptime atomic.Int64
	boot         string
	dir          string // of the store
	files        *db.DB // while it runs
}

func newMachine() *machine {
	m := &machine{fs: vfs.NewCrashableMem(), boot: "first", dir: "store"}
	m.wall.Store(time.Date(2026, 3, 1, 0, 0, 0, 0, time.UTC).UnixNano())
	m.uptime.Store(int64(time.Hour))
	return m
}

// pass lets time pass on both clocks.
func (m *machine) pass(d time.Duration) {
	m.wall.Add(int64(d))
	m.uptime.Add(int64(d))
}

// run opens the store and a driver on it.
func (m *machine) run(t *testing.T, durability string) (d lock.Driver, space *db.Space, stop func()) {
	t.Helper()
	log := slog.New(slog.DiscardHandler)
	files, err := db.Open(db.Options{Dir: m.dir, FS: m.fs, Logger: log, Clock: db.Clock{Boot: m.boot,
		Wall: func() time.Time { return time.Unix(0, m.wall.Load()) }, Uptime: func() time.Duration { return time.Duration(m.uptime.Load()) }}})
	if err != nil {
		t.Fatal(err)
	}
	m.files = files
	env := components.Env{ID: components.ID{Name: "default"}, Logger: log, Shared: components.NewShared()}
	link, err := store.Lend(context.Background(), env, files)
	if err != nil {
		t.Fatal(err)
	}
	d, err = local.Open(context.Background(), env, local.Options{Durability: durability})
	if err != nil {
		t.Fatal(err)
	}
	return d, files.Space("lock"), func() {
		if err := d.(components.Closer).Close(context.Background()); err != nil {
			t.Error(err)
		}
		link.Close()
		if err := files.Close(); err != nil {
			t.Error(err)
		}
	}
}

func take(t *testing.T, d lock.Driver, owner string, lease time.Duration) lock.Lease {
	t.Helper()
	got, err := d.TryLock(t.Context(), "l", owner, lease)
	if err != nil {
		t.Fatalf("%s: %v", owner, err)
	}
	return got
}

func held(t *testing.T, d lock.Driver, most time.Duration) {
	t.Helper()
	_, err := d.TryLock(t.Context(), "l", "another", time.Minute)
	var detail *components.Detail
	if !errors.As(err, &detail) || detail.Reason != lock.ReasonHeld || detail.RetryAfter > most {
		t.Fatalf("%+v, want that it is held for %v at most", err, most)
	}
}

func TestStepsOfTheWallClock(t *testing.T) {
	for _, step := range []time.Duration{time.Hour, -time.Hour} {
		m := newMachine()
		d, _, stop := m.run(t, "disk")
		first := take(t, d, "a", time.Minute)
		m.wall.Add(int64(step))
		held(t, d, time.Minute)
		m.pass(59 * time.Second)
		held(t, d, time.Second)
		stop()
		m.wall.Add(int64(step))
		d, _, stop = m.run(t, "disk")
		held(t, d, 2*time.Second) // a second of the clock may be lost with the process
		m.pass(2 * time.Second)
		if next := take(t, d, "b", time.Minute); next.Token <= first.Token {
			t.Errorf("token %d after %d", next.Token, first.Token)
		}
		stop()
	}
}

// TestAfterAFreeze is about a process that held the store and was stopped while leases ran out: whatever comes first when it goes
// on, the lease is over, and who has waited is served before who comes then.
func TestAfterAFreeze(t *testing.T) {
	for name, first := range map[string]func(t *testing.T, d lock.Driver, token uint64){
		"renew": func(t *testing.T, d lock.Driver, token uint64) {
			lost(t, second(d.Renew(t.Context(), "l", token, time.Hour)))
		},
		"unlock": func(t *testing.T, d lock.Driver, token uint64) { lost(t, d.Unlock(t.Context(), "l", token)) },
		"try":    func(t *testing.T, d lock.Driver, _ uint64) { held(t, d, time.Hour) },
	} {
		t.Run(name, func(t *testing.T) {
			m := newMachine()
			d, _, stop := m.run(t, "disk")
			defer stop()
			before := take(t, d, "a", time.Minute)
			waited := make(chan lock.Lease, 1)
			go func() {
				got, err := d.(lock.Waiter).Lock(t.Context(), "l", "b", time.Hour)
				if err != nil {
					t.Error(err)
				}
				waited <- got
			}()
			time.Sleep(50 * time.Millisecond) // it waits
			m.pass(2 * time.Minute)
			first(t, d, before.Token)
			if got := <-waited; got.Token <= before.Token {
				t.Errorf("token %d after %d", got.Token, before.Token)
			}
		})
	}
}

func second(_ time.Duration, err error) error { return err }

func lost(t *testing.T, err error) {
	t.Helper()
	var detail *components.Detail
	if !errors.As(err, &detail) || detail.Reason != lock.ReasonLost {
		t.Errorf("%v, want LOCK_LOST", err)
	}
}

// TestTokensGrowThoughABackupIsRestored: nobody gets one that somebody may have had after the backup, be it the owner whose lease is in
// the backup.
func TestTokensGrowThoughABackupIsRestored(t *testing.T) {
	m := newMachine()
	d, _, stop := m.run(t, "disk")
	last := take(t, d, "a", 24*time.Hour).Token
	if err := m.files.Backup(t.Context(), "backup", false); err != nil {
		t.Fatal(err)
	}
	for range 3000 {
		m.pass(time.Millisecond)
		if err := d.Unlock(t.Context(), "l", last); err != nil {
			t.Fatal(err)
		}
		last = take(t, d, "b", time.Hour).Token
	}
	stop()
	for _, m.dir = range []string{"second", "third"} {
		if err := db.Restore(m.fs, "backup", m.dir); err != nil {
			t.Fatal(err)
		}
		d, _, stop = m.run(t, "disk")
		held(t, d, 24*time.Hour)
		got := take(t, d, "a", time.Minute)
		if got.Token <= last {
			t.Errorf("%s: token %d after %d", m.dir, got.Token, last)
		}
		if again := take(t, d, "a", time.Hour); again != (lock.Lease{Token: got.Token, Lease: time.Hour}) {
			t.Errorf("%s: %+v, and before %+v", m.dir, again, got)
		}
		last = got.Token
		m.pass(time.Second)
		stop()
	}
}

// TestAHolderOfTheBackup has its lock as long as its lease is.
func TestAHolderOfTheBackup(t *testing.T) {
	m := newMachine()
	d, _, stop := m.run(t, "disk")
	token := take(t, d, "a", time.Hour).Token
	if err := m.files.Backup(t.Context(), "backup", false); err != nil {
		t.Fatal(err)
	}
	stop()
	m.pass(time.Minute)
	m.dir = "backup"
	d, _, stop = m.run(t, "disk")
	defer stop()
	if left, err := d.Renew(t.Context(), "l", token, time.Hour); err != nil || left != time.Hour {
		t.Errorf("%v, %v", left, err)
	}
	if err := d.Unlock(t.Context(), "l", token); err != nil {
		t.Error(err)
	}
	if next := take(t, d, "b", time.Hour).Token; next <= token {
		t.Errorf("token %d after %d", next, token)
	}
}

func TestWhatALossOfPowerLeaves(t *testing.T) {
	for _, durability := range []string{"disk", "os"} {
		m := newMachine()
		var last uint64
		for boot := range 4 {
			d, _, stop := m.run(t, durability)
			if boot > 0 && durability == "disk" {
				held(t, d, time.Hour)
			}
			m.pass(2 * time.Hour)
			for range 50 {
				got := take(t, d, "a", time.Hour)
				if got.Token <= last {
					t.Fatalf("%s: token %d after %d", durability, got.Token, last)
				}
				last = got.Token
				if err := d.Unlock(t.Context(), "l", got.Token); err != nil {
					t.Fatal(err)
				}
			}
			last = take(t, d, "a", time.Hour).Token
			crashed := m.fs.CrashClone(vfs.CrashCloneCfg{}) // nothing of what was not synced
			stop()
			m.fs = crashed
		}
	}
}
