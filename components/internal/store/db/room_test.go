package db_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/outrigger-mesh/outrigger/components/internal/store/db"
)

// small is a disk of so many bytes: what is removed makes room.
type small struct {
	vfs.FS
	mu    sync.Mutex
	size  int64
	used  int64
	least int64 // that was ever free
	files map[string]*int64
}

func newSmall(size int64) *small {
	return &small{FS: vfs.NewMem(), size: size, least: size, files: map[string]*int64{}}
}

func (s *small) take(n int64) bool {
	if s.used+n > s.size {
		s.least = 0
		return false
	}
	s.used += n
	s.least = min(s.least, s.size-s.used)
	return true
}

func (s *small) gone(name string) {
	if n := s.files[name]; n != nil {
		s.used -= *n
		delete(s.files, name)
	}
}

func (s *small) move(from, to string) {
	s.gone(to)
	if n := s.files[from]; n != nil {
		s.files[to] = n
		delete(s.files, from)
	}
}

func (s *small) Create(name string, c vfs.DiskWriteCategory) (vfs.File, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	f, err := s.FS.Create(name, c)
	if err != nil {
		return nil, err
	}
	s.gone(name)
	s.files[name] = new(int64)
	return &smallFile{f, s, s.files[name], 0}, nil
}

func (s *small) ReuseForWrite(from, to string, c vfs.DiskWriteCategory) (vfs.File, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	f, err := s.FS.ReuseForWrite(from, to, c)
	if err != nil {
		return nil, err
	}
	s.move(from, to)
	return &smallFile{f, s, s.files[to], 0}, nil
}

func (s *small) Rename(from, to string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.move(from, to)
	return s.FS.Rename(from, to)
}

func (s *small) Remove(name string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.gone(name)
	return s.FS.Remove(name)
}

func (s *small) GetDiskUsage(string) (vfs.DiskUsage, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return vfs.DiskUsage{AvailBytes: uint64(s.size - s.used), TotalBytes: uint64(s.size)}, nil
}

// resize makes it larger or smaller, as another that writes to the same disk does.
func (s *small) resize(free int64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.size = s.used + free
	s.least = free
}

func (s *small) leastFree() int64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.least
}

type smallFile struct {
	vfs.File
	s    *small
	size *int64
	at   int64
}

func (f *smallFile) Write(p []byte) (int, error) {
	f.s.mu.Lock()
	defer f.s.mu.Unlock()
	more := max(0, f.at+int64(len(p))-*f.size)
	if !f.s.take(more) {
		return 0, syscall.ENOSPC
	}
	n, err := f.File.Write(p)
	f.at += int64(n)
	*f.size = max(*f.size, f.at)
	return n, err
}

// filler sets random values of 100 kB under random keys.
type filler struct {
	t    *testing.T
	d    *db.DB
	r    *rand.ChaCha8
	keys []string
}

func fill(t *testing.T, d *db.DB) *filler {
	f := &filler{t: t, d: d, r: rand.NewChaCha8([32]byte{})}
	for range 20 {
		for f.set() {
		}
		time.Sleep(20 * time.Millisecond)
	}
	return f
}

func (f *filler) set() bool {
	value := make([]byte, 100<<10)
	_, _ = f.r.Read(value) // never fails
	key := fmt.Sprintf("%016x", f.r.Uint64())
	err := set(f.d, key, string(value))
	if err == nil {
		f.keys = append(f.keys, key)
	} else if !isFull(err) {
		f.t.Fatal(err)
	}
	return err == nil
}

// remove deletes so many, and answers how many were refused.
func (f *filler) remove(n int) (refused int) {
	for _, key := range f.keys[:n] {
		err := f.d.Space("test").Update(ctx, db.Disk, func(tx *db.Tx) error {
			tx.Delete([]byte(key))
			return nil
		})
		if isFull(err) {
			refused++
		} else if err != nil {
			f.t.Fatal(err)
		}
	}
	f.keys = f.keys[n:]
	return refused
}

func (f *filler) writesAgain() {
	f.t.Helper()
	for end := time.Now().Add(30 * time.Second); !f.set(); time.Sleep(20 * time.Millisecond) {
		if time.Now().After(end) {
			used, free := f.d.Size()
			f.t.Fatalf("it does not write again; it takes %d MiB, and %d MiB are free: %v", used>>20, free>>20, f.d.Check())
		}
	}
}

// A store that has filled its disk is emptied from inside: what is kept in reserve is not eaten, and deletions make room.
func TestFullDiskIsEmptiedFromInside(t *testing.T) {
	for _, size := range disksToEmpty {
		t.Run(fmt.Sprint(size>>20, " MiB"), func(t *testing.T) {
			fs := newSmall(size)
			d := open(t, fs)
			defer d.Close()
			f := fill(t, d)
			used, free := d.Size()
			t.Logf("%d values fill it: %d MiB used, %d MiB free, %d MiB free at least", len(f.keys), used>>20, free>>20, fs.leastFree()>>20)
			if fs.leastFree() < 4<<20 {
				t.Errorf("the reserve is eaten: only %d bytes were free", fs.leastFree())
			}
			for len(f.keys) > 20 {
				n := len(f.keys) / 2
				if refused := f.remove(n); refused > 0 {
					t.Errorf("%d of %d deletions are refused", refused, n)
				}
				f.writesAgain()
			}
			got := contents(t, d)
			for _, key := range f.keys {
				if len(got[key]) != 100<<10 {
					t.Errorf("%s is gone", key)
				}
			}
			if len(got) != len(f.keys) {
				t.Errorf("%d are there of %d", len(got), len(f.keys))
			}
		})
	}
}

