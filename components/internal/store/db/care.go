package db

import (
	"context"
	"errors"
	"fmt"
	"io/fs"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/outrigger-mesh/outrigger/components"
)

// Size is what the files take and what the disk has left, in bytes.
func (d *DB) Size() (used, free int64) {
	used, _ = size(d.opts.FS, d.opts.Dir, every)
	free, _ = d.look()
	return used, free
}

// Size is that of the files in a folder of the machine, and what its disk has left.
func Size(dir string) (used, free int64, err error) {
	if used, err = size(vfs.Default, dir, every); errors.Is(err, fs.ErrNotExist) {
		return 0, 0, missing(dir)
	} else if err != nil {
		return 0, 0, err
	}
	u, err := vfs.Default.GetDiskUsage(dir)
	return used, int64(u.AvailBytes), err
}

func every(string) bool { return true }

func size(files vfs.FS, dir string, counts func(name string) bool) (used int64, err error) {
	names, err := files.List(dir)
	if err != nil {
		return 0, err
	}
	for _, name := range names {
		if !counts(name) {
			continue
		}
		if info, err := files.Stat(files.PathJoin(dir, name)); err == nil { // it may just have gone
			used += info.Size()
		}
	}
	return used, nil
}

// Compact writes the tables anew without what was deleted. Others go on meanwhile.
func (d *DB) Compact(ctx context.Context) error {
	return d.ask(ctx, func() error { return d.compact(ctx, func() bool { return false }) })
}

// Backup writes what is there now to a folder that is empty or absent, as a store that can be opened. Others go on meanwhile. One that
// was not finished is refused by whoever reads it. With links the tables are the store's own: that needs no room, and what becomes of them there becomes of
// them here.
func (d *DB) Backup(ctx context.Context, to string, links bool) error {
	if d.opts.full { // its files are in memory
		return d.full(true)
	}
	return d.ask(ctx, func() error { return d.backup(to, links) })
}

func (d *DB) backup(to string, links bool) error {
	d.backups.Lock() // one at a time
	defer d.backups.Unlock()
	d.tables.links.Store(links)
	files := d.files
	if err := vacate(files, to); err != nil { // the engine makes it
		return err
	}
	if err := d.pebble.Flush(); err != nil { // so that the tables are all there is, without a journal
		return err
	}
	if err := d.pebble.Checkpoint(to); err != nil {
		return fmt.Errorf("back up the store: %w", err)
	}
	applied, err := d.lastIn(to)
	if err != nil {
		return err
	}
	if err := beginJournal(files, to, applied); err != nil {
		return err
	}
	return markCopy(files, to)
}

// lastIn is the number of the last commit in a copy of the tables.
func (d *DB) lastIn(dir string) (applied uint64, err error) {
	o := Options{Dir: dir, FS: d.files}.withDefaults()
	p, err := o.openEngine(&tableFS{FS: o.FS}, func(error) {}, true)
	if err != nil {
		return 0, err
	}
	applied, err = number(p, keySequence)
	return applied, errors.Join(err, p.Close())
}

// vacate removes a folder that is empty, if it is there.
func vacate(files vfs.FS, dir string) error {
	there, err := vacant(files, dir)
	if err != nil || !there {
		return err
	}
	return files.Remove(dir)
}

// vacant fails for a folder that has something in it, and tells whether it is there.
func vacant(files vfs.FS, dir string) (there bool, err error) {
	names, err := files.List(dir)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return false, nil
	case err == nil && len(names) > 0:
		err = fmt.Errorf("%w: %s is not empty", components.ErrExists, dir)
	}
	return true, err
}

// Restore makes a folder that is empty or absent a copy of a backup: all of it, or nothing of it when it fails, also for loss of
// power. The copy is made beside it, read whole and then renamed; what an attempt before has left there is removed. Nobody else may have
// the folder.
func Restore(files vfs.FS, from, to string) (err error) {
	if files == nil {
		files = vfs.Default
	}
	if _, err := vacant(files, to); err != nil {
		return err
	}
	if err := Verify(Options{Dir: from, FS: files}); err != nil {
		return err
	}
	beside := to + draft
	if err := files.RemoveAll(beside); err != nil {
		return err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, files.RemoveAll(beside))
		}
	}()
	if err := makeDir(files, beside); err != nil {
		return err
	}
	if err := copyAll(files, from, beside); err != nil {
		return err
	}
	if err := markCopy(files, beside); err != nil { // what it was copied from need not be a backup
		return err
	}
	if err := Verify(Options{Dir: beside, FS: files}); err != nil {
		return err
	}
	if err := vacate(files, to); err != nil {
		return err
	}
	if err := files.Rename(beside, to); err != nil {
		return err
	}
	return syncDir(files, files.PathDir(to))
}

// copyAll copies the files of a folder, to the disk.
func copyAll(files vfs.FS, from, to string) error {
	names, err := files.List(from)
	if err != nil {
		return err
	}
	for _, name := range names {
		if err := vfs.Copy(files, files.PathJoin(from, name), files.PathJoin(to, name)); err != nil {
			return err
		}
	}
	return syncDir(files, to)
}
