package file_test

import (
	"context"
	"log/slog"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/outrigger-mesh/outrigger/components"
	"github.com/outrigger-mesh/outrigger/components/config"
	"github.com/outrigger-mesh/outrigger/components/config/configtest"
	"github.com/outrigger-mesh/outrigger/components/config/file"
)

func TestConformance(t *testing.T) { configtest.Run(t, backend) }

func backend(t *testing.T) configtest.Backend {
	dir := filepath.Join(t.TempDir(), "config")
	return configtest.Backend{Driver: open(t, dir),
		Put:    func(key, value string) { put(t, dir, key, value) },
		Remove: func(key string) { must(t, os.Remove(filepath.Join(dir, key))) }}
}

func open(t *testing.T, dir string) config.Driver {
	t.Helper()
	env := components.Env{Logger: slog.New(slog.NewTextHandler(t.Output(), nil)), DataDir: t.TempDir()}
	d, err := file.Open(t.Context(), env, file.Options{Dir: dir, Rescan: 30 * time.Second})
	must(t, err)
	t.Cleanup(func() { must(t, d.(components.Closer).Close(context.Background())) })
	return d
}

// tick is longer than that of a kernel's clock for change times, by which a value that comes back is told from before.
const tick = 5 * time.Millisecond

// put renames a file into place, as editors do.
func put(t *testing.T, dir, key, value string) {
	t.Helper()
	path := filepath.Join(dir, key)
	must(t, os.MkdirAll(filepath.Dir(path), 0o700))
	temp := filepath.Join(filepath.Dir(path), ".new")
	must(t, os.WriteFile(temp, []byte(value), 0o600))
	must(t, os.Rename(temp, path))
	time.Sleep(tick)
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
