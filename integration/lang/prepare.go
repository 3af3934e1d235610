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
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/outrigger-mesh/outrigger/integration/harness"
)

// installTime is a step's at most: registries may be slow.
const installTime = 8 * time.Minute

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
	Tools []Tool
	Steps [][]string // in order; each may reach a package registry
	Env   []string   // that it runs with
}

// Tool is a program that must be there, with the Debian packages that bring it.
type Tool struct {
	Name     string
	Probe    []string // succeeds if it is there; looked up on PATH unless set
	Packages []string
}

// Command is how to start the program in the folder that Prepare answered. It ends with the test process.
func (p *Program) Command(ctx context.Context, dir string, args ...string) *exec.Cmd {
	args = append(p.Run[1:len(p.Run):len(p.Run)], args...)
	cmd := exec.CommandContext(ctx, p.Run[0], args...)
	cmd.Dir, cmd.Env = dir, append(os.Environ(), p.Env...)
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	return cmd
}

func cacheDir() (string, error) {
	if dir := os.Getenv("OUTRIGGER_CACHE"); dir != "" {
		return filepath.Abs(dir)
	}
	dir, err := os.UserCacheDir()
	return filepath.Join(dir, "outrigger"), err
}

// Prepare answers the folder in which the program can run. It is made anew when a source or a step has changed.
func (p *Program) Prepare(t *testing.T) string {
	t.Helper()
	cache, err := cacheDir()
	if err != nil {
		t.Fatal(err)
	}
	files, stamp, err := p.sources()
	if err != nil {
		t.Fatal(err)
	}
	dir := filepath.Join(cache, p.Name)
	lock(t, dir+".lock")
	for _, tool := range p.Tools {
		tool.Need(t)
	}
	if was, err := os.ReadFile(filepath.Join(dir, "stamp")); err == nil && string(was) == stamp {
		return dir
	}
	began := time.Now()
	if err := lay(dir, files); err != nil {
		t.Fatal(err)
	}
	for _, step := range p.Steps {
		runStep(t, dir, step...)
	}
	if err := os.WriteFile(filepath.Join(dir, "stamp"), []byte(stamp), 0o644); err != nil {
		t.Fatal(err)
	}
	t.Logf("prepared %s in %s", dir, time.Since(began).Round(time.Second))
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

// lay empties the folder and writes the files.
func lay(dir string, files map[string][]byte) error {
	if err := os.RemoveAll(dir); err != nil {
		return err
	}
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

// lock keeps test runs that share the cache apart until the test ends.
func lock(t *testing.T, path string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	f, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR, 0o644)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() }) // which gives the lock back
	for err = syscall.EINTR; err == syscall.EINTR; {
		err = syscall.Flock(int(f.Fd()), syscall.LOCK_EX)
	}
	if err != nil {
		t.Fatalf("lock %s: %v", path, err)
	}
}

var installing sync.Mutex // Debian's packages, one set at a time

// Need installs the tool if root may, and fails the test if it is not there then.
func (o Tool) Need(t *testing.T) {
	t.Helper()
	if o.found() {
		return
	}
	packages := strings.Join(o.Packages, " ")
	if _, err := exec.LookPath("apt-get"); err != nil || os.Geteuid() != 0 {
		t.Fatalf("%s is missing: install it (Debian: apt-get install %s)", o.Name, packages)
	}
	installing.Lock()
	defer installing.Unlock()
	apt := []string{"env", "DEBIAN_FRONTEND=noninteractive", "apt-get", "-q", "-y", "-o", "DPkg::Lock::Timeout=300"}
	runStep(t, "/", append(slices.Clone(apt), "update")...)
	runStep(t, "/", append(append(apt, "install", "--no-install-recommends"), o.Packages...)...)
	if !o.found() {
		t.Fatalf("%s is missing although %s is installed", o.Name, packages)
	}
}

func (o Tool) found() bool {
	if len(o.Probe) > 0 {
		return exec.Command(o.Probe[0], o.Probe[1:]...).Run() == nil
	}
	_, err := exec.LookPath(o.Name)
	return err == nil
}

func runStep(t *testing.T, dir string, command ...string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), installTime)
	defer cancel()
	cmd := exec.CommandContext(ctx, command[0], command[1:]...)
	cmd.Dir = dir
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("in %s, %s: %v\n%s", dir, strings.Join(command, " "), err, out)
	}
}
