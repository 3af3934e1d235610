// Package folder is what drivers that keep their data in a folder share: reading files without ever leaving the folder,
// whatever links are in it; writing them whole or not at all; locks between processes; and the kinds of errors.
//
// Names are slash-separated paths below an os.Root.
package folder

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"strings"
	"syscall"
	"time"

	"github.com/outrigger-mesh/outrigger/components"
)

// Visible tells whether each part of a name is one that files of users have. Those that begin with a dot are not: they are
// temporary files, locks, and what Kubernetes and editors put beside the files.
func Visible(name string) bool {
	for part := range strings.SplitSeq(name, "/") {
		if part == "" || part[0] == '.' || len(part) > 255 {
			return false
		}
	}
	return strings.IndexByte(name, 0) < 0
}

// Open opens a folder; one that is absent is ErrNotFound.
func Open(dir string) (*os.Root, error) {
	root, err := os.OpenRoot(dir)
	if err != nil {
		return nil, Explain(err)
	}
	return root, nil
}

// How often and how long a file is waited for that somebody is writing: 45 ms at most. That is less than a file system may keep a
// call anyway, so it takes no context.
const (
	settleTries = 10
	settlePause = 5 * time.Millisecond
)

var errUnsettled = fmt.Errorf("%w: the file is being written", components.ErrUnavailable)

// Read reads a regular file of up to limit bytes (more is ErrExhausted), and a stamp that is of just that content.
func Read(root *os.Root, name string, limit int64) (data []byte, stamp Stamp, err error) {
	for try := 1; ; try++ {
		data, stamp, err = readOnce(root, name, limit)
		if !errors.Is(err, errUnsettled) || try == settleTries {
			return data, stamp, Explain(err)
		}
		time.Sleep(settlePause)
	}
}

func readOnce(root *os.Root, name string, limit int64) (data []byte, stamp Stamp, err error) {
	before, err := StampOf(root, name)
	if err != nil {
		return nil, Stamp{}, err
	}
	// Should it be a pipe by now, opening must not wait for a writer.
	f, err := root.OpenFile(name, os.O_RDONLY|syscall.O_NONBLOCK, 0)
	if err != nil {
		return nil, Stamp{}, err
	}
	defer f.Close()
	if info, err := f.Stat(); err != nil {
		return nil, Stamp{}, err
	} else if !info.Mode().IsRegular() {
		return nil, Stamp{}, fmt.Errorf("%w: not a regular file", components.ErrNotFound)
	}
	if data, err = io.ReadAll(io.LimitReader(f, limit+1)); err != nil {
		return nil, Stamp{}, err
	}
	after, err := StampOf(root, name)
	switch {
	case err != nil:
		return nil, Stamp{}, err
	case after != before:
		return nil, Stamp{}, errUnsettled
	case int64(len(data)) > limit:
		return nil, Stamp{}, fmt.Errorf("%w: the file has more than %d bytes", components.ErrExhausted, limit)
	}
	return data, after, nil
}

// Explain wraps a file system's error in the kind it is of. Paths are not in the text.
func Explain(err error) error {
	if err == nil || isKind(err) {
		return err
	}
	if p := (*fs.PathError)(nil); errors.As(err, &p) {
		err = p.Err
	}
	if l := (*os.LinkError)(nil); errors.As(err, &l) {
		err = l.Err
	}
	for _, k := range kinds {
		if errors.Is(err, k.cause) {
			return fmt.Errorf("%w: %w", k.kind, err)
		}
	}
	return fmt.Errorf("%w: %w", components.ErrUnavailable, err)
}

var kinds = []struct{ cause, kind error }{
	{fs.ErrNotExist, components.ErrNotFound},
	{syscall.ENOTDIR, components.ErrNotFound},
	{fs.ErrPermission, components.ErrDenied},
	{syscall.EROFS, components.ErrDenied},
	{syscall.ELOOP, components.ErrDenied},
	{syscall.ENOSPC, components.ErrExhausted},
	{syscall.EDQUOT, components.ErrExhausted},
	{syscall.ENAMETOOLONG, components.ErrInvalid},
}

func isKind(err error) bool {
	for _, kind := range []error{components.ErrNotFound, components.ErrDenied, components.ErrExhausted, components.ErrInvalid,
		components.ErrUnavailable, components.ErrPrecondition, components.ErrConflict, components.ErrUnsupported} {
		if errors.Is(err, kind) {
			return true
		}
	}
	return false
}

// parent is the folder of a name.
func parent(name string) string { return path.Dir(name) }
