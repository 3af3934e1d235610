package runtime

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/outrigger-mesh/outrigger/runtime/config"
)

// A path that is wrong costs nobody a file.
func TestSocketReplacesNothingButSockets(t *testing.T) {
	dir := t.TempDir()
	file, folder, link, stale := filepath.Join(dir, "notes.txt"), filepath.Join(dir, "folder"), filepath.Join(dir, "link"), filepath.Join(dir, "s.sock")
	if err := errors.Join(os.WriteFile(file, []byte("dear diary"), 0o600), os.Mkdir(folder, 0o700), os.Symlink(file, link)); err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{file, folder, link} {
		if ln, err := listenUnix(path); err == nil || !strings.Contains(err.Error(), path) || !strings.Contains(err.Error(), "api.socket") {
			t.Errorf("%s: %v", path, err)
			if err == nil {
				ln.Close()
			}
		}
		if _, err := os.Lstat(path); err != nil {
			t.Error(err)
		}
	}
	if text, err := os.ReadFile(file); err != nil || string(text) != "dear diary" {
		t.Errorf("%q, %v", text, err)
	}
	for range 2 { // the second time one is there that was left behind
		ln, err := listenUnix(stale)
		if err != nil {
			t.Fatal(err)
		}
		ln.(interface{ SetUnlinkOnClose(bool) }).SetUnlinkOnClose(false)
		ln.Close()
	}
}

// Only a lock that somebody holds speaks of another sidecar.
func TestLockThatCannotBeTaken(t *testing.T) {
	c := config.Defaults()
	path := filepath.Join(t.TempDir(), "a.sock")
	hold, err := os.Create(path + ".lock")
	if err != nil {
		t.Fatal(err)
	}
	if err := tryLock(hold); err != nil {
		t.Fatal(err)
	}
	if err := (&sockets{}).takeLock(&c, path, passed{}); err == nil || !strings.Contains(err.Error(), "another sidecar") {
		t.Errorf("a lock that is held: %v", err)
	}
	hold.Close()
	fault := notLocked(&c, path, tryLock(hold)) // closed: it fails otherwise
	if !errors.Is(fault, syscall.EBADF) || strings.Contains(fault.Error(), "another sidecar") || !strings.Contains(fault.Error(), path) {
		t.Errorf("a lock that fails: %v", fault)
	}
	s := &sockets{}
	if err := s.takeLock(&c, path, passed{}); err != nil {
		t.Error(err)
	}
	s.lock.Close()
}
