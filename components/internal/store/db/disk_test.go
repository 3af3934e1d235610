package db_test

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/outrigger-mesh/outrigger/components"
	"github.com/outrigger-mesh/outrigger/components/internal/store/db"
)

// tight is a file system with so much room, whose syncs can be made to fail, and changes to stand still.
type tight struct {
	vfs.FS
	room    atomic.Int64 // -1: as much as is wanted
	asked   atomic.Bool  // whether it says how much there is
	broken  atomic.Pointer[string]
	held    atomic.Pointer[hold]
	refused atomic.Int64 // of tables, for lack of room
}

// hold stops the first write or sync of a file with match in its name.
type hold struct {
	match            string
	taken            atomic.Bool
	reached, release chan struct{}
}

func newTight() *tight {
	t := &tight{FS: vfs.NewMem()}
	t.room.Store(-1)
	return t
}

// breaks makes the syncs of files with match in their name fail; of none if it is empty.
func (t *tight) breaks(match string) {
	t.broken.Store(&match)
}

func (t *tight) holds(match string) *hold {
	h := &hold{match: match, reached: make(chan struct{}), release: make(chan struct{})}
	t.held.Store(h)
	return h
}

func (t *tight) changed(name string) {
	if h := t.held.Load(); h != nil && strings.Contains(name, h.match) && !h.taken.Swap(true) {
		close(h.reached)
		<-h.release
	}
}

func (t *tight) take(name string, n int) error {
	if room := t.room.Load(); room >= 0 && t.room.Add(-int64(n)) < 0 {
		t.room.Store(0)
		if !strings.HasSuffix(name, ".journal") {
			t.refused.Add(1)
		}
		return syscall.ENOSPC
	}
	return nil
}

func (t *tight) Create(name string, c vfs.DiskWriteCategory) (vfs.File, error) {
	t.changed(name + " " + string(c))
	if err := t.take(name, 0); err != nil || t.room.Load() == 0 {
		return nil, syscall.ENOSPC
	}
	f, err := t.FS.Create(name, c)
	return &tightFile{f, t, name}, err
}

func (t *tight) ReuseForWrite(from, name string, c vfs.DiskWriteCategory) (vfs.File, error) {
	t.changed(name)
	f, err := t.FS.ReuseForWrite(from, name, c)
	return &tightFile{f, t, name}, err
}

func (t *tight) Rename(from, to string) error {
	t.changed(to)
	return t.FS.Rename(from, to)
}

func (t *tight) Remove(name string) error {
	t.changed(name)
	return t.FS.Remove(name)
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
	f.t.changed(f.name)
	if err := f.t.take(f.name, len(p)); err != nil {
		n, _ := f.File.Write(p[:len(p)/2]) // as far as there was room
		return n, err
	}
	return f.File.Write(p)
}

func (f *tightFile) fails() error {
	f.t.changed(f.name)
	if match := f.t.broken.Load(); match != nil && *match != "" && strings.Contains(f.name, *match) {
		return syscall.EIO
	}
	return nil
}

// synced leaves what was to be synced as it is where that fails.
func (f *tightFile) synced(sync func() error) error {
	if err := f.fails(); err != nil {
		return err
	}
	return sync()
}

func (f *tightFile) Sync() error     { return f.synced(f.File.Sync) }
func (f *tightFile) SyncData() error { return f.synced(f.File.SyncData) }

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

// await fails when that takes very long.
func await(t *testing.T, late string, event <-chan struct{}) {
	t.Helper()
	select {
	case <-event:
	case <-time.After(20 * time.Second):
		t.Fatal(late)
	}
}

// does answers when do has ended.
func does(do func()) <-chan struct{} {
	done := make(chan struct{})
	go func() {
		defer close(done)
		do()
	}()
	return done
}

// starved is a store whose engine waits for room, and the keys that were acknowledged.
func starved(t *testing.T, fs *tight) (d *db.DB, acked []string) {
	t.Helper()
	d = open(t, fs)
	fs.room.Store(9 << 20)
	for i := range 100 {
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
	return d, acked
}

func thereAre(t *testing.T, fs vfs.FS, keys []string) {
	t.Helper()
	d, err := reopen(fs)
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	got := contents(t, d)
	for _, key := range keys {
		if len(got[key]) != 300<<10 {
			t.Errorf("%s is gone", key)
		}
	}
}

// The tables wait for room in the background, and nothing ends the process.
func TestDiskThatFillsUpWhileTablesAreWritten(t *testing.T) {
	fs := newTight()
	d, acked := starved(t, fs)
	fs.room.Store(-1)
	for end := time.Now().Add(20 * time.Second); set(d, "after", "1") != nil; time.Sleep(20 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatal("it does not write again though there is room")
		}
	}
	if err := d.Close(); err != nil {
		t.Fatal(err)
	}
	thereAre(t, fs, acked)
}

// What waits for room does not keep a store from being closed, nor a caller from giving up.
func TestWaitForRoomEnds(t *testing.T) {
	fs := newTight()
	d, acked := starved(t, fs)
	brief, cancel := context.WithTimeout(ctx, 10*time.Millisecond)
	defer cancel()
	await(t, "a compaction waits for room longer than its caller", does(func() {
		if err := d.Compact(brief); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("a compaction of a full disk: %v", err)
		}
	}))
	if fs.refused.Load() == 0 {
		t.Fatal("nothing was refused to the engine")
	}
	await(t, "the store is not closed", does(func() { d.Close() }))
	await(t, "the store is not opened, nor is it said why", does(func() {
		fs.room.Store(0)
		if _, err := db.Open(db.Options{Dir: "new", FS: fs}); !isFull(err) {
			t.Errorf("a new store on a full disk: %v", err)
		}
	}))
	fs.room.Store(-1)
	thereAre(t, fs, acked)
}

