package file

import (
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"slices"
	"strings"

	"github.com/outrigger-mesh/outrigger/components"
	"github.com/outrigger-mesh/outrigger/components/config"
	"github.com/outrigger-mesh/outrigger/components/internal/folder"
)

const maxDepth = 32 // folders in folders, links that lead round and round among them

// sight is what a look into the folder finds: the keys with their files' stamps, and what could not be looked at.
type sight struct {
	files map[string]folder.Stamp
	bad   map[string]error // by file or folder
}

func (s sight) equal(other sight) bool {
	return maps.Equal(s.files, other.files) && maps.EqualFunc(s.bad, other.bad, func(a, b error) bool { return a.Error() == b.Error() })
}

// keys are those selected, sorted.
func (s sight) keys(sel config.Selection) (keys []string) {
	for key := range s.files {
		if sel.Has(key) {
			keys = append(keys, key)
		}
	}
	slices.Sort(keys)
	return keys
}

// fault is why what is selected cannot be known: a file that is selected, or a folder that may hold one.
func (s sight) fault(sel config.Selection) error {
	for _, name := range slices.Sorted(maps.Keys(s.bad)) {
		if concerns(name, sel) {
			return fmt.Errorf("%q: %w", name, s.bad[name])
		}
	}
	return nil
}

func concerns(name string, sel config.Selection) bool {
	inside := name + "/"
	if name == "" || sel.Has(name) || sel.Has(inside) {
		return true
	}
	for _, key := range slices.Concat(sel.Keys, sel.Prefixes) {
		if strings.HasPrefix(key, inside) {
			return true
		}
	}
	return false
}

// look looks into the folder start (empty, or ending in a slash) and all below. enter is told each folder before it is read.
func look(root *os.Root, start string, enter func(dir string)) sight {
	l := looker{root: root, enter: enter, sight: sight{files: map[string]folder.Stamp{}, bad: map[string]error{}}}
	l.folder(strings.TrimSuffix(start, "/"), nil)
	return l.sight
}

type looker struct {
	root  *os.Root
	enter func(dir string)
	sight sight
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
		if !folder.Visible(e.Name()) {
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
	stamp, err := folder.StampOf(l.root, name)
	switch {
	case err != nil:
		l.failed(name, err)
	case stamp.Mode.IsDir():
		if len(above) < maxDepth && !slices.Contains(above, stamp.Inode) {
			l.folder(name, append(slices.Clip(above), stamp.Inode))
		}
	case stamp.Mode.IsRegular() && strings.Contains(name, "/"): // a file beside the namespaces is no key
		l.sight.files[name] = stamp
	}
}

func (l *looker) failed(name string, err error) {
	if err = folder.Explain(err); !errors.Is(err, components.ErrNotFound) { // removed since, or a link to nowhere
		l.sight.bad[name] = err
	}
}
