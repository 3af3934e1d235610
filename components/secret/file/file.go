// Package file serves secrets from a folder: the secret KEY is the content of the file KEY, slashes being folders. It is how
// Kubernetes, Docker and systemd hand secrets to a process. Names with a part that begins with a dot are no keys.
package file

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/outrigger-mesh/outrigger/components"
	"github.com/outrigger-mesh/outrigger/components/internal/folder"
	"github.com/outrigger-mesh/outrigger/components/secret"
)

func init() {
	components.Register(secret.Drivers, "file", Options{TrimNewline: true}, Open)
}

// maxValue is the largest secret, in bytes.
const maxValue = 1 << 20

// writable are the permissions that a secret's file must not have: whoever may write it decides what the secret is.
const writable fs.FileMode = 0o022

// Options of the driver.
type Options struct {
	Dir         string `yaml:"dir" doc:"the folder, which must be there; empty: secrets in the data folder, made if need be"`
	TrimNewline bool   `yaml:"trim_newline" doc:"leave out one line end at the end of a file, which editors put there"`
}

// Guarantees says what holds.
func (Options) Guarantees() string {
	return `- A value is read from its file at each call: a change is seen at once.
- Nothing outside the folder is read, whatever links are in it.
- A file that group or others may write is refused (PERMISSION_DENIED), and so is one that the sidecar may not read. One that
  others may read is served, as Kubernetes makes them so: keep the folder itself closed.
- A file that belongs neither to the sidecar's user nor to root is refused (PERMISSION_DENIED), and so are all files that such
  a folder or link leads to.
- Versions tell of the time of change, and nothing about the values.`
}

// Open makes an instance.
func Open(_ context.Context, env components.Env, o Options) (secret.Driver, error) {
	dir := o.Dir
	if dir == "" {
		dir = filepath.Join(env.DataDir, "secrets")
		if err := os.MkdirAll(dir, 0o700); err != nil {
			return nil, fmt.Errorf("secrets folder %q: %w", dir, folder.Explain(err))
		}
	}
	dir, err := filepath.Abs(dir)
	if err != nil {
		return nil, fmt.Errorf("secrets folder %q: %w", o.Dir, err)
	}
	s := &store{dir: dir, trim: o.TrimNewline}
	return s, s.Check(context.Background())
}

type store struct {
	dir  string
	trim bool
}

var _ components.Checker = (*store)(nil)

// Check tells whether the folder can be read, and is nobody else's.
func (s *store) Check(context.Context) error {
	if _, err := os.ReadDir(s.dir); err != nil {
		return fmt.Errorf("secrets folder %q: %w", s.dir, folder.Explain(err))
	}
	root, err := s.open()
	if err != nil {
		return err
	}
	return root.Close()
}

// open opens the folder, which was there when the instance was opened.
func (s *store) open() (*os.Root, error) {
	root, err := folder.Open(s.dir)
	if errors.Is(err, components.ErrNotFound) {
		err = fmt.Errorf("%w: the folder %q is gone", components.ErrUnavailable, s.dir)
	}
	if err != nil {
		return nil, err
	}
	info, err := root.Stat(".")
	switch {
	case err != nil:
		err = fmt.Errorf("secrets folder %q: %w", s.dir, folder.Explain(err))
	case folder.Foreign(info):
		err = fmt.Errorf("%w: the folder %q %s", components.ErrDenied, s.dir, foreign)
	default:
		return root, nil
	}
	root.Close()
	return nil, err
}

const foreign = "belongs to another user: chown it to root or the user that the sidecar runs as"

func (s *store) Get(_ context.Context, key string) (secret.Value, error) {
	if !folder.Visible(key) {
		return secret.Value{}, fmt.Errorf("%w: %q is not a file's name: a part of it begins with a dot, is empty or is longer than 255 bytes",
			components.ErrInvalid, key)
	}
	root, err := s.open()
	if err != nil {
		return secret.Value{}, err
	}
	defer root.Close()
	data, stamp, err := folder.Read(root, key, maxValue)
	if err != nil {
		return secret.Value{}, fmt.Errorf("%q: %w", key, err)
	}
	if stamp.Mode&writable != 0 {
		return secret.Value{}, fmt.Errorf("%w: %q may be written by others than its owner (mode %#o): chmod go-w",
			components.ErrDenied, key, stamp.Mode.Perm())
	}
	if stamp.Foreign {
		return secret.Value{}, fmt.Errorf("%w: %q, or a folder or link that leads to it, %s", components.ErrDenied, key, foreign)
	}
	if s.trim {
		data = trimmed(data)
	}
	version := strconv.FormatInt(stamp.Changed, 36) + "-" + strconv.FormatUint(stamp.Inode, 36)
	return secret.Value{Data: data, Version: version}, nil
}

func trimmed(data []byte) []byte {
	if n := len(data); n > 0 && data[n-1] == '\n' {
		data = data[:n-1]
		if n > 1 && data[n-2] == '\r' {
			data = data[:n-2]
		}
	}
	return data
}

func (s *store) List(_ context.Context, prefix, after string, limit int) ([]string, error) {
	root, err := s.open()
	if err != nil {
		return nil, err
	}
	defer root.Close()
	found := folder.Look(root, prefix[:strings.LastIndexByte(prefix, '/')+1], nil)
	if err := found.Fault(nil, []string{prefix}); err != nil {
		return nil, err
	}
	var keys []string
	for key := range found.Files {
		if strings.HasPrefix(key, prefix) && key > after {
			keys = append(keys, key)
		}
	}
	slices.Sort(keys)
	return keys[:min(limit, len(keys))], nil
}
