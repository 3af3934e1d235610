package db_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/outrigger-mesh/outrigger/components"
	"github.com/outrigger-mesh/outrigger/components/internal/store/db"
)

var ctx = context.Background()

func set(d *db.DB, key, value string) error {
	return d.Space("test").Update(ctx, db.Disk, func(tx *db.Tx) error {
		tx.Set([]byte(key), []byte(value))
		return nil
	})
}

// contents are all keys of the space.
func contents(t *testing.T, d *db.DB) map[string]string {
	t.Helper()
	v := d.Space("test").View()
	defer v.Close()
	all := map[string]string{}
	for key, value := range v.Scan(nil, nil) {
		all[string(key)] = string(value)
	}
	if err := v.Err(); err != nil {
		t.Fatal(err)
	}
	return all
}

// files are those of a folder, by name.
func files(t *testing.T, fs vfs.FS) map[string][]byte {
	t.Helper()
	names, err := fs.List("store")
	if err != nil {
		t.Fatal(err)
	}
	all := map[string][]byte{}
	for _, name := range names {
		f, err := fs.Open("store/" + name)
		if err != nil {
			t.Fatal(err)
		}
		if all[name], err = io.ReadAll(f); err != nil {
			t.Fatal(err)
		}
		f.Close()
	}
	return all
}

func same(a, b map[string][]byte) bool { return maps.EqualFunc(a, b, bytes.Equal) }

// folder makes a file system with these files.
func folder(t *testing.T, all map[string][]byte) vfs.FS {
	t.Helper()
	fs := vfs.NewMem()
	if err := fs.MkdirAll("store", 0o700); err != nil {
		t.Fatal(err)
	}
	for name, data := range all {
		f, err := fs.Create("store/"+name, "test")
		if err != nil {
			t.Fatal(err)
		}
		if _, err := f.Write(slices.Clone(data)); err != nil {
			t.Fatal(err)
		}
		f.Close()
	}
	return fs
}

func reopen(fs vfs.FS) (*db.DB, error) {
	return db.Open(db.Options{Dir: "store", FS: fs, Logger: slog.New(slog.DiscardHandler)})
}

// written is a store with tables, several segments of the journal and commits that are only there; killed leaves it as the
// end of its process does, closed as an orderly end.
func written(t *testing.T, orderly bool) (image map[string][]byte, want map[string]string) {
	t.Helper()
	fs := vfs.NewCrashableMem()
	d := open(t, fs)
	want = map[string]string{}
	put := func(key, value string) {
		if err := set(d, key, value); err != nil {
			t.Fatal(err)
		}
		want[key] = value
	}
	for i := range 9 {
		put(fmt.Sprintf("large-%d", i), strings.Repeat(fmt.Sprint(i%10), 500<<10))
	}
	if err := d.Compact(ctx); err != nil {
		t.Fatal(err)
	}
	for i := range 40 {
		put(fmt.Sprintf("small-%d", i), fmt.Sprint(i))
	}
	if orderly {
		if err := d.Close(); err != nil {
			t.Fatal(err)
		}
		return files(t, fs), want
	}
	time.Sleep(20 * time.Millisecond) // the last seal is written behind the acknowledgement
	image = files(t, fs.CrashClone(vfs.CrashCloneCfg{UnsyncedDataPercent: 100, RNG: rand.New(rand.NewPCG(1, 1))}))
	if err := d.Close(); err != nil {
		t.Fatal(err)
	}
	return image, want
}

// A byte that is changed anywhere either does no harm, or keeps the store from being opened, or from being read at that place.
// Nothing that was acknowledged is ever silently missing.
func TestDamagedByteIsFoundOrHarmless(t *testing.T) {
	for name, orderly := range map[string]bool{"killed": false, "closed": true} {
		t.Run(name, func(t *testing.T) {
			image, want := written(t, orderly)
			found := map[string]int{}
			for _, file := range slices.Sorted(maps.Keys(image)) {
				kind := file[strings.LastIndexByte(file, '.')+1:]
				if strings.HasPrefix(file, "MANIFEST") {
					kind = "MANIFEST"
				}
				ends := 10
				if kind == "journal" {
					ends = 80 // the last commit and what seals it
				}
				for _, at := range places(ends, len(bytes.TrimRight(image[file], "\x00"))) { // a journal is filled with zeros to its end
					damaged := maps.Clone(image)
					damaged[file] = slices.Clone(image[file])
					damaged[file][at] ^= 0x40
					if checkDamaged(t, fmt.Sprintf("%s, byte %d of %d", file, at, len(image[file])), damaged, want) {
						found[kind]++
					}
				}
			}
			t.Logf("found damaged, by kind of file: %v", found)
			for _, kind := range []string{"journal", "sst", "MANIFEST", "format"} {
				if found[kind] == 0 {
					t.Errorf("no damage was found in any %s", kind)
				}
			}
		})
	}
}

