package local_test

import (
	"context"
	"encoding/binary"
	"errors"
	"log/slog"
	"math"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/outrigger-mesh/outrigger/components"
	"github.com/outrigger-mesh/outrigger/components/internal/store"
	"github.com/outrigger-mesh/outrigger/components/internal/store/db"
	"github.com/outrigger-mesh/outrigger/components/sequence"
	"github.com/outrigger-mesh/outrigger/components/sequence/local"
)

// run opens the store on a file system, and a driver on it.
func run(t *testing.T, fs vfs.FS) (d sequence.Driver, space *db.Space, stop func()) {
	t.Helper()
	d, files, stop := runIn(t, db.Options{Dir: "store", FS: fs})
	return d, files.Space("sequence"), stop
}

func runIn(t *testing.T, o db.Options) (d sequence.Driver, files *db.DB, stop func()) {
	t.Helper()
	log := slog.New(slog.DiscardHandler)
	files, err := db.Open(o)
	if err != nil {
		t.Fatal(err)
	}
	env := components.Env{ID: components.ID{Name: "default"}, Logger: log, Shared: components.NewShared()}
	link, err := store.Lend(context.Background(), env, files)
	if err != nil {
		t.Fatal(err)
	}
	d, err = local.Open(context.Background(), env, local.Options{Ahead: 10})
	if err != nil {
		t.Fatal(err)
	}
	return d, files, func() {
		if err := d.(components.Closer).Close(context.Background()); err != nil {
			t.Error(err)
		}
		link.Close()
		if err := files.Close(); err != nil {
			t.Error(err)
		}
	}
}

func TestNoNumberIsGivenTwiceThoughPowerIsLost(t *testing.T) {
	fs := vfs.NewCrashableMem()
	var mu sync.Mutex
	given := map[int64]bool{}
	for range 10 {
		d, _, stop := run(t, fs)
		var all sync.WaitGroup
		for range 4 {
			all.Go(func() {
				for range 30 {
					first, err := d.Next(t.Context(), "k", 2)
					if err != nil {
						t.Error(err)
					}
					mu.Lock()
					if given[first] || given[first+1] {
						t.Errorf("%d was given again", first)
					}
					given[first], given[first+1] = true, true
					mu.Unlock()
				}
			})
		}
		all.Wait()
		lost := fs.CrashClone(vfs.CrashCloneCfg{}) // nothing of what was not synced
		stop()
		fs = lost
	}
}

// TestNoNumberIsGivenTwiceThoughABackupIsRestored: neither of a key that is in the backup nor of one that came later, whichever store
// gave it.
func TestNoNumberIsGivenTwiceThoughABackupIsRestored(t *testing.T) {
	fs, passed := vfs.NewMem(), time.Duration(0)
	start := time.Date(2026, 3, 1, 0, 0, 0, 0, time.UTC)
	clock := db.Clock{Boot: "one", Wall: func() time.Time { return start.Add(passed) }, Uptime: func() time.Duration { return passed }}
	last := map[string]int64{}
	draw := func(d sequence.Driver, where string, keys ...string) {
		t.Helper()
		for range 20 {
			for _, key := range keys {
				passed += time.Second / 100
				first, err := d.Next(t.Context(), key, sequence.MaxSize)
				if err != nil || first <= last[key] {
					t.Errorf("%s: of %q comes %d after %d, %v", where, key, first, last[key], err)
				}
				last[key] = first + sequence.MaxSize - 1
			}
		}
	}
	d, files, stop := runIn(t, db.Options{Dir: "first", FS: fs, Clock: clock})
	draw(d, "the first", "old")
	if err := files.Backup(t.Context(), "backup", false); err != nil {
		t.Fatal(err)
	}
	draw(d, "the first", "old", "new")
	stop()
	for _, dir := range []string{"second", "third"} {
		if err := db.Restore(fs, "backup", dir); err != nil {
			t.Fatal(err)
		}
		d, _, stop := runIn(t, db.Options{Dir: dir, FS: fs, Clock: clock})
		draw(d, dir, "old", "new")
		stop()
	}
	d, _, stop = runIn(t, db.Options{Dir: "third", FS: fs, Clock: clock})
	defer stop()
	before := last["old"]
	if draw(d, "the third, again", "old", "new"); last["old"]-before > 30*sequence.MaxSize {
		t.Error("numbers are left out at a start, too")
	}
}

func TestTheEndOfTheNumbers(t *testing.T) {
	d, space, stop := run(t, vfs.NewMem())
	defer stop()
	err := space.Update(t.Context(), db.Disk, func(tx *db.Tx) error {
		tx.Set([]byte("default/k"), append(binary.BigEndian.AppendUint64([]byte{1}, math.MaxInt64-25), make([]byte, 8)...))
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	var last int64
	for _, n := range []int64{5, 26, 19, 2, 1, 1} {
		first, err := d.Next(t.Context(), "k", n)
		fits := n <= math.MaxInt64-max(last, math.MaxInt64-25)
		var detail *components.Detail
		switch {
		case fits && (err != nil || first <= last):
			t.Errorf("%d numbers after %d: %d, %v", n, last, first, err)
		case !fits && (!errors.Is(err, components.ErrExhausted) || !errors.As(err, &detail) || detail.Reason != sequence.ReasonExhausted):
			t.Errorf("%d numbers after %d: %d, %v; want SEQUENCE_EXHAUSTED", n, last, first, err)
		case fits:
			last = first + n - 1
		}
	}
	if last != math.MaxInt64 {
		t.Errorf("the last number was %d", last)
	}
}

func TestRecordsThatAreNone(t *testing.T) {
	d, space, stop := run(t, vfs.NewMem())
	defer stop()
	whole := make([]byte, 17)
	newer, negative, raised := slices.Clone(whole), slices.Clone(whole), slices.Clone(whole)
	newer[0] = 2
	negative[0], negative[1] = 1, 0xff
	raised[0], raised[16] = 1, 1 // by more than the store is
	for _, record := range [][]byte{{}, {1}, {1, 0, 0, 0, 0, 0, 0, 0, 1}, newer, negative, raised} {
		err := space.Update(t.Context(), db.Disk, func(tx *db.Tx) error {
			tx.Set([]byte("default/k"), record)
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
		if first, err := d.Next(t.Context(), "k", 1); !errors.Is(err, components.ErrDamaged) || !strings.Contains(err.Error(), `"default/k"`) {
			t.Errorf("%x: %d, %v", record, first, err)
		}
	}
	if first, err := d.Next(t.Context(), "another", 1); err != nil || first != 1 {
		t.Errorf("another key: %d, %v", first, err)
	}
}
