//go:build failpoints

package failpoint

import (
	"os"
	"path/filepath"
	"syscall"
)

var dir = os.Getenv("OUTRIGGER_FAILPOINTS")

// Hit kills the process if the point is armed. Of, unless empty, is added to its name behind a dot. Safe for concurrent use.
func Hit(name, of string) {
	if dir == "" {
		return
	}
	if of != "" {
		name += "." + of
	}
	if os.Rename(filepath.Join(dir, "armed", name), filepath.Join(dir, "hit", name)) != nil {
		return
	}
	_ = syscall.Kill(os.Getpid(), syscall.SIGKILL)
	select {} // until it is delivered
}
