package file

import (
	"cmp"
	"errors"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/outrigger-mesh/outrigger/components"
	"github.com/outrigger-mesh/outrigger/components/internal/folder"
	"github.com/outrigger-mesh/outrigger/components/registry"
)

// read is what a file was found to hold when it had a stamp.
type read struct {
	stamp folder.Stamp
	entry *entry // nil: damaged
}

// look puts in order what is the instance's own, reads what has changed, clears away what dead owners have left, and makes the
// list anew. When it fails the list stays as it was. It is called with mu held.
func (s *store) look() error {
	root, err := s.heal()
	if err != nil {
		return err
	}
	defer root.Close()
	s.notifier.Begin()
	s.notifier.Watch(filepath.Join(s.dir, recordsDir))
	s.notifier.End()
	names, err := s.names(root)
	if err != nil {
		return err
	}
	alive := map[string]bool{}
	files := map[string]read{}
	for _, name := range names {
		owner := ownerOf(name)
		if owner == "" {
			s.warn(name, errName)
			continue
		}
		if _, asked := alive[owner]; !asked {
			alive[owner] = s.alive(root, owner)
		}
		if !alive[owner] {
			s.warn(name, folder.Remove(root, recordsDir+"/"+name, recordsDir))
		} else if r, ok := s.read(root, name); ok {
			files[name] = r
		}
	}
	s.files = files
	maps.DeleteFunc(s.warned, func(name, _ string) bool { return name != "" && !slices.Contains(names, name) })
	s.publish()
	return s.sweep(root)
}

// heal puts back what is missing of the instance's own, should somebody have cleared the folder.
func (s *store) heal() (*os.Root, error) {
	if !s.inOrder() {
		if err := s.takeLock(); err != nil {
			return nil, err
		}
	}
	root, err := folder.Open(s.dir)
	if err != nil {
		return nil, err
	}
	if err := s.restore(root); err != nil {
		root.Close()
		return nil, err
	}
	return root, nil
}

func (s *store) inOrder() bool {
	root, err := folder.Open(s.dir)
	if err != nil {
		return false
	}
	defer root.Close()
	_, err = root.Stat(recordsDir)
	return err == nil && s.lockInPlace(root)
}

func (s *store) restore(root *os.Root) error {
	for name, e := range s.own {
		if _, err := root.Lstat(recordsDir + "/" + name); errors.Is(err, fs.ErrNotExist) {
			if err := s.write(e); err != nil {
				return err
			}
		}
	}
	return nil
}

func (s *store) names(root *os.Root) (names []string, err error) {
	entries, err := fs.ReadDir(root.FS(), recordsDir)
	if err != nil {
		return nil, folder.Explain(err)
	}
	for _, e := range entries {
		if folder.Visible(e.Name()) {
			names = append(names, e.Name())
		}
	}
	return names, nil
}

// read reads a file if it has changed; false: it is gone. What was there before counts while a file cannot be read.
func (s *store) read(root *os.Root, name string) (read, bool) {
	path := recordsDir + "/" + name
	before, known := s.files[name]
	stamp, err := folder.StampOf(root, path)
	if err == nil && known && before.stamp == stamp {
		return before, true
	}
	var data []byte
	if err == nil {
		data, stamp, err = folder.Read(root, path, maxRecord)
	}
	if errors.Is(err, components.ErrNotFound) {
		return read{}, false
	}
	if err != nil {
		s.warn(name, err)
		return before, known
	}
	now := read{stamp: stamp}
	if e, err := decode(name, data); err == nil {
		now.entry = &e
		delete(s.warned, name)
	} else {
		s.warn(name, err)
	}
	return now, true
}

// publish makes the list of what the files hold: one record an address, sorted.
func (s *store) publish() {
	newest := map[registry.Service]map[string]*entry{}
	for _, r := range s.files {
		e := r.entry
		if e == nil {
			continue
		}
		if newest[e.Service] == nil {
			newest[e.Service] = map[string]*entry{}
		}
		if other := newest[e.Service][e.Address]; other == nil || e.since > other.since {
			newest[e.Service][e.Address] = e
		}
	}
	list := make(map[registry.Service][]registry.Record, len(newest))
	for service, entries := range newest {
		for _, e := range entries {
			list[service] = append(list[service], e.Record)
		}
		slices.SortFunc(list[service], func(a, b registry.Record) int { return cmp.Compare(a.Address, b.Address) })
	}
	if maps.EqualFunc(list, s.list, same) {
		return
	}
	s.list = list
	close(s.newer)
	s.newer = make(chan struct{})
}

// sweep removes the locks that dead owners have left. Their records were removed before: an owner is as dead without a lock as
// with one that is free, and its name does not come back.
func (s *store) sweep(root *os.Root) error {
	entries, err := fs.ReadDir(root.FS(), locksDir)
	if err != nil {
		return folder.Explain(err)
	}
	for _, e := range entries {
		owner, isLock := strings.CutSuffix(e.Name(), ".lock")
		if isLock && folder.Visible(e.Name()) && !s.alive(root, owner) {
			s.warn("", folder.Remove(root, lockName(owner), locksDir))
		}
	}
	return nil
}

// warn says what is wrong with a file (or, without a name, with the folder) once, until it is something else.
func (s *store) warn(name string, err error) {
	if err == nil {
		delete(s.warned, name)
		return
	}
	if s.warned[name] != err.Error() {
		s.warned[name] = err.Error()
		s.log.Warn("the registry's folder is not in order", "op", "look", "file", name, "err", err)
	}
}
