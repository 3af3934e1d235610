package store

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/outrigger-mesh/outrigger/components"
	"github.com/outrigger-mesh/outrigger/components/internal/folder"
)

const lockFile = "owner"

// ReasonNoLock is of a data folder on a file system whose locks hold nobody off.
const ReasonNoLock components.Reason = "STORE_NOT_LOCKED"

// Owner is who has the files of a store open.
type Owner struct {
	PID   int
	Since time.Time // by the wall clock
}

// lock is the hold on a store's files. The kernel lets it go with the process, however that ends.
type lock struct{ f *os.File }

// takeLock answers nil if another process, or another hold of this one, has it.
func takeLock(dir string) (*lock, error) { return takeLockBy(dir, folder.TryLock) }

func takeLockBy(dir string, try func(*os.File) (held bool, err error)) (*lock, error) {
	path := filepath.Join(dir, lockFile)
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, explain(err)
	}
	held, err := try(f)
	if refused(err) {
		err = noLock(path)
	}
	if err == nil && held {
		err = proveLock(path, try)
	}
	if err == nil && held {
		err = write(f, fmt.Sprintf("%d %s\n", os.Getpid(), time.Now().UTC().Format(time.RFC3339Nano)))
	}
	if err != nil || !held {
		return nil, errors.Join(err, f.Close())
	}
	return &lock{f}, nil
}

func write(f *os.File, text string) error {
	if err := f.Truncate(0); err != nil {
		return err
	}
	_, err := f.WriteAt([]byte(text), 0)
	return err
}

func (l *lock) free() { _ = l.f.Close() } // nothing was written that matters

// proveLock finds out whether a lock that is held keeps others away: on some network file systems it does not.
func proveLock(path string, try func(*os.File) (bool, error)) error {
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		return explain(err)
	}
	defer f.Close()
	if again, err := try(f); err != nil || !again {
		return err
	}
	return noLock(path)
}

func noLock(path string) error {
	return components.WithReason(fmt.Errorf("%w: the file system of %s does not lock: two processes could write to the store at once; "+
		"use a -data-dir on a local disk", components.ErrUnsupported, path), ReasonNoLock)
}

// refused tells whether a file system has no locks, by what it answers to who wants one (flock(2)).
func refused(err error) bool {
	return slices.ContainsFunc([]error{syscall.ENOLCK, syscall.ENOTSUP, syscall.EOPNOTSUPP, syscall.ENOSYS, syscall.EINVAL},
		func(answer error) bool { return errors.Is(err, answer) })
}

// explain says of a file that cannot be used what to do: to try again is of no use.
func explain(err error) error {
	if errors.Is(err, os.ErrPermission) || errors.Is(err, syscall.EROFS) || errors.Is(err, syscall.ENOTDIR) {
		return fmt.Errorf("%w: the store's folder: %w; it needs to be the sidecar's own, or give another with -data-dir", components.ErrPrecondition, err)
	}
	return err
}

// OwnerOf tells who has the store of a folder open; false if nobody does.
func OwnerOf(dir string) (Owner, bool, error) {
	f, err := os.Open(filepath.Join(dir, lockFile))
	if errors.Is(err, os.ErrNotExist) {
		return Owner{}, false, nil
	}
	if err != nil {
		return Owner{}, false, explain(err)
	}
	defer f.Close()
	if held, err := folder.Held(f); err != nil || !held {
		return Owner{}, false, err
	}
	return readOwner(dir), true, nil
}

// readOwner is who noted itself last in the lock's file.
func readOwner(dir string) (o Owner) {
	text, err := os.ReadFile(filepath.Join(dir, lockFile))
	if err != nil {
		return o
	}
	pid, since, _ := strings.Cut(strings.TrimSpace(string(text)), " ")
	if o.PID, err = strconv.Atoi(pid); err != nil {
		return Owner{}
	}
	if o.Since, err = time.Parse(time.RFC3339Nano, since); err != nil {
		return Owner{PID: o.PID}
	}
	return o
}
