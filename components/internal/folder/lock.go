package folder

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/outrigger-mesh/outrigger/components"
)

const lockPause = 5 * time.Millisecond

// noLocks is what file systems without locks answer to who wants one (flock(2)).
var noLocks = []error{unix.ENOLCK, unix.ENOTSUP, unix.EOPNOTSUPP, unix.ENOSYS, unix.EINVAL}

// Lock waits for the lock of a name that all processes share. It goes with the process, however that ends.
func Lock(ctx context.Context, root *os.Root, name string) (release func(), err error) {
	f, err := root.OpenFile(name, os.O_RDWR|os.O_CREATE, fileMode) // close-on-exec, as all files of package os
	if err != nil {
		return nil, Explain(err)
	}
	for {
		held, err := tryLock(f, unix.LOCK_EX)
		if held {
			return func() { f.Close() }, nil
		}
		if err == nil {
			select {
			case <-time.After(lockPause):
				continue
			case <-ctx.Done():
				err = ctx.Err()
			}
		}
		f.Close()
		return nil, err
	}
}

// TryLock takes a lock on an open file: exclusive until the file is closed. held is false if somebody else has it.
func TryLock(f *os.File) (held bool, err error) { return tryLock(f, unix.LOCK_EX) }

// Held tells whether somebody holds the exclusive lock of a file. Any number may ask at once.
func Held(f *os.File) (bool, error) {
	free, err := tryLock(f, unix.LOCK_SH)
	if free {
		_ = unix.Flock(int(f.Fd()), unix.LOCK_UN) // closing frees it too
	}
	return !free, err
}

func tryLock(f *os.File, how int) (bool, error) {
	for {
		err := unix.Flock(int(f.Fd()), how|unix.LOCK_NB)
		switch {
		case err == nil:
			return true, nil
		case errors.Is(err, syscall.EWOULDBLOCK):
			return false, nil
		case slices.Contains(noLocks, err):
			return false, fmt.Errorf("%w: the file system does not lock: use a folder on a local disk: %w", components.ErrUnsupported, err)
		case !errors.Is(err, syscall.EINTR):
			return false, Explain(err)
		}
	}
}
