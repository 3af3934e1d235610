package publish

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
)

const fileVersion = 1

// kept is the file's form.
type kept struct {
	Version      int                    `json:"version"`
	Publications map[string]Publication `json:"publications"`
}

func load(path string) (map[string]Publication, error) {
	none := map[string]Publication{}
	if path == "" {
		return none, nil
	}
	text, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return none, nil
	}
	if err != nil {
		return nil, err
	}
	var k kept
	if err := json.Unmarshal(text, &k); err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	if k.Version != fileVersion {
		return nil, fmt.Errorf("%s: it was written by another version of the sidecar (format %d, not %d)", path, k.Version, fileVersion)
	}
	if k.Publications == nil {
		return none, nil
	}
	return k.Publications, nil
}

// save replaces the file as a whole: a crash leaves the old one or the new one.
func save(path string, all map[string]Publication) error {
	if path == "" {
		return nil
	}
	text, err := json.MarshalIndent(kept{fileVersion, all}, "", "  ")
	if err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return err
	}
	f, err := os.CreateTemp(filepath.Dir(path), ".publications-*")
	if err != nil {
		return err
	}
	defer os.Remove(f.Name()) // gone already when all went well
	_, err = f.Write(text)
	if err = errors.Join(err, f.Sync(), f.Close()); err != nil {
		return err
	}
	if err := os.Rename(f.Name(), path); err != nil {
		return err
	}
	dir, err := os.Open(filepath.Dir(path))
	if err != nil {
		return err
	}
	return errors.Join(dir.Sync(), dir.Close())
}
