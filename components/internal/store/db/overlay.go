package db

import (
	"errors"
	"io/fs"
	"slices"
	"sync"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
)

// overlay is a folder whose changes are in memory alone: with it a store on a full disk is read. The engine writes when it is opened,
// and has what is only in the journal in its tables. Safe for concurrent use.
type overlay struct {
	vfs.FS        // what is on the disk, which is not changed
	mem    vfs.FS // what was written
	mu     sync.Mutex
	gone   map[string]bool // what was removed
}

func newOverlay(files vfs.FS, dir string) (*overlay, error) {
	o := &overlay{FS: files, mem: vfs.NewMem(), gone: map[string]bool{}}
	return o, o.mem.MkdirAll(dir, 0o700)
}

func (o *overlay) written(name string) bool {
	_, err := o.mem.Stat(name)
	return err == nil
}

// of is the file system that has a file.
func (o *overlay) of(name string) (vfs.FS, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	switch {
	case o.written(name):
		return o.mem, nil
	case o.gone[name]:
		return nil, &fs.PathError{Op: "open", Path: name, Err: fs.ErrNotExist}
	}
	return o.FS, nil
}

func (o *overlay) Create(name string, c vfs.DiskWriteCategory) (vfs.File, error) {
	return o.mem.Create(name, c)
}

func (o *overlay) ReuseForWrite(from, to string, c vfs.DiskWriteCategory) (vfs.File, error) {
	return nil, errors.Join(o.Remove(from), errReadOnly) // who wanted it makes another
}

var errReadOnly = errors.New("the disk is full, and its files are not changed")

func (o *overlay) Open(name string, opts ...vfs.OpenOption) (vfs.File, error) {
	files, err := o.of(name)
	if err != nil {
		return nil, err
	}
	return files.Open(name, opts...)
}

func (o *overlay) OpenReadWrite(name string, c vfs.DiskWriteCategory, opts ...vfs.OpenOption) (vfs.File, error) {
	if !o.written(name) {
		return nil, errReadOnly
	}
	return o.mem.OpenReadWrite(name, c, opts...)
}

func (o *overlay) OpenDir(name string) (vfs.File, error) { return o.mem.OpenDir(name) }

func (o *overlay) Link(string, string) error { return errReadOnly }

func (o *overlay) RemoveAll(string) error { return errReadOnly }

func (o *overlay) Rename(from, to string) error {
	if !o.written(from) {
		return errReadOnly
	}
	return o.mem.Rename(from, to)
}

func (o *overlay) Remove(name string) error {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.gone[name] = true
	if o.written(name) {
		return o.mem.Remove(name)
	}
	return nil
}

func (o *overlay) MkdirAll(name string, mode fs.FileMode) error { return o.mem.MkdirAll(name, mode) }

func (o *overlay) List(dir string) ([]string, error) {
	names, err := o.FS.List(dir)
	if err != nil {
		return nil, err
	}
	written, err := o.mem.List(dir)
	o.mu.Lock()
	defer o.mu.Unlock()
	names = slices.DeleteFunc(names, func(name string) bool { return o.gone[o.PathJoin(dir, name)] || slices.Contains(written, name) })
	return append(names, written...), err
}

func (o *overlay) Stat(name string) (vfs.FileInfo, error) {
	files, err := o.of(name)
	if err != nil {
		return nil, err
	}
	return files.Stat(name)
}

func (o *overlay) Unwrap() vfs.FS { return nil }

// openFull opens a store that is there on a disk that is full, for reading. It has to be opened again when there is room.
func openFull(o Options) (*DB, error) {
	if there, err := checkFormat(o.FS, o.Dir); err != nil || !there {
		return nil, errors.Join(err, errReadOnly)
	}
	over, err := newOverlay(o.FS, o.Dir)
	if err != nil {
		return nil, err
	}
	o.FS, o.full = over, true
	d, err := open(o)
	if err != nil {
		return nil, err
	}
	o.Logger.Warn("the disk of the store is full: it is only read until there is room", "folder", o.Dir)
	d.engage(d.awaitRoom)
	return d, nil
}

// awaitRoom has the store opened again when there is room for what is in the journal.
func (d *DB) awaitRoom() {
	look := time.NewTicker(time.Second)
	defer look.Stop()
	for {
		select {
		case <-look.C:
			if free, known := d.look(); !known || free > d.order() {
				d.again()
				return
			}
		case <-d.ended.Done():
			return
		}
	}
}
