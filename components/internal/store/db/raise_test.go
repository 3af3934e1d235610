package db_test

import (
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/outrigger-mesh/outrigger/components"
	"github.com/outrigger-mesh/outrigger/components/internal/store/db"
)

// computer is one with a disk, whose clocks are the test's.
type computer struct {
	fs     *vfs.MemFS
	wall   time.Time
	uptime time.Duration
	boot   string
}

func newComputer() *computer {
	return &computer{fs: vfs.NewCrashableMem(), wall: time.Date(2026, 3, 1, 0, 0, 0, 0, time.UTC), uptime: time.Hour, boot: "first"}
}

func (c *computer) pass(d time.Duration) {
	c.wall = c.wall.Add(d)
	c.uptime += d
}

func (c *computer) open(dir string) (*db.DB, error) {
	return db.Open(db.Options{Dir: dir, FS: c.fs, Clock: db.Clock{Boot: c.boot,
		Wall: func() time.Time { return c.wall }, Uptime: func() time.Duration { return c.uptime }}})
}

// counter gives numbers as a machine does that keeps them: each with how much they were raised by then.
type counter struct {
	*db.DB
	t *testing.T
}

func (c *computer) counter(t *testing.T, dir string) counter {
	t.Helper()
	d, err := c.open(dir)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := d.Close(); err != nil {
			t.Error(err)
		}
	})
	return counter{d, t}
}

// next draws so many numbers of a key and an id, and answers the last of the numbers, and the id.
func (c counter) next(key string, n uint64) (last, id uint64) {
	c.t.Helper()
	s := c.Space("counter")
	err := s.Update(c.t.Context(), db.Disk, func(tx *db.Tx) error {
		record, _, err := tx.Get([]byte(key))
		var raised uint64
		if err == nil && len(record) > 0 {
			_, err = fmt.Sscan(string(record), &last, &raised)
		}
		last += s.Raised() - raised + n
		tx.Set([]byte(key), fmt.Append(nil, last, " ", s.Raised()))
		id = tx.NextID()
		return err
	})
	if err != nil {
		c.t.Fatal(err)
	}
	return last, id
}

func (c counter) backup(to string) {
	c.t.Helper()
	if err := c.Backup(c.t.Context(), to, false); err != nil {
		c.t.Fatal(err)
	}
}

// TestNumbersOfARestoredStore are greater than those that were given after the backup, whichever copy they are from: of keys that were
// there, and of those that came later.
func TestNumbersOfARestoredStore(t *testing.T) {
	c := newComputer()
	first := c.counter(t, "first")
	old, id := first.next("old", 1)
	first.backup("backup")
	var fresh uint64
	given := func(from counter, name string) {
		t.Helper()
		for range 3 {
			o, i := from.next("old", 100_000)
			f, _ := from.next("new", 100_000)
			if o-100_000 < old || i <= id || f-100_000 < fresh {
				t.Errorf("%s: %d, %d and id %d after %d, %d and %d", name, o-100_000+1, f-100_000+1, i, old, fresh, id)
			}
			old, id, fresh = o, i, f
		}
	}
	given(first, "the first")
	for i, from := range []string{"backup", "backup", "later", "first"} { // of the last no backup was made, but the folder was copied
		name := fmt.Sprint("restored ", i)
		c.pass(time.Minute)
		if i == 2 {
			c.boot = "another machine"
		}
		if err := db.Restore(c.fs, from, name); err != nil {
			t.Fatal(err)
		}
		d := c.counter(t, name)
		given(d, name)
		if i == 1 {
			d.backup("later")
			given(d, name)
		}
	}
	c.pass(time.Minute)
	given(c.counter(t, "backup"), "the backup in its place")
}

func TestAStoreThatIsNoCopyIsNotRaised(t *testing.T) {
	c := newComputer()
	for range 2 {
		d := c.counter(t, "first")
		c.pass(time.Hour)
		if _, id := d.next("k", 1); id > 10_000 || d.Space("counter").Raised() != 0 {
			t.Errorf("id %d, raised by %d", id, d.Space("counter").Raised())
		}
		if err := d.Close(); err != nil {
			t.Fatal(err)
		}
	}
}

// TestRaisedThoughPowerIsLost also has that a copy is raised once only.
func TestRaisedThoughPowerIsLost(t *testing.T) {
	c := newComputer()
	d := c.counter(t, "first")
	d.next("k", 1)
	d.backup("backup")
	c.pass(time.Minute)
	d = c.counter(t, "backup")
	raised := d.Space("counter").Raised()
	lost := c.fs.CrashClone(vfs.CrashCloneCfg{}) // nothing of what was not synced
	if err := d.Close(); err != nil {
		t.Fatal(err)
	}
	c.fs = lost
	c.pass(time.Minute)
	again := c.counter(t, "backup").Space("counter").Raised()
	if raised == 0 || again != raised {
		t.Errorf("raised by %d, and %d when power was lost", raised, again)
	}
}

// TestCopyOfAStoreWithNothing: when it was made nobody knows.
func TestCopyOfAStoreWithNothing(t *testing.T) {
	c := newComputer()
	first := c.counter(t, "first")
	first.backup("backup")
	c.pass(24 * time.Hour)
	last, id := first.next("k", uint64(20*time.Hour))
	got, next := c.counter(t, "backup").next("k", 1)
	if got <= last || next <= id {
		t.Errorf("%d and id %d after %d and %d", got, next, last, id)
	}
}

func TestAClockBeforeTheCopy(t *testing.T) {
	c := newComputer()
	d := c.counter(t, "first")
	d.next("k", 1)
	d.backup("backup")
	c.boot, c.wall = "second", c.wall.Add(-2*time.Hour)
	if d, err := c.open("backup"); !errors.Is(err, components.ErrPrecondition) {
		t.Errorf("%v, want that the clock is to be set", err)
		if err == nil {
			_ = d.Close()
		}
	}
	c.wall = c.wall.Add(2 * time.Hour)
	c.counter(t, "backup").next("k", 1)
}
