package db

import (
	"strings"
	"sync/atomic"

	"github.com/cockroachdb/pebble/v2/vfs"
)

// walFS is the file system of the engine, but for one thing: the log is synced only when a commit asks for the disk. The engine
// knows commits that are not synced too, but keeps those in the process for a while, so that they end with it.
type walFS struct {
	vfs.FS
	real atomic.Bool
}

func newWALFS(fs vfs.FS) *walFS {
	w := &walFS{FS: fs}
	w.real.Store(true)
	return w
}

// sync says whether the next commit is to be on the disk. There is one commit at a time.
func (w *walFS) sync(real bool) { w.real.Store(real) }

func (w *walFS) Create(name string, c vfs.DiskWriteCategory) (vfs.File, error) {
	f, err := w.FS.Create(name, c)
	return w.wrap(name, f), err
}

func (w *walFS) ReuseForWrite(old, name string, c vfs.DiskWriteCategory) (vfs.File, error) {
	f, err := w.FS.ReuseForWrite(old, name, c)
	return w.wrap(name, f), err
}

func (w *walFS) wrap(name string, f vfs.File) vfs.File {
	if f == nil || !strings.HasSuffix(name, ".log") {
		return f
	}
	return &walFile{f, w}
}

type walFile struct {
	vfs.File
	fs *walFS
}

func (f *walFile) Sync() error {
	if !f.fs.real.Load() {
		return nil
	}
	return f.File.Sync()
}

func (f *walFile) SyncData() error {
	if !f.fs.real.Load() {
		return nil
	}
	return f.File.SyncData()
}

func (f *walFile) SyncTo(length int64) (bool, error) {
	if !f.fs.real.Load() {
		return false, nil
	}
	return f.File.SyncTo(length)
}
