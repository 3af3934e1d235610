package db

import (
	"errors"
	"io/fs"
	"sync"

	"github.com/cockroachdb/pebble/v2/vfs"
)

// fence is the file system through which a DB changes its folder. Once it is shut, what is left of the DB changes nothing any more:
// an engine that has failed cannot be stopped, and the folder may be another's by then. Reading goes on. Safe for concurrent use.
type fence struct {
	vfs.FS
	mu    sync.Mutex
	shut  bool
	under sync.WaitGroup // changes that have begun
}

// errShut is of changes that a fence did not let begin.
var errShut = errors.New("the store is given up, and its files are not changed any more")

// close lets nothing begin any more.
func (f *fence) close() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.shut = true
}

// wait comes back when what had begun before close has ended, however long the disk takes for it.
func (f *fence) wait() { f.under.Wait() }

func (f *fence) begin() bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.shut {
		return false
	}
	f.under.Add(1)
	return true
}

func (f *fence) change(do func() error) error {
	if !f.begin() {
		return errShut
	}
	defer f.under.Done()
	return do()
}

func (f *fence) open(do func() (vfs.File, error)) (file vfs.File, err error) {
	err = f.change(func() error {
		file, err = do()
		return err
	})
	if err != nil {
		return nil, err
	}
	return &fencedFile{file, f}, nil
}

func (f *fence) Create(name string, c vfs.DiskWriteCategory) (vfs.File, error) {
	return f.open(func() (vfs.File, error) { return f.FS.Create(name, c) })
}

func (f *fence) OpenReadWrite(name string, c vfs.DiskWriteCategory, opts ...vfs.OpenOption) (vfs.File, error) {
	return f.open(func() (vfs.File, error) { return f.FS.OpenReadWrite(name, c, opts...) })
}

func (f *fence) ReuseForWrite(from, name string, c vfs.DiskWriteCategory) (vfs.File, error) {
	return f.open(func() (vfs.File, error) { return f.FS.ReuseForWrite(from, name, c) })
}

func (f *fence) OpenDir(name string) (vfs.File, error) {
	return f.open(func() (vfs.File, error) { return f.FS.OpenDir(name) })
}

func (f *fence) Link(from, to string) error {
	return f.change(func() error { return f.FS.Link(from, to) })
}

func (f *fence) Rename(from, to string) error {
	return f.change(func() error { return f.FS.Rename(from, to) })
}

func (f *fence) Remove(name string) error {
	return f.change(func() error { return f.FS.Remove(name) })
}

func (f *fence) RemoveAll(name string) error {
	return f.change(func() error { return f.FS.RemoveAll(name) })
}

func (f *fence) MkdirAll(name string, mode fs.FileMode) error {
	return f.change(func() error { return f.FS.MkdirAll(name, mode) })
}

func (f *fence) Unwrap() vfs.FS { return f.FS }

type fencedFile struct {
	vfs.File
	fence *fence
}

func (f *fencedFile) Write(p []byte) (n int, err error) {
	err = f.fence.change(func() error {
		n, err = f.File.Write(p)
		return err
	})
	return n, err
}

func (f *fencedFile) WriteAt(p []byte, at int64) (n int, err error) {
	err = f.fence.change(func() error {
		n, err = f.File.WriteAt(p, at)
		return err
	})
	return n, err
}

func (f *fencedFile) Preallocate(at, n int64) error {
	return f.fence.change(func() error { return f.File.Preallocate(at, n) })
}

func (f *fencedFile) Sync() error { return f.fence.change(f.File.Sync) }

func (f *fencedFile) SyncData() error { return f.fence.change(f.File.SyncData) }

func (f *fencedFile) SyncTo(length int64) (full bool, err error) {
	err = f.fence.change(func() error {
		full, err = f.File.SyncTo(length)
		return err
	})
	return full, err
}