// told tells when something is logged that has a text in it.
type told struct {
	text string
	c    chan struct{}
}

func (w told) Write(p []byte) (int, error) {
	if strings.Contains(string(p), w.text) {
		select {
		case w.c <- struct{}{}:
		default: // that it was is known
		}
	}
	return len(p), nil
}

// noRoomToMakeRoom has a store that has filled its disk, of which something is deleted, with so much free that no room can be made.
func noRoomToMakeRoom(t *testing.T, free int64) (*small, *filler) {
	t.Helper()
	fs := newSmall(160 << 20)
	failed := told{"no room could be made", make(chan struct{}, 1)}
	d, err := db.Open(db.Options{Dir: "store", FS: fs, Logger: slog.New(slog.NewTextHandler(failed, nil))})
	if err != nil {
		t.Fatal(err)
	}
	f := fill(t, d)
	fs.resize(free)
	if refused := f.remove(len(f.keys) / 8); refused > 0 {
		t.Errorf("%d deletions are refused", refused)
	}
	for end := time.Now().Add(30 * time.Second); ; { // it may have been tried just before, and is with the next write that is refused
		if f.set() {
			t.Fatal("a write is taken")
		}
		select {
		case <-failed.c:
			return fs, f
		case <-time.After(20 * time.Millisecond):
		}
		if time.Now().After(end) {
			t.Fatal("nothing is tried")
		}
	}
}

// Where there was too little room to make room, it is made as soon as there is enough, without a deletion more.
func TestRoomIsMadeOnceThereIsRoomForThat(t *testing.T) {
	fs, f := noRoomToMakeRoom(t, 6<<20)
	defer f.d.Close()
	fs.resize(70 << 20)
	if f.set() {
		t.Fatal("a write is taken before there is room")
	}
	f.writesAgain()
}

// Where others eat what is kept in reserve but for a little, deletions still make room.
func TestReserveThatOthersEat(t *testing.T) {
	fs := newSmall(160 << 20)
	d := open(t, fs)
	defer d.Close()
	f := fill(t, d)
	fs.resize(12 << 20)
	time.Sleep(100 * time.Millisecond)
	if f.set() {
		t.Error("a write is taken")
	}
	late, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	if err := d.Compact(late); !isFull(err) {
		t.Errorf("a compaction for which there is too little room: %v", err)
	}
	keys := f.keys
	for end := time.Now().Add(30 * time.Second); ; time.Sleep(20 * time.Millisecond) { // what it gives back goes a little later
		f.keys = []string{"none"}
		if f.remove(1) == 0 {
			break
		}
		if time.Now().After(end) {
			t.Fatal("what it had written is not given back")
		}
	}
	f.keys = keys
	if refused := f.remove(len(f.keys)); refused > 0 {
		t.Errorf("%d deletions are refused", refused)
	}
	f.writesAgain()
	if err := errors.Join(d.Compact(ctx), d.Check()); err != nil {
		t.Error(err)
	}
	const most = 24 << 20
	used, _ := d.Size()
	for end := time.Now().Add(10 * time.Second); used > most && time.Now().Before(end); used, _ = d.Size() { // files go a little later
		time.Sleep(20 * time.Millisecond)
	}
	if used > most {
		t.Errorf("it takes %d MiB", used>>20)
	}
	if n := len(contents(t, d)); n != len(f.keys) {
		t.Errorf("%d are there of %d", n, len(f.keys))
	}
}

// A store that is opened on a disk without any room is read, and is to be opened again when there is room. Nothing of it is changed
// until then.
func TestFullDiskIsRead(t *testing.T) {
	fs := newSmall(160 << 20)
	d := open(t, fs)
	f := fill(t, d)
	if err := d.Close(); err != nil {
		t.Fatal(err)
	}
	fs.resize(0)
	before := files(t, fs)
	full := open(t, fs)
	if got := contents(t, full); len(got) != len(f.keys) {
		t.Errorf("%d are there of %d", len(got), len(f.keys))
	}
	remove := full.Space("test").Update(ctx, db.Disk, func(tx *db.Tx) error {
		tx.Delete([]byte(f.keys[0]))
		return nil
	})
	for what, err := range map[string]error{"a write": set(full, "a", "1"), "a deletion": remove, "a check": full.Check(),
		"a compaction": full.Compact(ctx), "a backup": full.Backup(ctx, "backup", false)} {
		if !isFull(err) {
			t.Errorf("%s: %v", what, err)
		}
	}
	for name, data := range files(t, fs) {
		if old, there := before[name]; there && string(old) != string(data) || !there && len(data) > 0 {
			t.Errorf("%s is changed", name)
		}
		delete(before, name)
	}
	for name := range before {
		t.Errorf("%s is gone", name)
	}
	fs.resize(100 << 20)
	await(t, "it is not to be opened again", full.Failed())
	if err := full.Close(); err != nil {
		t.Error(err)
	}
	d = open(t, fs)
	defer d.Close()
	f.d = d
	f.writesAgain() // what opening it had to bring to the tables takes room until it is done
	if got := contents(t, d); len(got) != len(f.keys) {
		t.Errorf("%d are there of %d", len(got), len(f.keys))
	}
}

// What was deleted before the store was opened makes room, too: whoever deleted it need not be there any more.
func TestRoomIsMadeOfWhatWasDeletedBefore(t *testing.T) {
	fs, f := noRoomToMakeRoom(t, 12<<20)
	if err := f.d.Close(); err != nil {
		t.Fatal(err)
	}
	fs.resize(70 << 20)
	f.d = open(t, fs)
	defer f.d.Close()
	if f.set() {
		t.Fatal("a write is taken before there is room")
	}
	f.writesAgain()
}
