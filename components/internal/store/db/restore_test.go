package db_test

import (
	"errors"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/outrigger-mesh/outrigger/components"
	"github.com/outrigger-mesh/outrigger/components/internal/store/db"
)

// stopped is a file system that fails for ever from the n-th change on, as one that is full or broken does, and has the power cut before
// that change.
type stopped struct {
	*vfs.MemFS
	mu   sync.Mutex
	left int
	cut  *vfs.MemFS
}

func (s *stopped) change() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.left--; s.left >= 0 {
		return nil
	}
	if s.cut == nil {
		s.cut = s.CrashClone(vfs.CrashCloneCfg{UnsyncedDataPercent: 50, RNG: rand.New(rand.NewPCG(1, uint64(s.left)))})
	}
	return syscall.EIO
}

func (s *stopped) Create(name string, c vfs.DiskWriteCategory) (vfs.File, error) {
	if err := s.change(); err != nil {
		return nil, err
	}
	f, err := s.MemFS.Create(name, c)
	return &stoppedFile{f, s}, err
}

func (s *stopped) OpenDir(name string) (vfs.File, error) {
	f, err := s.MemFS.OpenDir(name)
	return &stoppedFile{f, s}, err
}

func (s *stopped) Rename(from, to string) error {
	return errors.Join(s.change(), s.unless(func() error { return s.MemFS.Rename(from, to) }))
}

func (s *stopped) Remove(name string) error {
	return errors.Join(s.change(), s.unless(func() error { return s.MemFS.Remove(name) }))
}

func (s *stopped) unless(do func() error) error {
	if left, _ := s.state(); left < 0 {
		return nil
	}
	return do()
}

func (s *stopped) state() (left int, cut *vfs.MemFS) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.left, s.cut
}

type stoppedFile struct {
	vfs.File
	s *stopped
}

func (f *stoppedFile) Write(p []byte) (int, error) {
	if err := f.s.change(); err != nil {
		return 0, err
	}
	return f.File.Write(p)
}

func (f *stoppedFile) Sync() error { return errors.Join(f.s.change(), f.s.unless(f.File.Sync)) }

// backedUp is a file system with a backup in it, all on the disk, and what the backup has.
func backedUp(t *testing.T) (*vfs.MemFS, map[string]string) {
	t.Helper()
	fs := vfs.NewCrashableMem()
	d := open(t, fs)
	want := map[string]string{}
	for i := range 20 {
		key := fmt.Sprint("k", i)
		want[key] = strings.Repeat(key, 1000)
		if err := set(d, key, want[key]); err != nil {
			t.Fatal(err)
		}
	}
	if err := d.Backup(ctx, "backup", false); err != nil {
		t.Fatal(err)
	}
	if err := d.Close(); err != nil {
		t.Fatal(err)
	}
	return fs.CrashClone(vfs.CrashCloneCfg{}), want
}

