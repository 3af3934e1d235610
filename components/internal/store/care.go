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
	if _, err := os.Stat(c.data()); errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("%w: there is no store in %s", components.ErrNotFound, Dir(c.DataDir))
	}
	l, err := Join(ctx, components.Env{DataDir: c.DataDir, Logger: c.Log})
	if err != nil {
		return err
	}
	defer l.Close()
	return do(l)
}

// alone calls do while nobody owns the store; false if somebody does.
func (c Care) alone(do func() error) (bool, error) {
	if err := db.MakeDir(Dir(c.DataDir)); err != nil {
		return false, explain(err)
	}
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

// Verify reads all that there is. One that is open is copied for that, and the copy removed.
func (c Care) Verify(ctx context.Context) error {
	alone, err := c.alone(func() error { return db.Verify(db.Options{Dir: c.data()}) })
	if alone || err != nil {
		return err
	}
	to, err := os.MkdirTemp(Dir(c.DataDir), "verify-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(to)
	if err := c.Backup(ctx, to); err != nil {
		return err
	}
	return db.Verify(db.Options{Dir: to})
}

// Compact gives back the room of what was deleted.
func (c Care) Compact(ctx context.Context) error {
	return c.link(ctx, func(l *Link) error {
		_, err := compactCall.Call(ctx, l, struct{}{})
		return err
	})
}

// Backup copies the store, as it is at one moment, to a folder that is empty or absent.
func (c Care) Backup(ctx context.Context, to string) error {
	to, err := filepath.Abs(to) // the owner has a working folder of its own
	if err != nil {
		return err
	}
	return c.link(ctx, func(l *Link) error {
		_, err := backupCall.Call(ctx, l, backupIn{to})
		return err
	})
}

// Restore makes a backup the store, where there is none yet: all of it, or nothing of it if it fails.
func (c Care) Restore(_ context.Context, from string) error {
	alone, err := c.alone(func() error { return db.Restore(nil, from, c.data()) })
	if !alone && err == nil {
		o := readOwner(Dir(c.DataDir))
		return fmt.Errorf("%w: process %d has the store open", components.ErrPrecondition, o.PID)
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
