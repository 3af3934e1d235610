// Package file serves configuration from a folder of files: the value of KEY in NAMESPACE is the file NAMESPACE/KEY, slashes
// being folders. Edit them with any editor, or mount a Kubernetes ConfigMap.
//
// Names with a part that begins with a dot are no keys. The content type follows from the name's extension, else from the
// content; other metadata there are none.
package file

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"mime"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/outrigger-mesh/outrigger/components"
	"github.com/outrigger-mesh/outrigger/components/config"
	"github.com/outrigger-mesh/outrigger/components/internal/folder"
)

func init() {
	components.Register(config.Drivers, "file", Options{Rescan: 30 * time.Second}, Open)
}

// Options of the driver.
type Options struct {
	Dir    string        `yaml:"dir" doc:"the folder; empty: config in the data folder. One that is absent is taken for empty until it is there"`
	Rescan time.Duration `yaml:"rescan" doc:"how often watched folders are looked into even if the system tells of no change, as network file systems do not"`
}

// Validate refuses an interval that would be none.
func (o Options) Validate() error {
	if o.Rescan < 10*time.Millisecond {
		return fmt.Errorf("rescan: %v is less than 10ms", o.Rescan)
	}
	return nil
}

// Guarantees says what holds.
func (Options) Guarantees() string {
	return `- A value written through the API is on the disk before the call ends, whole or not at all.
- if_version is checked under a lock that all sidecars with this folder share; an editor does not ask for it.
- Versions are made of content and change time: the same in each sidecar, before and after a restart. Touching a file gives its
  value another version; watchers are told of other content only.
- Two changes that an editor makes within a tick of the kernel's clock (10 ms at most), back to the first value, go unnoticed.
- A file that is written in place, not renamed into place, may be seen half-written for a moment; the last state always arrives.
- Nothing outside the folder is read, whatever links are in it. A file that may not be read is an error, not an absent key.
- A key cannot be the folder of another key: FAILED_PRECONDITION.
- On a file system that does not tell of changes they are seen after ` + "`rescan`" + ` at the latest.`
}

// Open makes an instance. It does not need the folder to be there.
func Open(_ context.Context, env components.Env, o Options) (config.Driver, error) {
	dir := o.Dir
	if dir == "" {
		dir = filepath.Join(env.DataDir, "config")
	}
	dir, err := filepath.Abs(dir)
	if err != nil {
		return nil, fmt.Errorf("config folder %q: %w", o.Dir, err)
	}
	s := &store{dir: dir, log: env.Logger, closed: make(chan struct{})}
	s.tree = &tree{dir: dir, log: env.Logger, every: o.Rescan}
	if err := s.Check(context.Background()); err != nil {
		return nil, err
	}
	return s, nil
}

type store struct {
	dir    string
	log    *slog.Logger
	tree   *tree
	once   sync.Once
	closed chan struct{}
}

var (
	_ config.Setter      = (*store)(nil)
	_ config.Deleter     = (*store)(nil)
	_ components.Closer  = (*store)(nil)
	_ components.Checker = (*store)(nil)
)

// Check tells whether the folder can be read, or is absent.
func (s *store) Check(context.Context) error {
	if _, err := os.ReadDir(s.dir); err != nil && !os.IsNotExist(err) {
		return fmt.Errorf("config folder %q: %w", s.dir, folder.Explain(err))
	}
	return nil
}

// Close ends the watches.
func (s *store) Close(context.Context) error {
	s.once.Do(func() { close(s.closed) })
	s.tree.close()
	return nil
}

func (s *store) Get(_ context.Context, key string) (config.Item, error) {
	if err := check(key); err != nil {
		return config.Item{}, err
	}
	root, err := folder.Open(s.dir)
	if err != nil {
		return config.Item{}, fmt.Errorf("%q: %w", key, err)
	}
	defer root.Close()
	return read(root, key)
}

func read(root *os.Root, key string) (config.Item, error) {
	data, stamp, err := folder.Read(root, key, config.MaxValue)
	if err != nil {
		return config.Item{}, fmt.Errorf("%q: %w", key, err)
	}
	return itemOf(key, data, stamp), nil
}

func itemOf(key string, data []byte, stamp folder.Stamp) config.Item {
	return config.Item{Key: key, Value: data, ContentType: contentType(key, data), Version: version(data, stamp)}
}

