// Package lang makes programs in other languages ready to run: it installs what they need and generates their stubs, in a cache
// folder outside the source tree: OUTRIGGER_CACHE, else outrigger in the user's cache folder. What cannot be installed fails the
// test.
package lang

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"github.com/outrigger-mesh/outrigger/integration/harness"
	"github.com/outrigger-mesh/outrigger/integration/install"
)

// Program is a program in another language.
type Program struct {
	Name     string            // of its folder in the cache
	From     string            // the folder of its sources, below the top of the tree
	Protos   map[string]string // laid beside them under proto/, by the names that they are imported by
	Language                   // what it is made with
	Run      []string          // started in the folder that Prepare answers; arguments follow
}

// Language is how programs of a language are made.
type Language struct {
	Tools []install.Tool
	Steps [][]string // in order; each may reach a package registry
	Env   []string   // that it runs with
}

// Command is how to start the program in the folder that Prepare answered. It ends with the test process.
func (p *Program) Command(ctx context.Context, dir string, args ...string) *exec.Cmd {
	args = append(p.Run[1:len(p.Run):len(p.Run)], args...)
	cmd := exec.CommandContext(ctx, p.Run[0], args...)
	cmd.Dir, cmd.Env = dir, append(os.Environ(), p.Env...)
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	return cmd
}

// Prepare answers the folder in which the program can run. It is made anew when a source or a step has changed, and nobody else's
// until the test ends.
func (p *Program) Prepare(t *testing.T) string {
	t.Helper()
	files, stamp, err := p.sources()
	if err != nil {
		t.Fatal(err)
	}
	free, err := install.Lock(p.Name + "-in-use")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(free)
	for _, tool := range p.Tools {
		if err := tool.Need(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	began := time.Now()
	dir, err := install.Made(p.Name, stamp, func(dir string) error {
		if err := lay(dir, files); err != nil {
			return err
		}
		for _, step := range p.Steps {
			if err := install.Step(t.Context(), dir, nil, step...); err != nil {
				return err
			}
		}
		t.Logf("prepared %s in %s", dir, time.Since(began).Round(time.Second))
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return dir
}

// sources are the files of the program by their names in its folder, and a digest of all that it is made of.
func (p *Program) sources() (map[string][]byte, string, error) {
	root, files := harness.Root(), map[string][]byte{}
	from := filepath.Join(root, p.From)
	err := filepath.WalkDir(from, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		name, err := filepath.Rel(from, path)
		if err != nil {
			return err
		}
		files[name], err = os.ReadFile(path)
		return err
	})
	for name, path := range p.Protos {
		if err == nil {
			files["proto/"+name], err = os.ReadFile(filepath.Join(root, path))
		}
	}
	digest := sha256.New()
	fmt.Fprintf(digest, "%q %q", p.Steps, files) // maps print in the order of their keys
	return files, hex.EncodeToString(digest.Sum(nil)), err
}

// lay writes the files.
func lay(dir string, files map[string][]byte) error {
	for name, text := range files {
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			return err
		}
		if err := os.WriteFile(path, text, 0o644); err != nil {
			return err
		}
	}
	return nil
}