// places are offsets at the beginning, at the end and between.
func places(ends, size int) (all []int) {
	for i := 0; i < size; i += max(1, size/7) {
		all = append(all, i)
	}
	for i := range min(size, ends) {
		all = append(all, i, size-1-i)
	}
	slices.Sort(all)
	return slices.Compact(all)
}

func checkDamaged(t *testing.T, where string, image map[string][]byte, want map[string]string) (found bool) {
	t.Helper()
	fs := folder(t, image)
	verified := db.Verify(db.Options{Dir: "store", FS: fs})
	if !same(files(t, fs), image) {
		t.Errorf("%s: verifying changed the files", where)
	}
	d, err := reopen(fs)
	if err != nil {
		if !errors.Is(err, components.ErrDamaged) && !errors.Is(err, db.ErrNewer) {
			t.Errorf("%s: %v is not called damaged", where, err)
		}
		if verified == nil {
			t.Errorf("%s: opening fails, and verifying found nothing: %v", where, err)
		}
		if !same(files(t, fs), image) {
			t.Errorf("%s: an open that failed changed the files", where)
		}
		return true
	}
	defer d.Close()
	got := contents(t, d)
	for key, value := range want {
		if got[key] != value {
			t.Errorf("%s: opened, and %s is gone or another", where, key)
			return false
		}
	}
	return false
}

func TestNewerFormatIsRefusedUntouched(t *testing.T) {
	image, _ := written(t, true)
	image["format"] = []byte("outrigger store, format 2\n")
	fs := folder(t, image)
	_, err := reopen(fs)
	if !errors.Is(err, db.ErrNewer) || !strings.Contains(err.Error(), "format 2") {
		t.Errorf("a newer format: %v", err)
	}
	if !same(files(t, fs), image) {
		t.Error("it was touched")
	}
}

// tight is a file system with so much room.
type tight struct {
	vfs.FS
	room  atomic.Int64 // -1: as much as is wanted
	asked atomic.Bool  // whether it says how much there is
	sync  atomic.Pointer[error]
	match atomic.Pointer[string] // of the files that sync fails for
}

func newTight() *tight {
	t := &tight{FS: vfs.NewMem()}
	t.room.Store(-1)
	return t
}

func (t *tight) take(n int) error {
	if room := t.room.Load(); room >= 0 && t.room.Add(-int64(n)) < 0 {
		t.room.Store(0)
		return syscall.ENOSPC
	}
	return nil
}

func (t *tight) Create(name string, c vfs.DiskWriteCategory) (vfs.File, error) {
	if t.room.Load() == 0 {
		return nil, syscall.ENOSPC
	}
	f, err := t.FS.Create(name, c)
	return &tightFile{f, t, name}, err
}

func (t *tight) ReuseForWrite(from, name string, c vfs.DiskWriteCategory) (vfs.File, error) {
	f, err := t.FS.ReuseForWrite(from, name, c)
	return &tightFile{f, t, name}, err
}

func (t *tight) GetDiskUsage(string) (vfs.DiskUsage, error) {
	if !t.asked.Load() {
		return vfs.DiskUsage{}, vfs.ErrUnsupported
	}
	room := t.room.Load()
	if room < 0 {
		room = 1 << 30
	}
	return vfs.DiskUsage{AvailBytes: uint64(room), TotalBytes: 1 << 30}, nil
}

type tightFile struct {
	vfs.File
	t    *tight
	name string
}

func (f *tightFile) Write(p []byte) (int, error) {
	if err := f.t.take(len(p)); err != nil {
		n, _ := f.File.Write(p[:len(p)/2]) // as far as there was room
		return n, err
	}
	return f.File.Write(p)
}

func (f *tightFile) fails() error {
	if err, match := f.t.sync.Load(), f.t.match.Load(); err != nil && strings.Contains(f.name, *match) {
		return *err
	}
	return nil
}

func (f *tightFile) Sync() error     { return errors.Join(f.fails(), f.File.Sync()) }
func (f *tightFile) SyncData() error { return errors.Join(f.fails(), f.File.SyncData()) }

func isFull(err error) bool {
	d := (*components.Detail)(nil)
	return errors.Is(err, components.ErrExhausted) && errors.As(err, &d) && d.Reason == db.ReasonDiskFull
}

