package peers

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

// protos are given to each program under proto/, by the names that it imports them by.
var protos = map[string]string{
	"echo.proto":                       "integration/echopb/echo.proto",
	"details.proto":                    "integration/peers/details.proto",
	"outrigger/cache/v1/cache.proto":   "proto/outrigger/cache/v1/cache.proto",
	"outrigger/common/v1/common.proto": "proto/outrigger/common/v1/common.proto",
}

func cacheDir() (string, error) {
	if dir := os.Getenv("OUTRIGGER_CACHE"); dir != "" {
		return filepath.Abs(dir)
	}
	dir, err := os.UserCacheDir()
	return filepath.Join(dir, "outrigger"), err
}

// prepare answers the folder in which the language's program can run. It is made anew when a source or a step has changed.
func (l *language) prepare(t *testing.T) string {
	t.Helper()
	cache, err := cacheDir()
	if err != nil {
		t.Fatal(err)
	}
	files, stamp, err := l.sources()
	if err != nil {
		t.Fatal(err)
	}
	dir := filepath.Join(cache, "peers", l.name)
	lock(t, dir+".lock")
	for _, tool := range l.tools {
		tool.need(t)
	}
	if was, err := os.ReadFile(filepath.Join(dir, "stamp")); err == nil && string(was) == stamp {
		return dir
	}
	began := time.Now()
	if err := lay(dir, files); err != nil {
		t.Fatal(err)
	}
	for _, step := range l.steps {
		runStep(t, dir, step...)
	}
	if err := os.WriteFile(filepath.Join(dir, "stamp"), []byte(stamp), 0o644); err != nil {
		t.Fatal(err)
	}
	t.Logf("prepared %s in %s", dir, time.Since(began).Round(time.Second))
	return dir
}

// sources are the files of the program by their names in its folder, and a digest of all that it is made of.
func (l *language) sources() (map[string][]byte, string, error) {
	root, files := harness.Root(), map[string][]byte{}
	from := filepath.Join(root, "integration", "peers", l.name)
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
	for name, path := range protos {
		if err == nil {
			files["proto/"+name], err = os.ReadFile(filepath.Join(root, path))
		}
	}
	digest := sha256.New()
	fmt.Fprintf(digest, "%q %q", l.steps, files) // maps print in the order of their keys
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

// need installs the tool if root may, and fails the test if it is not there then.
func (o tool) need(t *testing.T) {
	t.Helper()
	if o.found() {
		return
	}
	packages := strings.Join(o.packages, " ")
	if _, err := exec.LookPath("apt-get"); err != nil || os.Geteuid() != 0 {
		t.Fatalf("%s is missing: install it (Debian: apt-get install %s)", o.name, packages)
	}
	installing.Lock()
	defer installing.Unlock()
	apt := []string{"env", "DEBIAN_FRONTEND=noninteractive", "apt-get", "-q", "-y", "-o", "DPkg::Lock::Timeout=300"}
	runStep(t, "/", append(slices.Clone(apt), "update")...)
	runStep(t, "/", append(append(apt, "install", "--no-install-recommends"), o.packages...)...)
	if !o.found() {
		t.Fatalf("%s is missing although %s is installed", o.name, packages)
	}
}

func (o tool) found() bool {
	if len(o.probe) > 0 {
		return exec.Command(o.probe[0], o.probe[1:]...).Run() == nil
	}
	_, err := exec.LookPath(o.name)
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
