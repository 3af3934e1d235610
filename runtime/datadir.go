package runtime

import (
	"cmp"
	"fmt"
	"os"
	"path/filepath"
)

// DataDir is FindDataDir, and makes the folder when it is not there.
func DataDir(configured string) (string, error) {
	dir, err := FindDataDir(configured)
	if err != nil {
		return "", err
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return "", fmt.Errorf("data folder: %w; give another with -data-dir", err)
	}
	return dir, nil
}

// FindDataDir is the folder of the sidecar's state: what is configured, or else $OUTRIGGER_DATA_DIR, or else /var/lib/outrigger for
// root and $XDG_STATE_HOME/outrigger (~/.local/state/outrigger) for others. It may not be there.
func FindDataDir(configured string) (string, error) {
	dir := cmp.Or(configured, os.Getenv("OUTRIGGER_DATA_DIR"))
	if dir == "" {
		if os.Geteuid() == 0 {
			dir = "/var/lib/outrigger"
		} else if state := os.Getenv("XDG_STATE_HOME"); state != "" {
			dir = filepath.Join(state, "outrigger")
		} else {
			home, err := os.UserHomeDir()
			if err != nil {
				return "", fmt.Errorf("no data folder: %w; give one with -data-dir", err)
			}
			dir = filepath.Join(home, ".local", "state", "outrigger")
		}
	}
	return filepath.Abs(dir)
}