// restored tells whether there is a store in "to", and fails if it is not the whole of the backup. What is there otherwise is taken for
// nothing by who opens it.
func restored(t *testing.T, where string, fs vfs.FS, want map[string]string) bool {
	t.Helper()
	names, err := fs.List("to")
	if err != nil || len(names) == 0 {
		return false
	}
	d, err := db.Open(db.Options{Dir: "to", FS: fs, Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Errorf("%s: what is there does not open: %v", where, err)
		return true
	}
	defer d.Close()
	if got := contents(t, d); !maps.Equal(got, want) {
		t.Errorf("%s: %d of %d keys are restored", where, len(got), len(want))
	}
	return true
}

func TestRestoreIsAllOrNothing(t *testing.T) {
	image, want := backedUp(t)
	done := false
	for n := 0; !done; n++ {
		where := fmt.Sprintf("at change %d", n)
		fs := &stopped{MemFS: image.CrashClone(vfs.CrashCloneCfg{}), left: n}
		if err := fs.MkdirAll("to", 0o700); err != nil {
			t.Fatal(err)
		}
		err := db.Restore(fs, "backup", "to")
		_, cut := fs.state()
		if done = err == nil; done {
			cut = fs.CrashClone(vfs.CrashCloneCfg{})
		}
		if there := restored(t, where, fs.MemFS, want); done && !there {
			t.Errorf("%s: it was said to be there", where)
		}
		if there := restored(t, where+", after a cut", cut, want); done && !there {
			t.Errorf("%s: it was said to be there, and is not after a cut", where)
		} else if !there && !done { // and then it can be done
			if err := db.Restore(cut, "backup", "to"); err != nil || !restored(t, where, cut, want) {
				t.Errorf("%s: again: %v", where, err)
			}
		}
		if n > 1000 {
			t.Fatal("it does not come to an end")
		}
	}
}

// A backup shares nothing with the store: damage to that is what it is for. Copies that are made of links do.
func TestBackupIsNotDamagedWithTheStore(t *testing.T) {
	for _, links := range []bool{false, true} {
		files := vfs.NewMem()
		d := open(t, files)
		if err := set(d, "k", "v"); err != nil {
			t.Fatal(err)
		}
		if err := d.Backup(ctx, "backup", links); err != nil {
			t.Fatal(err)
		}
		names, err := files.List("backup")
		if err != nil {
			t.Fatal(err)
		}
		tables := 0
		for _, name := range names {
			if !strings.HasSuffix(name, ".sst") {
				continue
			}
			f, err := files.OpenReadWrite("store/"+name, "test")
			if err != nil {
				t.Fatal(err)
			}
			if _, err := f.WriteAt([]byte("damaged!"), 0); err != nil {
				t.Fatal(err)
			}
			f.Close()
			tables++
		}
		_ = d.Close() // it is damaged
		if err := db.Restore(files, "backup", "to"); tables == 0 || errors.Is(err, components.ErrDamaged) != links || err != nil && !links {
			t.Errorf("after damage to %d tables of the store, links %v: %v", tables, links, err)
		}
	}
}

// What is in a backup is for nobody else's eyes, as the store's folder is not.
func TestBackupIsItsOwnersAlone(t *testing.T) {
	dir := t.TempDir()
	d, err := db.Open(db.Options{Dir: filepath.Join(dir, "store"), Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	if err := set(d, "k", "v"); err != nil {
		t.Fatal(err)
	}
	backup := filepath.Join(dir, "backup")
	if err := d.Backup(ctx, backup, false); err != nil {
		t.Fatal(err)
	}
	if info, err := os.Stat(backup); err != nil || info.Mode().Perm() != 0o700 {
		t.Errorf("%v, %v", info.Mode(), err)
	}
}

func TestDamagedBackupIsNotRestored(t *testing.T) {
	image, _ := backedUp(t)
	names, err := image.List("backup")
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range names {
		if name == "copy" || strings.HasPrefix(name, "OPTIONS") || name == "newest" || strings.HasSuffix(name, ".log") {
			continue // nothing of what was written is in it
		}
		fs := image.CrashClone(vfs.CrashCloneCfg{})
		if err := fs.Remove("backup/" + name); err != nil {
			t.Fatal(err)
		}
		if err := db.Restore(fs, "backup", "to"); !errors.Is(err, components.ErrDamaged) {
			t.Errorf("without %s: %v", name, err)
		}
		if all, err := fs.List(""); err != nil || len(all) != 2 {
			t.Errorf("without %s: there is %v afterwards, %v", name, all, err)
		}
	}
}

// A copy that is not what was read is found out before it gets its name.
func TestBadCopyIsNotRestored(t *testing.T) {
	image, _ := backedUp(t)
	if err := db.Restore(forger{image}, "backup", "to"); !errors.Is(err, components.ErrDamaged) {
		t.Errorf("it is restored: %v", err)
	}
	if all, err := image.List(""); err != nil || len(all) != 2 {
		t.Errorf("there is %v afterwards, %v", all, err)
	}
}

// forger changes a byte of the tables that are written.
type forger struct{ vfs.FS }

func (f forger) Create(name string, c vfs.DiskWriteCategory) (vfs.File, error) {
	file, err := f.FS.Create(name, c)
	if strings.HasSuffix(name, ".sst") {
		return forgedFile{file}, err
	}
	return file, err
}

type forgedFile struct{ vfs.File }

func (f forgedFile) Write(p []byte) (int, error) {
	p = append([]byte(nil), p...)
	p[len(p)/2] ^= 0x40
	return f.File.Write(p)
}

func (f forgedFile) ReadFrom(r io.Reader) (int64, error) {
	data, err := io.ReadAll(r)
	if err != nil {
		return 0, err
	}
	n, err := f.Write(data)
	return int64(n), err
}

// Where the power goes, or the disk fails, while a store is made, one is made the next time.
func TestStoreThatWasNotMadeIsMadeAgain(t *testing.T) {
	for n, done := 0, false; !done; n++ {
		fs := &stopped{MemFS: vfs.NewCrashableMem(), left: n}
		d, err := reopen(fs)
		if done = err == nil; done {
			d.Close()
			break
		}
		_, cut := fs.state()
		for when, left := range map[string]vfs.FS{"": fs.MemFS, ", after a cut": cut} {
			again, err := reopen(left)
			if err != nil {
				t.Errorf("at change %d%s: %v", n, when, err)
				continue
			}
			if err := set(again, "k", "1"); err != nil {
				t.Errorf("at change %d%s: %v", n, when, err)
			}
			again.Close()
			again, err = reopen(left)
			if err != nil {
				t.Fatalf("at change %d%s: %v", n, when, err)
			}
			if got := contents(t, again); got["k"] != "1" {
				t.Errorf("at change %d%s: there is %v", n, when, got)
			}
			again.Close()
		}
	}
}
