package main

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// compare fails with the names of the pages that differ from what is in dir.
func (p pages) compare(dir string) error {
	stale, err := p.gone(dir)
	if err != nil {
		return err
	}
	for name, page := range p {
		old, err := os.ReadFile(filepath.Join(dir, name))
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		if !bytes.Equal(old, page) {
			stale = append(stale, name)
		}
	}
	if len(stale) > 0 {
		slices.Sort(stale)
		return fmt.Errorf("not current in %s: %s (run make gen)", dir, strings.Join(stale, ", "))
	}
	return nil
}

// gone are the names of pages in dir that docgen wrote once and would not write now.
func (p pages) gone(dir string) ([]string, error) {
	files, err := filepath.Glob(filepath.Join(dir, "*.md"))
	if err != nil {
		return nil, err
	}
	var gone []string
	for _, file := range files {
		name := filepath.Base(file)
		if _, ok := p[name]; ok {
			continue
		}
		text, err := os.ReadFile(file)
		if err != nil {
			return nil, err
		}
		if bytes.HasPrefix(text, []byte(mark)) {
			gone = append(gone, name)
		}
	}
	return gone, nil
}
