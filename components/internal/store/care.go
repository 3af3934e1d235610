package store

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"

	"github.com/outrigger-mesh/outrigger/components"
	"github.com/outrigger-mesh/outrigger/components/internal/folder"
	"github.com/outrigger-mesh/outrigger/components/internal/store/db"
)

// Care is what operators do with the store of a data folder, whoever owns it.
type Care struct {
	DataDir string
	Log     *slog.Logger
}

func (c Care) data() string { return filepath.Join(Dir(c.DataDir), "data") }

// link calls do over a link to the owner; if there is none, this process is it meanwhile.
func (c Care) link(ctx context.Context, do func(*Link) error) error {
	if err := c.there(); err != nil {
		return err
	}
	l, err := Join(ctx, components.Env{DataDir: c.DataDir, Logger: c.Log})
	if err != nil {
		return err
	}
	defer l.Close()
	return do(l)
}

func (c Care) there() error {
	if _, err := os.Stat(c.data()); errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("%w: there is no store in %s", components.ErrNotFound, Dir(c.DataDir))
	}
	return nil
}

// alone calls do while nobody owns the store, whose folder is there; false if somebody does.
func (c Care) alone(do func() error) (bool, error) {
	l, err := takeLock(Dir(c.DataDir))
	if err != nil || l == nil {
		return false, err
	}
	defer l.free()
	return true, do()
}

// Status tells how the store is doing. When nobody has it open its PID is 0, and only the sizes are known.
func (c Care) Status(ctx context.Context) (s Status, err error) {
	if _, owned, err := OwnerOf(Dir(c.DataDir)); err != nil {
		return s, err
	} else if !owned {
		s.Bytes, s.Free, err = db.Size(c.data())
		return s, err
	}
	err = c.link(ctx, func(l *Link) error {
		s, err = statusCall.Call(ctx, l, struct{}{})
		return err
	})
	return s, err
}

// The copy of a store in use that Verify reads, and the file that is locked meanwhile.
const (
	copyDir  = "verify"
	copyLock = "verifying"
)

// copyRoom is what is to be free for the copy, in bytes. It is made of links, but what is not yet in the tables is written for it,
// and what is compacted meanwhile is there twice.
const copyRoom = 96 << 20

// Verify reads all that there is. One that is open is copied for that, and the copy removed; what a process that was killed has left
// of one is removed by the next. There is one at a time.
func (c Care) Verify(ctx context.Context) (err error) {
	if err := c.there(); err != nil {
		return err
	}
	f, err := os.OpenFile(filepath.Join(Dir(c.DataDir), copyLock), os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return explain(err)
	}
	defer f.Close()
	held, err := folder.TryLock(f)
	if err != nil {
		return err
	}
	if !held {
		return fmt.Errorf("%w: another process is verifying the store: try again when it has done", components.ErrUnavailable)
	}
	if err := c.clear(); err != nil {
		return err
	}
	if alone, err := c.alone(func() error { return db.Verify(db.Options{Dir: c.data()}) }); alone || err != nil {
		return err
	}
	_, free, err := db.Size(c.data())
	if err != nil {
		return err
	}
	if err := roomForCopy(free); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, c.clear()) }()
	to := filepath.Join(Dir(c.DataDir), copyDir)
	if err := c.backup(ctx, backupIn{To: to, Links: true}); err != nil {
		return err
	}
	return db.Verify(db.Options{Dir: to})
}

func roomForCopy(free int64) error {
	if free >= copyRoom {
		return nil
	}
	return components.WithReason(fmt.Errorf("%w: to verify the store while it is in use takes a copy in its folder, for which %d MiB have to be free, "+
		"and %d MiB are", components.ErrExhausted, copyRoom>>20, free>>20), db.ReasonDiskFull, "limit", "disk")
}

// clear removes the copy of a Verify. No other may be under way.
func (c Care) clear() error { return os.RemoveAll(filepath.Join(Dir(c.DataDir), copyDir)) }

// Compact gives back the room of what was deleted.
func (c Care) Compact(ctx context.Context) error {
	return c.link(ctx, func(l *Link) error {
		_, err := compactCall.Call(ctx, l, struct{}{})
		return err
	})
}

// Backup copies the store, as it is at one moment, to a folder that is empty or absent, and becomes this user's alone.
func (c Care) Backup(ctx context.Context, to string) error {
	to, err := filepath.Abs(to) // the owner has a working folder of its own
	if err != nil {
		return err
	}
	return c.backup(ctx, backupIn{To: to})
}

func (c Care) backup(ctx context.Context, in backupIn) error {
	return c.link(ctx, func(l *Link) error {
		_, err := backupCall.Call(ctx, l, in)
		return err
	})
}

// Restore makes a backup the store, where there is none yet: all of it, or nothing of it if it fails.
func (c Care) Restore(_ context.Context, from string) error {
	if err := db.MakeDir(Dir(c.DataDir)); err != nil {
		return explain(err)
	}
	alone, err := c.alone(func() error { return db.Restore(nil, from, c.data()) })
	if !alone && err == nil {
		o := readOwner(Dir(c.DataDir))
		return fmt.Errorf("%w: process %d has the store open: restore to another data folder", components.ErrPrecondition, o.PID)
	}
	return err
}

// Own has this process own the store, or stand ready to, until ctx ends. joined is told who owns it first.
func (c Care) Own(ctx context.Context, joined func(Owner)) error {
	l, err := Join(ctx, components.Env{DataDir: c.DataDir, Logger: c.Log})
	if err != nil {
		return err
	}
	defer l.Close()
	joined(readOwner(Dir(c.DataDir)))
	<-ctx.Done()
	return nil
}
