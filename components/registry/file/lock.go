package file

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/outrigger-mesh/outrigger/components"
	"github.com/outrigger-mesh/outrigger/components/internal/folder"
)

// The folder's layout: locks/OWNER.lock, which OWNER holds as long as it lives, and records/SERVICE.ADDRESS.OWNER.json.
const (
	locksDir   = "locks"
	recordsDir = "records"
)

func lockName(owner string) string { return locksDir + "/" + owner + ".lock" }

// takeLock puts the lock of this instance into the folder. It is held before it has its name, so that nobody ever sees it
// free while the instance lives. It is close-on-exec: a process that the sidecar starts does not keep it.
func (s *store) takeLock() error {
	for _, dir := range []string{locksDir, recordsDir} {
		if err := os.MkdirAll(filepath.Join(s.dir, dir), 0o700); err != nil {
			return folder.Explain(err)
		}
	}
	root, err := folder.Open(s.dir)
	if err != nil {
		return err
	}
	defer root.Close()
	temp := locksDir + "/.tmp-" + s.owner
	f, err := root.OpenFile(temp, os.O_RDWR|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return folder.Explain(err)
	}
	held, err := folder.TryLock(f)
	if err == nil && !held {
		err = fmt.Errorf("%w: another process has the lock %s", components.ErrUnavailable, temp)
	}
	if err == nil {
		_, err = fmt.Fprintf(f, "pid %d\n", os.Getpid()) // for people; nothing reads it
	}
	if err == nil {
		err = root.Rename(temp, lockName(s.owner))
	}
	if err != nil {
		f.Close()
		_ = root.Remove(temp) // the first error says more
		return folder.Explain(err)
	}
	if s.lock != nil {
		s.lock.Close()
	}
	s.lock = f
	return nil
}

// lockInPlace tells whether others find the lock that this instance holds.
func (s *store) lockInPlace(root *os.Root) bool {
	mine, err := s.lock.Stat()
	if err != nil {
		return false
	}
	there, err := root.Stat(lockName(s.owner))
	return err == nil && os.SameFile(mine, there)
}

// alive tells whether an owner holds its lock. Where it cannot be told it is taken to be so: a record too many costs a failed
// connection, one too few a service.
func (s *store) alive(root *os.Root, owner string) bool {
	if owner == s.owner {
		return true
	}
	f, err := root.Open(lockName(owner))
	if err != nil {
		return !errors.Is(folder.Explain(err), components.ErrNotFound)
	}
	defer f.Close()
	held, err := folder.Held(f)
	return held || err != nil
}
