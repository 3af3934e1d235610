package config_test

import (
	"context"
	"log/slog"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/outrigger-mesh/outrigger/runtime/config"
)

// watching is a Watch under test: a file in a folder of its own, and what was told of it.
type watching struct {
	t            *testing.T
	folder, path string
	changed      chan struct{}
}

func startWatch(t *testing.T) *watching {
	folder := filepath.Join(t.TempDir(), "etc")
	w := &watching{t: t, folder: folder, path: filepath.Join(folder, "outrigger.yaml"), changed: make(chan struct{}, 100)}
	w.mkdir()
	w.write(w.path, "one")
	w.start()
	return w
}

func (w *watching) start() {
	t := w.t
	c, err := config.Load(w.path, config.Overrides{}, config.Environment{Catalogs: catalogs()})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		config.Watch(ctx, c, slog.New(slog.DiscardHandler), func() { w.changed <- struct{}{} })
	}()
	t.Cleanup(func() { cancel(); <-ended })
}

func (w *watching) check(err error) {
	w.t.Helper()
	if err != nil {
		w.t.Fatal(err)
	}
}

func (w *watching) mkdir() { w.check(os.MkdirAll(w.folder, 0o755)) }
func (w *watching) write(path, app string) {
	w.check(os.WriteFile(path, []byte("app: {id: "+app+"}\n"), 0o644))
}

// expect waits for one call and holds that no second comes.
func (w *watching) expect(what string) {
	w.t.Helper()
	select {
	case <-w.changed:
	case <-time.After(20 * time.Second):
		w.t.Fatalf("%s: not told", what)
	}
	w.quiet(what)
}

func (w *watching) quiet(what string) {
	w.t.Helper()
	select {
	case <-w.changed:
		w.t.Fatalf("%s: told once too often", what)
	case <-time.After(300 * time.Millisecond):
	}
}

func TestWatch(t *testing.T) {
	w := startWatch(t)
	w.quiet("nothing happened")
	w.write(w.path, "two")
	w.expect("written in place")
	w.write(w.path, "two")
	w.check(os.Chtimes(w.path, time.Now(), time.Now()))
	w.write(filepath.Join(w.folder, "other"), "x")
	w.quiet("touched, and another file written")
	w.write(w.path+".new", "three")
	w.check(os.Rename(w.path+".new", w.path))
	w.expect("renamed over, as editors do")
	w.check(os.Remove(w.path))
	w.quiet("removed")
	w.write(w.path, "four")
	w.expect("made again")
}

func TestWatchFolderGoesAndComes(t *testing.T) {
	w := startWatch(t)
	for _, app := range []string{"a", "b", "c"} { // some file systems give the new folder the number of the old one
		w.check(os.RemoveAll(w.folder))
		w.quiet("folder removed")
		w.mkdir()
		w.write(w.path, app)
		w.expect("folder made again")
	}
	w.check(os.Rename(w.folder, w.folder+".old"))
	w.mkdir()
	w.write(w.path, "three")
	w.expect("another folder in its place")
	w.write(w.path, "four")
	w.expect("written in the new folder")
}

// Kubernetes mounts a link to a file below a link that it swaps.
func TestWatchSwappedLink(t *testing.T) {
	w := startWatch(t)
	for i, version := range []string{"v1", "v2"} {
		w.check(os.Mkdir(filepath.Join(w.folder, version), 0o755))
		w.write(filepath.Join(w.folder, version, "outrigger.yaml"), version)
		w.check(os.Symlink(version, filepath.Join(w.folder, "..tmp")))
		w.check(os.Rename(filepath.Join(w.folder, "..tmp"), filepath.Join(w.folder, "..data")))
		if i == 0 {
			w.check(os.Remove(w.path))
			w.check(os.Symlink("..data/outrigger.yaml", w.path))
		}
		w.expect(version)
	}
}

// A deployment may swap the folder itself, and what changes in the new one must be seen too.
func TestWatchSwappedFolder(t *testing.T) {
	base := t.TempDir()
	w := &watching{t: t, folder: filepath.Join(base, "current"), changed: make(chan struct{}, 100)}
	w.path = filepath.Join(w.folder, "outrigger.yaml")
	for _, version := range []string{"v1", "v2"} {
		w.check(os.Mkdir(filepath.Join(base, version), 0o755))
		w.write(filepath.Join(base, version, "outrigger.yaml"), version)
	}
	w.check(os.Symlink("v1", w.folder))
	w.start()
	w.check(os.Symlink("v2", w.folder+".new"))
	w.check(os.Rename(w.folder+".new", w.folder))
	w.expect("swapped")
	w.write(w.path, "v3")
	w.expect("written in the new folder")
}

// A change between loading and watching is not lost.
func TestWatchFromWhatWasLoaded(t *testing.T) {
	path := filepath.Join(t.TempDir(), "a.yaml")
	if err := os.WriteFile(path, []byte("app: {id: one}"), 0o644); err != nil {
		t.Fatal(err)
	}
	c, err := config.Load(path, config.Overrides{}, config.Environment{Catalogs: catalogs()})
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte("app: {id: two}"), 0o644); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	told := false
	config.Watch(ctx, c, slog.New(slog.DiscardHandler), func() { told = true; cancel() })
	if !told {
		t.Error("not told")
	}
}

func TestWatchWithoutFile(t *testing.T) {
	c, err := config.Load("", config.Overrides{}, world{}.environment())
	if err != nil {
		t.Fatal(err)
	}
	config.Watch(context.Background(), c, slog.New(slog.DiscardHandler), func() { t.Error("told of a file that is not there") })
}