func check(key string) error {
	if !folder.Visible(key) {
		return fmt.Errorf("%w: %q is not a file's name: a part of it begins with a dot, is empty or is longer than 255 bytes",
			components.ErrInvalid, key)
	}
	return nil
}

func (s *store) List(_ context.Context, prefix, after string, limit int) (items []config.Item, err error) {
	root, err := folder.Open(s.dir)
	if errors.Is(err, components.ErrNotFound) {
		return []config.Item{}, nil // a folder that is absent is taken for an empty one
	}
	if err != nil {
		return nil, err
	}
	defer root.Close()
	sel := config.Selection{Prefixes: []string{prefix}}
	found := folder.Look(root, prefix[:strings.LastIndexByte(prefix, '/')+1], nil)
	if err := fault(found, sel); err != nil {
		return nil, err
	}
	rest := slices.DeleteFunc(keys(found, sel), func(k string) bool { return k <= after })
	bytes := 0
	for _, key := range rest {
		if len(items) == limit || bytes >= config.PageBytes {
			break
		}
		item, err := read(root, key)
		if errors.Is(err, components.ErrNotFound) {
			continue // removed since
		}
		if err != nil {
			return nil, err
		}
		items = append(items, item)
		bytes += len(item.Value)
	}
	return items, nil
}

// Set refuses what a file cannot keep.
func (s *store) Set(ctx context.Context, item config.Item, ifVersion string) (string, error) {
	if err := check(item.Key); err != nil {
		return "", err
	}
	if len(item.Value) > config.MaxValue {
		return "", fmt.Errorf("%w: %d bytes are more than %d", components.ErrExhausted, len(item.Value), config.MaxValue)
	}
	if len(item.Metadata) > 0 {
		return "", fmt.Errorf("%w: a file has no metadata", components.ErrUnsupported)
	}
	if got := contentType(item.Key, item.Value); item.ContentType != "" && mediaType(item.ContentType) != mediaType(got) {
		return "", fmt.Errorf("%w: the file %q would be %s, not %s: its extension tells",
			components.ErrUnsupported, item.Key, got, item.ContentType)
	}
	root, release, err := s.lock(ctx)
	if err != nil {
		return "", err
	}
	defer release()
	return set(root, item, ifVersion)
}

func set(root *os.Root, item config.Item, ifVersion string) (string, error) {
	old, err := folder.StampOf(root, item.Key)
	if err != nil && !errors.Is(err, components.ErrNotFound) {
		return "", err
	}
	if ifVersion != "" {
		now, err := read(root, item.Key)
		if err != nil && !errors.Is(err, components.ErrNotFound) {
			return "", err
		}
		if now.Version != ifVersion {
			return "", fmt.Errorf("%w: %q is not there in that version", components.ErrConflict, item.Key)
		}
	}
	if err := folder.Replace(root, item.Key, item.Value, old); err != nil {
		return "", fmt.Errorf("%q: %w", item.Key, err)
	}
	stamp, err := folder.StampOf(root, item.Key)
	if err != nil {
		return "", err
	}
	return version(item.Value, stamp), nil
}

func (s *store) Delete(ctx context.Context, key string) error {
	if err := check(key); err != nil {
		return err
	}
	if _, err := os.Lstat(s.dir); os.IsNotExist(err) {
		return nil
	}
	root, release, err := s.lock(ctx)
	if err != nil {
		return err
	}
	defer release()
	namespace, _, _ := strings.Cut(key, "/")
	return folder.Remove(root, key, namespace)
}

// lock opens the folder for writing, making it if need be.
func (s *store) lock(ctx context.Context) (*os.Root, func(), error) {
	if err := os.MkdirAll(s.dir, 0o700); err != nil {
		return nil, nil, folder.Explain(err)
	}
	root, err := folder.Open(s.dir)
	if err != nil {
		return nil, nil, err
	}
	free, err := folder.Lock(ctx, root, ".lock")
	if err != nil {
		root.Close()
		return nil, nil, err
	}
	return root, func() { free(); root.Close() }, nil
}

func mediaType(contentType string) string {
	if t, _, err := mime.ParseMediaType(contentType); err == nil {
		return t
	}
	return contentType
}