// Where the engine would end the process, or try again for ever, the store says that it has failed and can be opened again.
func TestEngineThatGivesUp(t *testing.T) {
	for _, what := range []string{"MANIFEST", ".sst"} {
		t.Run(what, func(t *testing.T) { givesUp(t, what) })
	}
}

func givesUp(t *testing.T, what string) {
	fs := newTight()
	d := open(t, fs)
	if err := set(d, "before", "1"); err != nil {
		t.Fatal(err)
	}
	fs.breaks(what)
	set(d, "between", "1") // so that there is something to write, unless the engine writes by itself just now, and gives up
	late, cancel := context.WithTimeout(ctx, 20*time.Second)
	defer cancel()
	if err := d.Compact(late); !errors.Is(err, components.ErrUnavailable) {
		t.Errorf("it is compacted: %v", err)
	}
	await(t, "it has not failed", d.Failed())
	if err := set(d, "during", "1"); !errors.Is(err, components.ErrUnavailable) {
		t.Errorf("a write to a store that has failed: %v", err)
	}
	if err := d.Close(); err != nil {
		t.Error(err)
	}
	fs.breaks("")
	again, err := reopen(fs)
	if err != nil {
		t.Fatal(err)
	}
	defer again.Close()
	if got := contents(t, again); got["before"] != "1" {
		t.Errorf("there is %v", got)
	}
}

const compaction = "pebble-compaction" // how the engine calls the writes of one

// What is left of a store that has failed changes nothing once it is closed, and it is not closed before what has begun is done.
func TestFailedStoreIsFenced(t *testing.T) {
	for name, tc := range map[string]struct {
		match string
		do    func(*db.DB)
	}{
		"a compaction goes on": {compaction, func(d *db.DB) { d.Compact(ctx) }},
		"an update goes on":    {".journal", func(d *db.DB) { set(d, "late", "1") }},
	} {
		t.Run(name, func(t *testing.T) {
			fs := newTight()
			d := open(t, fs)
			var held *hold
			if tc.match == compaction { // which may begin by itself
				held = fs.holds(compaction)
			}
			for i := range 2 { // tables that overlap
				if err := errors.Join(set(d, "a", fmt.Sprint(i)), set(d, "z", fmt.Sprint(i)), d.Backup(ctx, fmt.Sprint("backup-", i), false)); err != nil {
					t.Fatal(err)
				}
			}
			if err := set(d, "before", "1"); err != nil {
				t.Fatal(err)
			}
			if tc.match == compaction {
				if err := d.Backup(ctx, "backup", false); err != nil {
					t.Fatal(err)
				}
			} else {
				held = fs.holds(tc.match)
			}
			going := does(func() { tc.do(d) })
			await(t, "nothing is written", held.reached)
			if tc.match == compaction {
				if err := set(d, "between", "1"); err != nil {
					t.Fatal(err)
				}
			}
			fs.breaks("MANIFEST")
			if err := d.Backup(ctx, "none", false); !errors.Is(err, components.ErrUnavailable) {
				t.Errorf("it has not failed: %v", err)
			}
			await(t, "it has not failed", d.Failed())
			closed := does(func() { d.Close() })
			select {
			case <-closed:
				t.Error("it is closed while a write is under way")
			case <-time.After(100 * time.Millisecond):
			}
			next := fs.holds("")
			close(held.release)
			select {
			case <-closed:
			case <-next.reached:
				t.Error("the folder is changed by a store that has failed")
			case <-time.After(20 * time.Second):
				t.Fatal("it is not closed")
			}
			fs.held.Store(nil)
			close(next.release)
			await(t, "who called waits", going)
			fs.breaks("")
			again, err := reopen(fs)
			if err != nil {
				t.Fatal(err)
			}
			defer again.Close()
			if got := contents(t, again); got["before"] != "1" || got["a"] != "1" {
				t.Errorf("there is %v", got)
			}
		})
	}
}

// What a sync that failed was for may still be read where the system keeps it, and be gone after a loss of power: so it is on the disk before
// anybody sees it.
func TestWhatIsSeenAfterASyncThatFailedIsSafe(t *testing.T) {
	mem := vfs.NewCrashableMem()
	fs := newTight()
	fs.FS = mem
	d := open(t, fs)
	if err := set(d, "before", "1"); err != nil {
		t.Fatal(err)
	}
	fs.breaks(".journal")
	if err := set(d, "during", "1"); !unknown(err) {
		t.Errorf("a write that was not synced: %v", err)
	}
	await(t, "it has not failed", d.Failed())
	d.Close()
	again := open(t, fs)
	seen := contents(t, again)
	after := mem.CrashClone(vfs.CrashCloneCfg{})
	again.Close()
	last, err := reopen(after)
	if err != nil {
		t.Fatal(err)
	}
	defer last.Close()
	if got := contents(t, last); got["before"] != "1" || !maps.Equal(got, seen) {
		t.Errorf("%v was seen, and after a loss of power there is %v", seen, got)
	}
}
