package folder

import (
	"fmt"
	"io/fs"
	"os"
	"strings"
	"syscall"

	"github.com/outrigger-mesh/outrigger/components"
)

// Stamp tells one state of a file from another. Equal stamps mean equal content, but for writes in place within one tick of
// the kernel's clock that leave the size alone.
type Stamp struct {
	// Changed is the latest change time, in nanoseconds, of the file and of the links that lead to it. Users cannot set it
	// back, unlike the time of modification, and it moves when a link is turned to an older file.
	Changed int64
	Size    int64
	Inode   uint64
	Mode    fs.FileMode
	// Foreign: the file, or a folder or a link below the root that leads to it, is another user's. See Foreign.
	Foreign bool
}

// Foreign tells whether a file belongs neither to the own user nor to root, so that others decide what is in it.
func Foreign(info fs.FileInfo) bool {
	s, ok := info.Sys().(*syscall.Stat_t)
	return !ok || s.Uid != 0 && int(s.Uid) != os.Geteuid()
}

const maxLinks = 40 // as the kernel

// StampOf follows the links of a name. One that leads out of the folder is ErrDenied.
func StampOf(root *os.Root, name string) (Stamp, error) {
	w := walker{root: root}
	for rest, deeper := name, true; deeper; {
		var part string
		part, rest, deeper = strings.Cut(rest, "/")
		target, err := w.step(part)
		if err != nil {
			return Stamp{}, err
		}
		if target == "" {
			continue
		}
		if deeper {
			target += "/" + rest
		}
		rest, deeper = target, true
	}
	return w.arrive()
}

// walker goes from name to name as the kernel does, but sees the links on its way.
type walker struct {
	root  *os.Root
	at    string // where it is; "" is the root
	here  fs.FileInfo
	links int
	stamp Stamp
}

// step goes to the next part; if that is a link, it answers where that leads.
func (w *walker) step(part string) (target string, err error) {
	switch part {
	case "", ".":
		return "", nil
	case "..":
		if w.at == "" {
			return "", errOutside
		}
		w.at, w.here = strings.TrimPrefix(parent(w.at), "."), nil
		return "", nil
	}
	next := join(w.at, part)
	info, err := w.root.Lstat(next)
	if err != nil {
		return "", Explain(err)
	}
	w.stamp.Foreign = w.stamp.Foreign || Foreign(info)
	if info.Mode()&fs.ModeSymlink == 0 {
		w.at, w.here = next, info
		return "", nil
	}
	if w.links++; w.links > maxLinks {
		return "", fmt.Errorf("%w: too many links", components.ErrDenied)
	}
	if target, err = w.root.Readlink(next); err != nil {
		return "", Explain(err)
	}
	if strings.HasPrefix(target, "/") {
		return "", errOutside
	}
	changed, _ := identity(info)
	w.stamp.Changed = max(w.stamp.Changed, changed)
	return target, nil
}

// arrive completes the stamp with what is at the end.
func (w *walker) arrive() (Stamp, error) {
	if w.here == nil {
		var err error
		if w.here, err = w.root.Lstat(join(w.at, ".")); err != nil {
			return Stamp{}, Explain(err)
		}
	}
	changed, inode := identity(w.here)
	w.stamp.Changed = max(w.stamp.Changed, changed)
	w.stamp.Size, w.stamp.Inode, w.stamp.Mode = w.here.Size(), inode, w.here.Mode()
	return w.stamp, nil
}

var errOutside = fmt.Errorf("%w: a link leads out of the folder", components.ErrDenied)

func join(folder, name string) string {
	if folder == "" {
		return name
	}
	return folder + "/" + name
}
