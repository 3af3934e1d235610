package servers

import (
	"errors"
	"os"
	"path/filepath"
	"syscall"
)

const prefix = "outrigger-servers-"

// folder makes a temporary folder. Its lock is held while the process lives, by which sweep tells whose is gone.
func folder(name string) (dir string, held *os.File, err error) {
	if dir, err = os.MkdirTemp("", prefix+name+"-"); err != nil {
		return "", nil, err
	}
	held, err = os.OpenFile(filepath.Join(dir, "lock"), os.O_CREATE|os.O_RDWR, 0o600)
	if err == nil {
		err = syscall.Flock(int(held.Fd()), syscall.LOCK_EX)
	}
	if err == nil {
		err = os.Chmod(dir, 0o711) // servers that refuse root run as their own users below it
	}
	if err != nil {
		err = errors.Join(err, held.Close(), os.RemoveAll(dir))
	}
	return dir, held, err
}

// sweep removes the folders of processes that were killed before they could: their servers ended with them.
func sweep() {
	locks, _ := filepath.Glob(filepath.Join(os.TempDir(), prefix+"*", "lock"))
	for _, path := range locks {
		f, err := os.OpenFile(path, os.O_RDWR, 0)
		if err != nil {
			continue // it went, or is another user's
		}
		if dir := filepath.Dir(path); syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB) == nil {
			dropShared(filepath.Join(dir, "postgres"))
			os.RemoveAll(dir)
		}
		f.Close()
	}
}
