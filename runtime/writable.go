package runtime

import (
	"errors"
	"io/fs"
	"os"
	"syscall"

	"github.com/outrigger-mesh/outrigger/runtime/config"
)

// Place is one that a sidecar with a configuration would write to.
type Place struct {
	Setting string // which names it, such as data_dir
	Path    string
	Err     error // why it cannot be written to
}

// Writable tries the data folder, and the access log where that is a file. It leaves nothing behind but the folder.
func Writable(c *config.Config) []Place {
	data := Place{Setting: "data_dir", Path: c.DataDir}
	if dir, err := DataDir(c.DataDir); err != nil {
		data.Err = err
	} else {
		data.Path, data.Err = dir, tryFolder(dir)
	}
	switch log := c.Telemetry.AccessLog; log {
	case "", "off", "stdout", "stderr":
		return []Place{data}
	default:
		return []Place{data, {Setting: "telemetry.access_log", Path: log, Err: tryFile(log)}}
	}
}

func tryFolder(dir string) error {
	f, err := os.CreateTemp(dir, ".check-*")
	if err != nil {
		return err
	}
	return errors.Join(f.Close(), os.Remove(f.Name()))
}

// tryFile opens a file as the access log does, but waits for no reader of a pipe.
func tryFile(path string) error {
	_, missing := os.Stat(path)
	f, err := os.OpenFile(path, os.O_APPEND|os.O_CREATE|os.O_WRONLY|syscall.O_NONBLOCK, 0o640)
	if err != nil {
		return err
	}
	if err := f.Close(); err != nil || !errors.Is(missing, fs.ErrNotExist) {
		return err
	}
	return os.Remove(path)
}
