package publish

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
	"time"

	"github.com/outrigger-mesh/outrigger/runtime/atomicfile"
	"github.com/outrigger-mesh/outrigger/runtime/mesh"
)

const fileVersion = 1

// kept is the file's form.
type kept struct {
	Version      int     `json:"version"`
	Publications []entry `json:"publications"`
}

type entry struct {
	Namespace string            `json:"namespace"`
	Name      string            `json:"name"`
	Group     string            `json:"group,omitempty"`
	Version   string            `json:"version,omitempty"`
	Protocol  string            `json:"protocol,omitempty"`
	Port      int               `json:"port"`
	Weight    int               `json:"weight,omitempty"`
	Zone      string            `json:"zone,omitempty"`
	Labels    map[string]string `json:"labels,omitempty"`
	Itself    bool              `json:"itself,omitempty"`
}

// errDamaged marks a file that is there and readable, but is not what save wrote.
var errDamaged = errors.New("damaged")

// load reads the file; found is false if there is none.
func load(path string) (all map[key]Publication, found bool, err error) {
	if path == "" {
		return nil, false, nil
	}
	text, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, false, nil
	}
	if err == nil {
		all, err = parse(text)
	}
	return all, err == nil, err
}

// lock keeps other processes from changing the file, by a lock of its folder, until it is freed: as long as a small file is
// written.
func lock(path string) (free func(), err error) {
	if path == "" {
		return func() {}, nil
	}
	dir := filepath.Dir(path)
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, err
	}
	f, err := os.Open(dir)
	if err != nil {
		return nil, err
	}
	for {
		err = syscall.Flock(int(f.Fd()), syscall.LOCK_EX)
		switch {
		case err == nil:
			return func() { f.Close() }, nil
		case !errors.Is(err, syscall.EINTR):
			return nil, errors.Join(err, f.Close())
		}
	}
}

// parse reads what format wrote, all of it or nothing.
func parse(text []byte) (map[key]Publication, error) {
	var k kept
	if err := json.Unmarshal(text, &k); err != nil {
		return nil, fmt.Errorf("%w: %w", errDamaged, err)
	}
	if k.Version != fileVersion {
		return nil, fmt.Errorf("%w: its format is %d, this sidecar reads %d", errDamaged, k.Version, fileVersion)
	}
	all := map[key]Publication{}
	for _, e := range k.Publications {
		pub := Publication{Port: e.Port, Weight: e.Weight, Zone: e.Zone, Labels: e.Labels, Itself: e.Itself,
			Service: mesh.Service{Namespace: e.Namespace, Name: e.Name, Group: e.Group, Version: e.Version, Protocol: e.Protocol}}
		if err := pub.check(); err != nil {
			return nil, fmt.Errorf("%w: %w", errDamaged, err)
		}
		all[keyOf(pub.Service)] = pub
	}
	return all, nil
}

func format(all map[key]Publication) ([]byte, error) {
	k := kept{Version: fileVersion, Publications: []entry{}}
	for _, id := range sorted(all) {
		p := all[id]
		k.Publications = append(k.Publications, entry{Namespace: p.Service.Namespace, Name: p.Service.Name, Group: p.Service.Group,
			Version: p.Service.Version, Protocol: p.Service.Protocol, Port: p.Port, Weight: p.Weight, Zone: p.Zone, Labels: p.Labels, Itself: p.Itself})
	}
	return json.MarshalIndent(k, "", "  ")
}

// setAside keeps a damaged file for whoever wants to look at it, out of the way of the next one.
func setAside(path string) (aside string, err error) {
	aside = path + ".damaged-" + time.Now().UTC().Format("20060102T150405.000")
	return aside, os.Rename(path, aside)
}

// save replaces the file as a whole: a crash leaves the old one or the new one.
func save(path string, all map[key]Publication) error {
	if path == "" {
		return nil
	}
	text, err := format(all)
	if err != nil {
		return err
	}
	return atomicfile.Write(path, text)
}
