//go:build failpoints

package failpoint

import (
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"syscall"
)

var dir = os.Getenv("OUTRIGGER_FAILPOINTS")

// Hit kills the process if the point is armed, or stops it. Of, unless empty, is added to its name behind a dot. Safe for concurrent use.
func Hit(name, of string) {
	if dir == "" {
		return
	}
	if of != "" {
		name += "." + of
	}
	if moved("armed", "hit", name) {
		_ = syscall.Kill(os.Getpid(), syscall.SIGKILL)
		select {} // until it is delivered
	}
	if moved("freeze", "frozen", name) {
		_ = os.WriteFile(filepath.Join(dir, "frozen", name), []byte(strconv.Itoa(os.Getpid())), 0o600)
		stop()
	}
}

// stop stops the process, and this thread before it does anything more: a signal to all of them may reach another one first.
func stop() {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	_ = syscall.Tgkill(os.Getpid(), syscall.Gettid(), syscall.SIGSTOP)
}

func moved(from, to, name string) bool {
	return os.Rename(filepath.Join(dir, from, name), filepath.Join(dir, to, name)) == nil
}
