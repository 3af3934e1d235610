package folder

import (
	"crypto/rand"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"syscall"
	"time"

	"github.com/outrigger-mesh/outrigger/components"
)

const (
	dirMode  = 0o700
	fileMode = 0o600
	tick     = 20 * time.Millisecond // more than that of any kernel's clock for files
)

// Write puts a file in place of what is there, folders and all. Readers see the old content or the new, never a part, and
// when Write has returned the new one is on the disk.
func Write(root *os.Root, name string, data []byte) error {
	return Explain(write(root, name, data))
}

func write(root *os.Root, name string, data []byte) (err error) {
	if err := mkdir(root, parent(name)); err != nil {
		return err
	}
	temp := join(parent(name), ".tmp-"+rand.Text())
	if err := fill(root, temp, data); err != nil {
		return errors.Join(err, ignoreAbsent(root.Remove(temp)))
	}
	if err := root.Rename(temp, name); err != nil {
		_ = root.Remove(temp) // the first error says more
		if errors.Is(err, syscall.EISDIR) || errors.Is(err, fs.ErrExist) {
			return fmt.Errorf("%w: a folder of other keys has that name", components.ErrPrecondition)
		}
		return err
	}
	return sync(root, parent(name))
}

func fill(root *os.Root, name string, data []byte) error {
	f, err := root.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_EXCL, fileMode)
	if err != nil {
		return err
	}
	_, err = f.Write(data)
	if err == nil {
		err = f.Sync()
	}
	return errors.Join(err, f.Close())
}

// mkdir makes a folder and those above it, on the disk.
func mkdir(root *os.Root, name string) error {
	if name == "." {
		return nil
	}
	if info, err := root.Stat(name); err == nil && info.IsDir() {
		return nil
	}
	if err := mkdir(root, parent(name)); err != nil {
		return err
	}
	if err := root.Mkdir(name, dirMode); err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	if info, err := root.Stat(name); err != nil {
		return err
	} else if !info.IsDir() {
		return fmt.Errorf("%w: above it there is a value, not a folder", components.ErrPrecondition)
	}
	return sync(root, parent(name))
}

func sync(root *os.Root, name string) error {
	d, err := root.Open(name)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

// Remove removes a file, on the disk, and the folders above it that are empty then, up to the given one. That it is absent
// is no error; a folder is none of its business.
func Remove(root *os.Root, name, upTo string) error {
	if info, err := root.Lstat(name); err != nil {
		return Explain(ignoreAbsent(err))
	} else if info.IsDir() {
		return nil
	}
	if err := root.Remove(name); err != nil {
		return Explain(ignoreAbsent(err))
	}
	dir := parent(name)
	for ; dir != upTo && dir != "."; dir = parent(dir) {
		info, err := root.Lstat(dir)
		if err != nil || !info.IsDir() || root.Remove(dir) != nil {
			break
		}
	}
	return Explain(ignoreAbsent(sync(root, dir)))
}

func ignoreAbsent(err error) error {
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, syscall.ENOTDIR) {
		return nil
	}
	return err
}

// Replace is Write for a file whose state before was old: the stamp of the new one is not only different but later. For that it
// waits, 20 ms at most, less than the disk may take: so it takes no context.
func Replace(root *os.Root, name string, data []byte, old Stamp) error {
	if wait := time.Until(time.Unix(0, old.Changed).Add(tick)); wait > 0 && wait <= tick {
		time.Sleep(wait)
	}
	return Write(root, name, data)
}
