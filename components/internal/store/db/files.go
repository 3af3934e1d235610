package db

import (
	"errors"
	"io"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
)

// tableFS is the file system of the engine, which takes it badly when the disk is full, and ends the process. So what the engine
// writes in the background waits here for room instead. What is waited for with that is refused meanwhile: see full.
type tableFS struct {
	vfs.FS
	waiting atomic.Int32 // writes that wait for room
	closing atomic.Bool  // nothing waits any longer
}

const roomPause = 50 * time.Millisecond

func noRoom(err error) bool { return errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT) }

// patiently repeats what failed for lack of room.
func (t *tableFS) patiently(try func() error) error {
	err := try()
	if !noRoom(err) {
		return err
	}
	t.waiting.Add(1)
	defer t.waiting.Add(-1)
	for noRoom(err) && !t.closing.Load() {
		time.Sleep(roomPause)
		err = try()
	}
	return err
}

// Lock does nothing: the folder is locked before it is opened, and by another way.
func (t *tableFS) Lock(string) (io.Closer, error) { return io.NopCloser(nil), nil }

func (t *tableFS) Create(name string, c vfs.DiskWriteCategory) (f vfs.File, err error) {
	err = t.patiently(func() error { f, err = t.FS.Create(name, c); return err })
	if err != nil {
		return nil, err
	}
	return &tableFile{f, t}, nil
}

func (t *tableFS) Rename(from, to string) error {
	return t.patiently(func() error { return t.FS.Rename(from, to) })
}

func (t *tableFS) Link(from, to string) error {
	return t.patiently(func() error { return t.FS.Link(from, to) })
}

func (t *tableFS) Unwrap() vfs.FS { return t.FS }

type tableFile struct {
	vfs.File
	fs *tableFS
}

func (f *tableFile) Write(p []byte) (n int, err error) {
	err = f.fs.patiently(func() error {
		m, err := f.File.Write(p[n:])
		n += m
		return err
	})
	return n, err
}
