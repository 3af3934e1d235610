package folder

import (
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"slices"
	"strings"

	"github.com/outrigger-mesh/outrigger/components"
)

const maxDepth = 32 // folders in folders, links that lead round and round among them

// Sight is what a look into a folder finds: visible files with their stamps, and what could not be looked at.
type Sight struct {
	Files map[string]Stamp
	Bad   map[string]error // by file or folder; "" is the folder itself
}

// Equal tells whether nothing has changed.
func (s Sight) Equal(other Sight) bool {
	sameText := func(a, b error) bool { return a.Error() == b.Error() }
	return maps.Equal(s.Files, other.Files) && maps.EqualFunc(s.Bad, other.Bad, sameText)
}

// Fault is why these names, and all that begin with one of the prefixes, cannot be known: one of them could not be looked at,
// or a folder that may hold one.
func (s Sight) Fault(names, prefixes []string) error {
	for _, bad := range slices.Sorted(maps.Keys(s.Bad)) {
		above := func(name string) bool { return bad == "" || strings.HasPrefix(name, bad+"/") }
		if slices.ContainsFunc(names, func(name string) bool { return name == bad || above(name) }) ||
			slices.ContainsFunc(prefixes, func(p string) bool { return above(p) || strings.HasPrefix(bad+"/", p) }) {
			return fmt.Errorf("%q: %w", bad, s.Bad[bad])
		}
	}
	return nil
}

// Look looks into the folder start (empty, or ending in a slash) and all below, and follows links that stay inside. enter, if
// there is one, is told each folder before it is read.
func Look(root *os.Root, start string, enter func(dir string)) Sight {
	l := looker{root: root, enter: enter, sight: Sight{Files: map[string]Stamp{}, Bad: map[string]error{}}}
	l.folder(strings.TrimSuffix(start, "/"), nil)
	return l.sight
}

type looker struct {
	root  *os.Root
	enter func(dir string)
	sight Sight
}

func (l *looker) folder(name string, above []uint64) {
	if l.enter != nil {
		l.enter(name)
	}
	dir := name
	if dir == "" {
		dir = "."
	}
	entries, err := fs.ReadDir(l.root.FS(), dir)
	if err != nil {
		l.failed(name, err)
		return
	}
	for _, e := range entries {
		if !Visible(e.Name()) {
			continue
		}
		child := e.Name()
		if name != "" {
			child = name + "/" + child
		}
		l.entry(child, above)
	}
}

func (l *looker) entry(name string, above []uint64) {
	stamp, err := StampOf(l.root, name)
	switch {
	case err != nil:
		l.failed(name, err)
	case stamp.Mode.IsDir():
		if len(above) < maxDepth && !slices.Contains(above, stamp.Inode) {
			l.folder(name, append(slices.Clip(above), stamp.Inode))
		}
	case stamp.Mode.IsRegular():
		l.sight.Files[name] = stamp
	}
}

func (l *looker) failed(name string, err error) {
	if err = Explain(err); !errors.Is(err, components.ErrNotFound) { // removed since, or a link to nowhere
		l.sight.Bad[name] = err
	}
}
