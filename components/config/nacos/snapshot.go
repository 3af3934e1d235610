package nacos

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"

	"github.com/outrigger-mesh/outrigger/components"
	"github.com/outrigger-mesh/outrigger/components/config"
	"github.com/outrigger-mesh/outrigger/components/internal/folder"
)

const (
	lockName    = ".lock"
	maxFile     = 4 * config.MaxValue
	maxSidecars = 1000 // with one data folder
)

// snapshot is what was read, on the disk: a file for each key, in a folder that no other sidecar writes. What others with the same options have
// read is found in theirs. A nil snapshot keeps nothing.
type snapshot struct {
	dir  *os.Root // of all sidecars
	own  string   // the folder in it
	lock *os.File // for as long as it is ours
	log  *slog.Logger

	wake  chan struct{}
	end   context.CancelFunc
	ended sync.WaitGroup

	mu      sync.Mutex
	kept    map[string]string // of keys that are there: the version on the disk, or that will be
	pending map[string]kept
}

// kept is a file of a snapshot. Without a version the key is absent.
type kept struct {
	Key         string `json:"key"`
	Version     string `json:"version,omitempty"`
	ContentType string `json:"content_type,omitempty"`
	Modified    int64  `json:"modified"`
	Value       []byte `json:"value,omitempty"`
}

func openSnapshot(env components.Env, o Options) (*snapshot, error) {
	sum := sha256.Sum256(fmt.Appendf(nil, "%q %q %q %v", o.Nacos.Addresses, o.Nacos.User, o.Group, o.Namespaces))
	path := filepath.Join(env.DataDir, "nacos", env.ID.Name+"-"+hex.EncodeToString(sum[:6]))
	if err := os.MkdirAll(path, 0o700); err != nil {
		return nil, fmt.Errorf("snapshot: %w", folder.Explain(err))
	}
	dir, err := folder.Open(path)
	if err != nil {
		return nil, fmt.Errorf("snapshot: %w", err)
	}
	s := &snapshot{dir: dir, log: env.Logger, wake: make(chan struct{}, 1), kept: map[string]string{}, pending: map[string]kept{}}
	if err := s.takeFolder(); err != nil {
		dir.Close()
		return nil, fmt.Errorf("snapshot in %s: %w", path, err)
	}
	live, end := context.WithCancel(context.Background())
	s.end = end
	s.ended.Go(func() { s.run(live) })
	return s, nil
}

// takeFolder takes the first folder that no other sidecar has.
func (s *snapshot) takeFolder() error {
	for i := range maxSidecars {
		name := strconv.Itoa(i)
		if err := s.dir.Mkdir(name, 0o700); err != nil && !errors.Is(err, fs.ErrExist) {
			return folder.Explain(err)
		}
		f, err := s.dir.OpenFile(name+"/"+lockName, os.O_RDWR|os.O_CREATE, 0o600)
		if err != nil {
			return folder.Explain(err)
		}
		if held, err := folder.TryLock(f); held {
			s.own, s.lock = name, f
			return nil
		} else if err != nil {
			f.Close()
			return err
		}
		f.Close()
	}
	return fmt.Errorf("%w: %d sidecars have it already", components.ErrExhausted, maxSidecars)
}

// close writes what is pending. It may be called again.
func (s *snapshot) close() {
	if s == nil {
		return
	}
	s.end()
	s.ended.Wait()
	s.lock.Close()
	s.dir.Close()
}

// put keeps what was read, soon.
func (s *snapshot) put(key string, now state) {
	if s == nil {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	k := kept{Key: key, Modified: now.Modified}
	if now.there {
		if s.kept[key] == now.version() {
			return
		}
		k.Version, k.ContentType, k.Value = now.version(), contentTypeOf(now.ContentType), valueOf(now.Content)
		s.kept[key] = k.Version
	} else {
		delete(s.kept, key)
	}
	s.pending[key] = k
	select {
	case s.wake <- struct{}{}:
	default:
	}
}

func (s *snapshot) run(ctx context.Context) {
	for live := true; live; {
		select {
		case <-s.wake:
		case <-ctx.Done():
			live = false
		}
		for _, k := range s.take() {
			if err := s.write(k); err != nil {
				s.log.Warn("writing the snapshot", "err", err)
				s.failed(k)
			}
		}
	}
}

func (s *snapshot) take() map[string]kept {
	s.mu.Lock()
	defer s.mu.Unlock()
	all := s.pending
	s.pending = map[string]kept{}
	return all
}

// failed has a file written when its key is read the next time.
func (s *snapshot) failed(k kept) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.kept[k.Key] == k.Version {
		delete(s.kept, k.Key)
	}
}

func (s *snapshot) write(k kept) error {
	if k.Version == "" { // that it is gone is newer than what any has read
		last := s.newest(k.Key)
		if last.Version == "" {
			return nil
		}
		k.Modified = last.Modified + 1
	}
	data, err := json.Marshal(k)
	if err != nil {
		return err
	}
	return folder.Write(s.dir, s.own+"/"+fileOf(k.Key), data)
}

func fileOf(key string) string {
	sum := sha256.Sum256([]byte(key))
	return hex.EncodeToString(sum[:16]) + ".json"
}

func (s *snapshot) read(dir, name string) (k kept, ok bool) {
	data, _, err := folder.Read(s.dir, dir+"/"+name, maxFile)
	if err != nil || json.Unmarshal(data, &k) != nil || fileOf(k.Key) != name {
		return kept{}, false
	}
	return k, true
}

// folders are those of all sidecars.
func (s *snapshot) folders() []string {
	all, err := fs.ReadDir(s.dir.FS(), ".")
	if err != nil {
		return nil
	}
	var names []string
	for _, one := range all {
		names = append(names, one.Name())
	}
	return names
}

// get answers the newest that any has read of a key.
func (s *snapshot) get(key string) (config.Item, bool) {
	if s == nil {
		return config.Item{}, false
	}
	last := s.newest(key)
	return last.item(), last.Version != ""
}

func (s *snapshot) newest(key string) (newest kept) {
	for _, dir := range s.folders() {
		if k, ok := s.read(dir, fileOf(key)); ok && k.Modified >= newest.Modified {
			newest = k
		}
	}
	return newest
}

func (k kept) item() config.Item {
	return config.Item{Key: k.Key, Value: append([]byte{}, k.Value...), ContentType: k.ContentType, Version: k.Version, Stale: true}
}

// changes are all that is selected, sorted by key.
func (s *snapshot) changes(sel config.Selection) (all []config.Change) {
	if s == nil {
		return nil
	}
	newest := map[string]kept{}
	s.each(func(k kept) bool {
		if sel.Has(k.Key) && k.Modified >= newest[k.Key].Modified {
			newest[k.Key] = k
		}
		return true
	})
	for _, key := range slices.Sorted(maps.Keys(newest)) {
		if k := newest[key]; k.Version != "" {
			all = append(all, config.Change{Key: key, Item: k.item()})
		}
	}
	return all
}

// any tells whether there is something in it.
func (s *snapshot) any() (found bool) {
	if s == nil {
		return false
	}
	s.each(func(k kept) bool {
		found = k.Version != ""
		return !found
	})
	return found
}

func (s *snapshot) each(take func(kept) bool) {
	for _, dir := range s.folders() {
		files, err := fs.ReadDir(s.dir.FS(), dir)
		if err != nil {
			continue
		}
		for _, f := range files {
			if !strings.HasSuffix(f.Name(), ".json") {
				continue
			}
			if k, ok := s.read(dir, f.Name()); ok && !take(k) {
				return
			}
		}
	}
}
