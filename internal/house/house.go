// Package house holds the rules of this repository that a compiler does not: who may import whom, what the SDK drags in, how
// metrics and packages are named, that each error reason is explained, that what is exported is documented. Each rule is a
// function from what it looks at to the faults it finds; its tests run it over the tree, and over made-up violations.
package house

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
)

// Module is the path of this module.
const Module = "github.com/outrigger-mesh/outrigger"

// Package is what the rules need of a Go package, by the names of go list -json.
type Package struct {
	ImportPath, Name, Dir              string
	Standard                           bool
	Imports, TestImports, XTestImports []string
	GoFiles                            []string
}

// Root finds the folder of go.mod above the working folder.
func Root() (string, error) {
	dir, err := os.Getwd()
	if err != nil {
		return "", err
	}
	for {
		if _, err := os.Stat(filepath.Join(dir, "go.mod")); err == nil {
			return dir, nil
		}
		up := filepath.Dir(dir)
		if up == dir {
			return "", errors.New("no go.mod above the working folder")
		}
		dir = up
	}
}

// List runs go list; a package that does not compile is listed all the same.
func List(root string, args ...string) ([]Package, error) {
	cmd := exec.Command("go", append([]string{"list", "-e", "-json=ImportPath,Name,Dir,Standard,Imports,TestImports,XTestImports,GoFiles"}, args...)...)
	cmd.Dir = root
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		return nil, fmt.Errorf("go list: %w: %s", err, stderr.String())
	}
	var all []Package
	for d := json.NewDecoder(bytes.NewReader(out)); ; {
		var p Package
		if err := d.Decode(&p); errors.Is(err, io.EOF) {
			return all, nil
		} else if err != nil {
			return nil, err
		}
		all = append(all, p)
	}
}

// Files reads the files below root with one of the extensions, by their slash-separated path; what is built, hidden or
// made up for tests is left out.
func Files(root string, extensions ...string) (map[string]string, error) {
	files := map[string]string{}
	err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.IsDir() {
			switch name := d.Name(); {
			case path != root && strings.HasPrefix(name, "."), name == "testdata", name == "bin", name == "node_modules", name == "target":
				return filepath.SkipDir
			}
			return nil
		}
		for _, ext := range extensions {
			if !strings.HasSuffix(path, ext) {
				continue
			}
			text, err := os.ReadFile(path)
			if errors.Is(err, fs.ErrNotExist) {
				return nil // it went since the folder was read
			}
			if err != nil {
				return err
			}
			rel, err := filepath.Rel(root, path)
			files[filepath.ToSlash(rel)] = string(text)
			return err
		}
		return nil
	})
	return files, err
}

// generated answers whether a Go file says that a tool wrote it, as go generate's convention has it.
func generated(text string) bool {
	for line := range strings.Lines(text) {
		if line = strings.TrimSpace(line); strings.HasPrefix(line, "// Code generated ") && strings.HasSuffix(line, " DO NOT EDIT.") {
			return true
		}
		if strings.HasPrefix(line, "package ") {
			return false
		}
	}
	return false
}
