package db

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"runtime"
	"strings"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
)

// tableFS is the file system of the engine, which takes it badly when the disk is full: it ends the process, or tries again
// without a pause. So what it writes of what is in the journal waits here for room instead, until there is some, or the DB is closed or has
// failed. What is waited for with that is refused meanwhile: see full. An error that is left is an errWrite. What a compaction writes is
// given up instead: see outputs.
type tableFS struct {
	vfs.FS
	dir     string
	fail    func(error)     // gives the engine up
	ended   <-chan struct{} // nothing waits any longer
	patient atomic.Bool     // false while the DB is being opened: nothing waits yet
	waiting atomic.Int32    // writes that wait for room
	wrote   atomic.Int64    // bytes, with those of the journal
	links   atomic.Bool     // the backup under way is made of links
	outputs outputs
}

// errWrite is of what the engine could not write. It is given up then: it would try again, for ever.
var errWrite = errors.New("the engine cannot write")

// roomPause is between two looks whether there is room, which no file system tells by itself.
const roomPause = 50 * time.Millisecond

func noRoom(err error) bool { return errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT) }

// patiently repeats what fails for lack of room.
func (t *tableFS) patiently(try func() error) error {
	err := try()
	if noRoom(err) && t.patient.Load() {
		err = t.wait(err, try)
	}
	return unwritten(err)
}

func (t *tableFS) wait(err error, try func() error) error {
	t.waiting.Add(1)
	defer t.waiting.Add(-1)
	pause := time.NewTicker(roomPause)
	defer pause.Stop()
	for noRoom(err) {
		select {
		case <-pause.C:
			err = try()
		case <-t.ended:
			return err
		}
	}
	return err
}

func unwritten(err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("%w: %w", errWrite, err)
}

// Lock does nothing: the folder is locked before it is opened, and by another way.
func (t *tableFS) Lock(string) (io.Closer, error) { return io.NopCloser(nil), nil }

func (t *tableFS) open(try func() (vfs.File, error)) (f vfs.File, err error) {
	err = t.patiently(func() error {
		f, err = try()
		return err
	})
	if err != nil {
		return nil, err
	}
	return &tableFile{f, t}, nil
}

// Create has what a marker names on the disk before the marker: the engine leaves that to the order in which a file system keeps names.
func (t *tableFS) Create(name string, c vfs.DiskWriteCategory) (vfs.File, error) {
	if strings.HasPrefix(t.FS.PathBase(name), marker) {
		if err := syncDir(t.FS, t.FS.PathDir(name)); err != nil {
			return nil, unwritten(err)
		}
	}
	if c == ofCompactions {
		return t.createOutput(name, c)
	}
	return t.open(func() (vfs.File, error) { return t.FS.Create(name, c) })
}

func (t *tableFS) ReuseForWrite(from, name string, c vfs.DiskWriteCategory) (vfs.File, error) {
	return t.open(func() (vfs.File, error) { return t.FS.ReuseForWrite(from, name, c) })
}

func (t *tableFS) OpenDir(name string) (vfs.File, error) {
	f, err := t.open(func() (vfs.File, error) { return t.FS.OpenDir(name) })
	if err == nil && name == t.dir {
		f = &tableDir{f, t}
	}
	return f, err
}

func (t *tableFS) Rename(from, to string) error {
	return t.patiently(func() error { return t.FS.Rename(from, to) })
}

// Link makes a copy in another folder, unless links are wanted there: in a backup they would be damaged with what it is to replace.
func (t *tableFS) Link(from, to string) error {
	if t.links.Load() || t.FS.PathDir(to) == t.dir {
		return t.patiently(func() error { return t.FS.Link(from, to) })
	}
	if err := vfs.Copy(t.FS, from, to); err != nil {
		return uncopied{err}
	}
	return nil
}

// uncopied is an error after which the engine does not copy by itself: that would wait for room, for as long as there is none.
type uncopied struct{ error }

func (u uncopied) Is(target error) bool {
	return target == fs.ErrPermission || errors.Is(u.error, target)
}

// MkdirAll makes folders that are their user's alone, as the store's are.
func (t *tableFS) MkdirAll(dir string, mode fs.FileMode) error {
	return t.patiently(func() error { return t.FS.MkdirAll(dir, mode&0o700) })
}

func (t *tableFS) Unwrap() vfs.FS { return t.FS }

type tableFile struct {
	vfs.File
	fs *tableFS
}

func (f *tableFile) Write(p []byte) (n int, err error) {
	err = f.fs.patiently(func() error {
		m, err := f.File.Write(p[n:])
		f.fs.wrote.Add(int64(m))
		n += m
		return err
	})
	return n, err
}

// What was to be synced may be gone when that fails: it is not tried again.

func (f *tableFile) Sync() error { return unwritten(f.File.Sync()) }

func (f *tableFile) SyncData() error { return unwritten(f.File.SyncData()) }

func (f *tableFile) SyncTo(length int64) (full bool, err error) {
	full, err = f.File.SyncTo(length)
	return full, unwritten(err)
}

// tableDir is the folder of the engine, which ends the process where it cannot be synced. Instead the goroutine ends here, as in Fatalf.
type tableDir struct {
	vfs.File
	fs *tableFS
}

func (d *tableDir) Sync() error {
	if err := d.File.Sync(); err != nil {
		d.fs.fail(fmt.Errorf("the folder is not synced: %w", err))
		runtime.Goexit()
	}
	return nil
}
