package folder

import (
	"fmt"
	"io/fs"
	"os"
	"strings"

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
}

const maxLinks = 40 // as the kernel

// StampOf follows the links of a name. One that leads out of the folder is ErrDenied.
func StampOf(root *os.Root, name string) (Stamp, error) {
	var s Stamp
	var at string
	rest, links := name, 0
	for {
		part, more, deeper := strings.Cut(rest, "/")
		rest = more
		switch part {
		case "", ".":
		case "..":
			if at == "" {
				return s, errOutside
			}
			at = parent(at)
			if at == "." {
				at = ""
			}
		default:
			info, err := root.Lstat(join(at, part))
			if err != nil {
				return s, Explain(err)
			}
			if info.Mode()&fs.ModeSymlink == 0 {
				at = join(at, part)
				s.take(info, !deeper)
				break
			}
			if links++; links > maxLinks {
				return s, fmt.Errorf("%w: too many links", components.ErrDenied)
			}
			target, err := root.Readlink(join(at, part))
			if err != nil {
				return s, Explain(err)
			}
			if strings.HasPrefix(target, "/") {
				return s, errOutside
			}
			s.take(info, false)
			if deeper {
				target += "/" + rest
			}
			rest, deeper = target, true
		}
		if !deeper {
			return s, nil
		}
	}
}

var errOutside = fmt.Errorf("%w: a link leads out of the folder", components.ErrDenied)

// take adds what is found on the way: the time of links, and all of what is at its end.
func (s *Stamp) take(info fs.FileInfo, end bool) {
	changed, inode := identity(info)
	if end || info.Mode()&fs.ModeSymlink != 0 {
		s.Changed = max(s.Changed, changed)
	}
	if end {
		s.Size, s.Inode, s.Mode = info.Size(), inode, info.Mode()
	}
}

func join(folder, name string) string {
	if folder == "" {
		return name
	}
	return folder + "/" + name
}
