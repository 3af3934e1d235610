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
	used, _ = size(d.opts.FS, d.opts.Dir)
	free, _ = d.look()
	return used, free
}

// Size is that of the files in a folder of the machine, and what its disk has left.
func Size(dir string) (used, free int64, err error) {
	if used, err = size(vfs.Default, dir); errors.Is(err, fs.ErrNotExist) {
		return 0, 0, missing(dir)
	} else if err != nil {
		return 0, 0, err
	}
	u, err := vfs.Default.GetDiskUsage(dir)
	return used, int64(u.AvailBytes), err
}

func size(files vfs.FS, dir string) (used int64, err error) {
	names, err := files.List(dir)
	if err != nil {
		return 0, err
	}
	for _, name := range names {
		if info, err := files.Stat(files.PathJoin(dir, name)); err == nil { // it may just have gone
			used += info.Size()
		}
	}
	return used, nil
}

// Compact writes the tables anew without what was deleted. Others go on meanwhile.
func (d *DB) Compact(ctx context.Context) error {
	return d.ask(ctx, func() error {
		return errors.Join(d.pebble.Flush(), d.pebble.Compact(ctx, []byte{0}, []byte{0xff}, false))
	})
}

// Backup writes what is there now to a folder that is empty or absent, as a store that can be opened. Others go on meanwhile.
func (d *DB) Backup(ctx context.Context, to string) error {
	return d.ask(ctx, func() error { return d.backup(to) })
}

func (d *DB) backup(to string) error {
	files := d.files
	if names, err := files.List(to); err == nil && len(names) > 0 {
		return fmt.Errorf("%w: %s is not empty", components.ErrExists, to)
	} else if err == nil {
		if err := files.Remove(to); err != nil { // the engine makes it
			return err
		}
	}
	if err := d.pebble.Flush(); err != nil { // so that the tables are all there is, without a journal
		return err
	}
	if err := d.pebble.Checkpoint(to); err != nil {
		return fmt.Errorf("back up the store: %w", err)
	}
	if err := writeFormat(files, to); err != nil {
		return err
	}
	return d.beginJournal(to)
}

// beginJournal gives a copy of the tables the journal that goes on where they end.
func (d *DB) beginJournal(dir string) error {
	o := Options{Dir: dir, FS: d.files}.withDefaults()
	p, err := o.openEngine(&tableFS{FS: o.FS}, func(error) {}, true)
	if err != nil {
		return err
	}
	applied, err := number(p, keySequence)
	if err = errors.Join(err, p.Close()); err != nil {
		return err
	}
	j := &journal{fs: o.FS, dir: dir, next: applied + 1, last: applied, synced: applied}
	return errors.Join(j.rotate(), j.close())
}

// Restore copies a backup to a folder that is empty or absent, once the backup was found whole.
func Restore(files vfs.FS, from, to string) error {
	if files == nil {
		files = vfs.Default
	}
	if names, err := files.List(to); err == nil && len(names) > 0 {
		return fmt.Errorf("%w: %s is not empty", components.ErrExists, to)
	}
	if err := Verify(Options{Dir: from, FS: files}); err != nil {
		return err
	}
	names, err := files.List(from)
	if err != nil {
		return err
	}
	if err := files.MkdirAll(to, 0o700); err != nil {
		return err
	}
	for _, name := range names {
		if err := vfs.Copy(files, files.PathJoin(from, name), files.PathJoin(to, name)); err != nil {
			return err
		}
	}
	return syncDir(files, to)
}
