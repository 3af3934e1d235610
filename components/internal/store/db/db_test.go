package db_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/outrigger-mesh/outrigger/components/internal/store/db"
)

func open(t *testing.T, fs vfs.FS) *db.DB {
	t.Helper()
	d, err := db.Open(db.Options{Dir: "store", FS: fs, Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	return d
}

func TestWhatWasAcknowledgedIsThereAfterwards(t *testing.T) {
	for _, dur := range []db.Durability{db.Disk, db.OS} {
		fs := vfs.NewMem()
		d := open(t, fs)
		s := d.Space("test")
		var all sync.WaitGroup
		for i := range 100 {
			all.Go(func() {
				err := s.Update(context.Background(), dur, func(tx *db.Tx) error {
					tx.Set(fmt.Append(nil, i), fmt.Append(nil, tx.NextID()))
					return nil
				})
				if err != nil {
					t.Error(err)
				}
			})
		}
		all.Wait()
		if err := d.Close(); err != nil {
			t.Fatal(err)
		}
		d = open(t, fs)
		seen := map[string]bool{}
		v := d.Space("test").View()
		for _, id := range v.Scan(nil, nil) {
			seen[string(id)] = true
		}
		if err := v.Err(); err != nil || len(seen) != 100 {
			t.Errorf("%s: %d different ids are there of 100, %v", dur, len(seen), err)
		}
		v.Close()
		if err := d.Close(); err != nil {
			t.Error(err)
		}
	}
}

func TestAnUpdateThatFailsLeavesNothing(t *testing.T) {
	d := open(t, vfs.NewMem())
	defer d.Close()
	s, broken := d.Space("test"), errors.New("broken")
	err := s.Update(context.Background(), db.Disk, func(tx *db.Tx) error {
		tx.Set([]byte("a"), []byte("1"))
		if v, ok, err := tx.Get([]byte("a")); string(v) != "1" || !ok || err != nil {
			t.Errorf("its own write: %q %v %v", v, ok, err)
		}
		tx.Then(func() { t.Error("it was said to be there") })
		return broken
	})
	v := s.View()
	defer v.Close()
	if _, ok, _ := v.Get([]byte("a")); ok || !errors.Is(err, broken) {
		t.Errorf("there: %v, error %v", ok, err)
	}
}

// counting counts what is read of tables.
type counting struct {
	vfs.FS
	reads atomic.Int64
}

func (c *counting) Open(name string, opts ...vfs.OpenOption) (vfs.File, error) {
	f, err := c.FS.Open(name, opts...)
	if err != nil || !strings.HasSuffix(name, ".sst") {
		return f, err
	}
	return &countedFile{f, c}, nil
}

type countedFile struct {
	vfs.File
	of *counting
}

func (f *countedFile) ReadAt(p []byte, at int64) (int, error) {
	f.of.reads.Add(1)
	return f.File.ReadAt(p, at)
}

// Each key that is new is looked for before: that reads next to nothing.
func TestKeyThatIsNotThereIsNotRead(t *testing.T) {
	disk := newTight()
	held := disk.holds(compaction) // the last level has no filters
	fs := &counting{FS: disk}
	d := open(t, fs)
	defer d.Close()
	defer close(held.release)
	r, value := rand.NewChaCha8([32]byte{}), make([]byte, 20<<10)
	const n = 150
	for i := range n {
		_, _ = r.Read(value)
		if err := set(d, fmt.Sprint("there", i), string(value)); err != nil {
			t.Fatal(err)
		}
	}
	if err := d.Backup(ctx, "backup", false); err != nil { // brings them to the disk
		t.Fatal(err)
	}
	v := d.Space("test").View()
	defer v.Close()
	before := fs.reads.Load()
	for i := range n {
		if _, ok, err := v.Get(fmt.Append(nil, "there", i, "not")); ok || err != nil {
			t.Fatal(ok, err)
		}
	}
	if reads := fs.reads.Load() - before; reads > n/5 {
		t.Errorf("%d reads for %d keys that are not there", reads, n)
	}
}

func TestIDsGrowThoughPowerIsLost(t *testing.T) {
	fs := vfs.NewCrashableMem()
	var greatest uint64
	for range 5 {
		d := open(t, fs)
		var given []uint64
		for range 2000 {
			err := d.Space("test").Update(context.Background(), db.OS, func(tx *db.Tx) error {
				given = append(given, tx.NextID())
				tx.Set([]byte("k"), nil)
				return nil
			})
			if err != nil {
				t.Fatal(err)
			}
		}
		for _, id := range given {
			if id <= greatest {
				t.Fatalf("%d was given after %d", id, greatest)
			}
			greatest = id
		}
		lost := fs.CrashClone(vfs.CrashCloneCfg{}) // nothing of what was not synced
		if err := d.Close(); err != nil {
			t.Fatal(err)
		}
		fs = lost
	}
}

// Tables may have more than what of the journal was synced. What is committed afterwards must not take their numbers.
func TestTablesAreAheadOfTheJournal(t *testing.T) {
	fs := vfs.NewCrashableMem()
	d := open(t, fs)
	write := func(key string, dur db.Durability) {
		t.Helper()
		err := d.Space("test").Update(ctx, dur, func(tx *db.Tx) error {
			tx.Set([]byte(key), []byte("1"))
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	lose := func() { // the power
		t.Helper()
		lost := fs.CrashClone(vfs.CrashCloneCfg{})
		if err := d.Close(); err != nil {
			t.Fatal(err)
		}
		fs, d = lost, open(t, lost)
	}
	write("first", db.Disk)
	for i := range 20 {
		write(fmt.Sprint("system", i), db.OS)
	}
	if err := d.Compact(ctx); err != nil {
		t.Fatal(err)
	}
	lose()
	for i := range 5 {
		write(fmt.Sprint("disk", i), db.Disk)
	}
	lose()
	got := contents(t, d)
	for i := range 5 {
		if got[fmt.Sprint("disk", i)] != "1" {
			t.Errorf("disk%d was acknowledged, and is lost", i)
		}
	}
	if err := d.Close(); err != nil {
		t.Error(err)
	}
}