func TestFullDisk(t *testing.T) {
	for name, told := range map[string]bool{"which says how full it is": true, "which does not say": false} {
		t.Run(name, func(t *testing.T) {
			fs := newTight()
			fs.asked.Store(told)
			d := open(t, fs)
			defer d.Close()
			if err := errors.Join(set(d, "before", "1"), d.Check()); err != nil {
				t.Fatal(err)
			}
			fs.room.Store(10)
			time.Sleep(100 * time.Millisecond) // it is not asked for each write
			if err := set(d, "during", strings.Repeat("x", 1000)); !isFull(err) {
				t.Fatalf("a write to a full disk: %v", err)
			}
			if err := set(d, "during", strings.Repeat("x", 1000)); !isFull(err) {
				t.Fatalf("another: %v", err)
			}
			if err := d.Check(); told && !isFull(err) {
				t.Errorf("the check says %v", err)
			}
			if got := contents(t, d); got["before"] != "1" || len(got) != 1 {
				t.Errorf("there is %v", got)
			}
			fs.room.Store(-1)
			time.Sleep(100 * time.Millisecond)
			if err := errors.Join(set(d, "after", "2"), d.Check()); err != nil {
				t.Errorf("when there is room again: %v", err)
			}
			if got := contents(t, d); len(got) != 2 {
				t.Errorf("there is %v", got)
			}
			d.Close()
			again, err := reopen(fs)
			if err != nil {
				t.Fatal(err)
			}
			defer again.Close()
			if got := contents(t, again); len(got) != 2 || got["before"] != "1" || got["after"] != "2" {
				t.Errorf("after a restart there is %v", got)
			}
		})
	}
}

// The tables wait for room in the background, and nothing ends the process.
func TestDiskThatFillsUpWhileTablesAreWritten(t *testing.T) {
	fs := newTight()
	d := open(t, fs)
	var acked []string
	fs.room.Store(9 << 20)
	for i := 0; i < 100; i++ {
		key := fmt.Sprint(i)
		if err := set(d, key, strings.Repeat("x", 300<<10)); err == nil {
			acked = append(acked, key)
		} else if !isFull(err) {
			t.Fatal(err)
		}
	}
	if len(acked) == 0 || len(acked) == 100 {
		t.Fatalf("%d of 100 writes were taken", len(acked))
	}
	fs.room.Store(-1)
	for end := time.Now().Add(20 * time.Second); set(d, "after", "1") != nil; time.Sleep(20 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatal("it does not write again though there is room")
		}
	}
	if err := d.Close(); err != nil {
		t.Fatal(err)
	}
	again, err := reopen(fs)
	if err != nil {
		t.Fatal(err)
	}
	defer again.Close()
	got := contents(t, again)
	for _, key := range acked {
		if len(got[key]) != 300<<10 {
			t.Errorf("%s is gone", key)
		}
	}
}

func TestSyncThatFails(t *testing.T) {
	fs := newTight()
	d := open(t, fs)
	defer d.Close()
	if err := set(d, "before", "1"); err != nil {
		t.Fatal(err)
	}
	broken, journal := error(syscall.EIO), ".journal"
	fs.match.Store(&journal)
	fs.sync.Store(&broken)
	var detail *components.Detail
	if err := set(d, "during", "1"); !errors.As(err, &detail) || detail.Reason != db.ReasonOutcomeUnknown {
		t.Errorf("a write that was not synced: %v", err)
	}
	if err := set(d, "during", "2"); !errors.Is(err, components.ErrUnavailable) {
		t.Errorf("the next one: %v", err)
	}
	fs.sync.Store(nil)
	if err := set(d, "after", "1"); err != nil {
		t.Errorf("when the disk works again: %v", err)
	}
	want := contents(t, d)
	d.Close()
	again, err := reopen(fs)
	if err != nil {
		t.Fatal(err)
	}
	defer again.Close()
	if got := contents(t, again); !maps.Equal(got, want) || got["after"] != "1" {
		t.Errorf("after a restart there is %v, before it was %v", got, want)
	}
}

// Where the engine would end the process, the store says that it has failed and can be opened again.
func TestEngineThatGivesUp(t *testing.T) {
	fs := newTight()
	d := open(t, fs)
	if err := set(d, "before", "1"); err != nil {
		t.Fatal(err)
	}
	broken, manifest := error(syscall.EIO), "MANIFEST"
	fs.match.Store(&manifest)
	fs.sync.Store(&broken)
	go d.Compact(ctx) // it does not come back
	select {
	case <-d.Failed():
	case <-time.After(20 * time.Second):
		t.Fatal("it has not failed")
	}
	if err := set(d, "during", "1"); !errors.Is(err, components.ErrUnavailable) {
		t.Errorf("a write to a store that has failed: %v", err)
	}
	if err := d.Close(); err != nil {
		t.Error(err)
	}
	fs.sync.Store(nil)
	again, err := reopen(fs)
	if err != nil {
		t.Fatal(err)
	}
	defer again.Close()
	if got := contents(t, again); got["before"] != "1" {
		t.Errorf("there is %v", got)
	}
}
