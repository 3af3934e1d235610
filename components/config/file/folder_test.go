package file_test

import (
	"context"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/outrigger-mesh/outrigger/components"
	"github.com/outrigger-mesh/outrigger/components/config"
	"github.com/outrigger-mesh/outrigger/components/config/file"
)

// view is what a watch has told.
type view struct {
	changes chan config.Change
	ended   chan error
}

func watch(t *testing.T, d config.Driver, sel config.Selection) *view {
	t.Helper()
	ctx, stop := context.WithCancel(t.Context())
	v := &view{make(chan config.Change, 1000), make(chan error, 1)}
	begun := make(chan bool, 1)
	go func() {
		v.ended <- d.Watch(ctx, sel, func(changes []config.Change, initial bool) error {
			for _, c := range changes {
				v.changes <- c
			}
			if initial {
				begun <- true
			}
			return nil
		})
	}()
	t.Cleanup(func() { stop(); <-v.ended })
	select {
	case <-begun:
	case err := <-v.ended:
		v.ended <- err
		t.Fatalf("the watch ends with %v", err)
	case <-time.After(10 * time.Second):
		t.Fatal("nothing is reported")
	}
	return v
}

// want reads changes until a key has this value ("-": is deleted); some keys must not be among them.
func (v *view) want(t *testing.T, key, value string, never ...string) {
	t.Helper()
	timeout := time.After(10 * time.Second)
	for {
		select {
		case c := <-v.changes:
			if slices.Contains(never, c.Key) {
				t.Errorf("%v is reported", c)
			}
			if c.Key == key && (c.Deleted && value == "-" || !c.Deleted && string(c.Item.Value) == value) {
				return
			}
		case err := <-v.ended:
			v.ended <- err
			t.Fatalf("the watch ends with %v", err)
		case <-timeout:
			t.Fatalf("%q = %q is not reported", key, value)
		}
	}
}

var all = config.Selection{Prefixes: []string{"ns/"}}

// TestConfigMap lays the folder out as Kubernetes mounts one, and swaps it as it does.
func TestConfigMap(t *testing.T) {
	for name, inNamespace := range map[string]bool{"mounted as the namespace": true, "mounted as the folder": false} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			mount, keys := dir, "ns/"
			if inNamespace {
				mount, keys = filepath.Join(dir, "ns"), ""
			}
			link := func(to, name string) { must(t, os.Symlink(to, filepath.Join(mount, name))) }
			edition := func(name, value string) {
				put(t, filepath.Join(mount, name), keys+"k", value)
				link(name, "..data_tmp")
				must(t, os.Rename(filepath.Join(mount, "..data_tmp"), filepath.Join(mount, "..data")))
			}
			must(t, os.MkdirAll(mount, 0o700))
			edition("..1", "one")
			if inNamespace {
				link("..data/k", "k")
			} else {
				link("..data/ns", "ns")
			}
			d := open(t, dir)
			v := watch(t, d, all)
			v.want(t, "ns/k", "one")
			first, err := d.Get(t.Context(), "ns/k")
			must(t, err)
			edition("..2", "two")
			must(t, os.RemoveAll(filepath.Join(mount, "..1")))
			v.want(t, "ns/k", "two")
			second, err := d.Get(t.Context(), "ns/k")
			must(t, err)
			edition("..3", "three")
			v.want(t, "ns/k", "three")
			link("..2", "..data_tmp") // back to an older edition, whose files have not changed
			must(t, os.Rename(filepath.Join(mount, "..data_tmp"), filepath.Join(mount, "..data")))
			v.want(t, "ns/k", "two")
			if again, err := d.Get(t.Context(), "ns/k"); err != nil || again.Version == second.Version {
				t.Errorf("the version went back to %q, %v", again.Version, err)
			}
			edition("..4", "one")
			v.want(t, "ns/k", "one")
			if again, err := d.Get(t.Context(), "ns/k"); err != nil || again.Version == first.Version {
				t.Errorf("the version went back to %q, %v", again.Version, err)
			}
			if items, err := d.List(t.Context(), "ns/", "", 10); err != nil || len(items) != 1 {
				t.Errorf("list: %d items, %v; want the one key", len(items), err)
			}
		})
	}
}

func TestFolderThatComesLater(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "not", "there", "yet")
	d := open(t, dir)
	v := watch(t, d, all)
	put(t, dir, "ns/k", "one")
	v.want(t, "ns/k", "one")
	must(t, os.RemoveAll(filepath.Dir(dir)))
	v.want(t, "ns/k", "-")
	put(t, dir, "ns/k", "two")
	v.want(t, "ns/k", "two")
}

func TestWrittenInPlace(t *testing.T) {
	dir := t.TempDir()
	put(t, dir, "ns/k", "one")
	v := watch(t, open(t, dir), all)
	v.want(t, "ns/k", "one")
	must(t, os.WriteFile(filepath.Join(dir, "ns/k"), []byte("two"), 0o600))
	v.want(t, "ns/k", "two")
	f, err := os.OpenFile(filepath.Join(dir, "ns/k"), os.O_WRONLY, 0)
	must(t, err)
	defer f.Close()
	_, err = f.WriteAt([]byte("TWO"), 0)
	must(t, err)
	v.want(t, "ns/k", "TWO")
}

// TestTouchedFileIsNoChange: watchers hear of other content only.
func TestTouchedFileIsNoChange(t *testing.T) {
	dir := t.TempDir()
	put(t, dir, "ns/k", "one")
	v := watch(t, open(t, dir), all)
	v.want(t, "ns/k", "one")
	must(t, os.Chtimes(filepath.Join(dir, "ns/k"), time.Now(), time.Now()))
	put(t, dir, "ns/k", "one")
	put(t, dir, "ns/other", "x")
	if c := <-v.changes; c.Key != "ns/other" {
		t.Errorf("%q is reported, its content is the same", c.Key)
	}
}

func TestNothingOutsideIsRead(t *testing.T) {
	top := t.TempDir()
	dir := filepath.Join(top, "config")
	put(t, top, "outside", "hush")
	put(t, dir, "ns/k", "x")
	must(t, os.Symlink(filepath.Join(top, "outside"), filepath.Join(dir, "ns/absolute")))
	must(t, os.Symlink("../../outside", filepath.Join(dir, "ns/relative")))
	must(t, syscall.Mkfifo(filepath.Join(dir, "ns/pipe"), 0o600))
	d := open(t, dir)
	for _, key := range []string{"ns/absolute", "ns/relative", "../outside", "ns/../../outside", "/etc/hostname", "ns/pipe", "ns", ".lock", "ns/.x", "ns//k"} {
		if item, err := d.Get(t.Context(), key); err == nil {
			t.Errorf("get %q answers %q", key, item.Value)
		}
	}
	w := d.(config.Setter)
	for _, key := range []string{"../new", "ns/../../new", "/tmp/new", "ns/.new", "ns/absolute/new"} {
		if _, err := w.Set(t.Context(), config.Item{Key: key, Value: []byte("x")}, ""); err == nil {
			t.Errorf("set %q succeeds", key)
		}
	}
	if _, err := w.Set(t.Context(), config.Item{Key: "ns/relative", Value: []byte("x")}, ""); !errors.Is(err, components.ErrDenied) {
		t.Errorf("set of a link that leads out: %v, want ErrDenied", err)
	}
	if data, err := os.ReadFile(filepath.Join(top, "outside")); err != nil || string(data) != "hush" {
		t.Errorf("the file outside is %q, %v", data, err)
	}
	if _, err := d.List(t.Context(), "ns/", "", 10); !errors.Is(err, components.ErrDenied) {
		t.Errorf("list with a link that leads out: %v, want ErrDenied", err)
	}
	if err := d.Watch(t.Context(), all, nil); !errors.Is(err, components.ErrDenied) {
		t.Errorf("watch with a link that leads out: %v, want ErrDenied", err)
	}
	watch(t, d, config.Selection{Keys: []string{"ns/k"}}).want(t, "ns/k", "x")
}

func TestLinksThatLeadRoundAndRound(t *testing.T) {
	dir := t.TempDir()
	put(t, dir, "ns/k", "x")
	must(t, os.Symlink("loop", filepath.Join(dir, "ns/loop")))
	must(t, os.Symlink(".", filepath.Join(dir, "ns/self")))
	d := open(t, dir)
	if _, err := d.Get(t.Context(), "ns/loop"); !errors.Is(err, components.ErrDenied) {
		t.Errorf("%v, want ErrDenied", err)
	}
	must(t, os.Remove(filepath.Join(dir, "ns/loop")))
	items, err := d.List(t.Context(), "ns/", "", 1000)
	if err != nil || len(items) == 0 || len(items) > 2 {
		t.Errorf("%d items, %v", len(items), err)
	}
}

// TestUnreadableIsNotAbsent needs a user whom permissions bind.
func TestUnreadableIsNotAbsent(t *testing.T) {
	dir := t.TempDir()
	put(t, dir, "ns/k", "one")
	d := open(t, dir)
	v := watch(t, d, all)
	v.want(t, "ns/k", "one")
	unreadable(t, filepath.Join(dir, "ns/k"))
	if _, err := d.Get(t.Context(), "ns/k"); errors.Is(err, components.ErrNotFound) || err == nil {
		t.Errorf("get: %v, want an error that is not ErrNotFound", err)
	}
	if _, err := d.List(t.Context(), "ns/", "", 10); errors.Is(err, components.ErrNotFound) || err == nil {
		t.Errorf("list: %v, want an error that is not ErrNotFound", err)
	}
	if err := d.Watch(t.Context(), all, nil); errors.Is(err, components.ErrNotFound) || err == nil {
		t.Errorf("watch: %v, want an error that is not ErrNotFound", err)
	}
	put(t, dir, "ns/other", "x")
	v.want(t, "ns/other", "x", "ns/k")
	must(t, os.Remove(filepath.Join(dir, "ns/k")))
	must(t, os.Symlink("/etc/hostname", filepath.Join(dir, "ns/k")))
	put(t, dir, "ns/other", "y")
	v.want(t, "ns/other", "y", "ns/k")
	put(t, dir, "ns/other", "z")
	v.want(t, "ns/other", "z", "ns/k")
	put(t, dir, "ns/k", "two")
	v.want(t, "ns/k", "two")
}

// unreadable makes a file one that cannot be read, for root too: it is larger than what is served.
func unreadable(t *testing.T, path string) {
	t.Helper()
	if os.Getuid() != 0 {
		must(t, os.Chmod(path, 0))
		return
	}
	must(t, os.Truncate(path, config.MaxValue+1))
}

func TestLargeFileIsRefused(t *testing.T) {
	dir := t.TempDir()
	put(t, dir, "ns/k", strings.Repeat("x", config.MaxValue))
	d := open(t, dir)
	if item, err := d.Get(t.Context(), "ns/k"); err != nil || len(item.Value) != config.MaxValue {
		t.Errorf("the largest value: %d bytes, %v", len(item.Value), err)
	}
	must(t, os.Truncate(filepath.Join(dir, "ns/k"), config.MaxValue+1))
	if _, err := d.Get(t.Context(), "ns/k"); !errors.Is(err, components.ErrExhausted) {
		t.Errorf("%v, want ErrExhausted", err)
	}
}

func TestKeyIsNotTheFolderOfAnother(t *testing.T) {
	dir := t.TempDir()
	put(t, dir, "ns/a/b", "x")
	put(t, dir, "ns/c", "x")
	d := open(t, dir)
	for _, key := range []string{"ns/a", "ns/c/d"} {
		if _, err := d.(config.Setter).Set(t.Context(), config.Item{Key: key}, ""); !errors.Is(err, components.ErrPrecondition) {
			t.Errorf("set %q: %v, want ErrPrecondition", key, err)
		}
		if _, err := d.Get(t.Context(), key); !errors.Is(err, components.ErrNotFound) {
			t.Errorf("get %q: %v, want ErrNotFound", key, err)
		}
		must(t, d.(config.Deleter).Delete(t.Context(), key))
	}
	if _, err := d.Get(t.Context(), "ns/a/b"); err != nil {
		t.Errorf("the other key: %v", err)
	}
	must(t, d.(config.Deleter).Delete(t.Context(), "ns/a/b"))
	if _, err := d.(config.Setter).Set(t.Context(), config.Item{Key: "ns/a"}, ""); err != nil {
		t.Errorf("set when the folder is empty: %v", err)
	}
}

func TestContentTypes(t *testing.T) {
	dir := t.TempDir()
	d := open(t, dir)
	for key, c := range map[string]struct{ value, want string }{
		"ns/a.json": {"nonsense", "application/json"}, "ns/b.YAML": {"x", "application/yaml"}, "ns/c": {` {"a":1}`, "application/json"},
		"ns/d": {"{not json", "text/plain; charset=utf-8"}, "ns/e": {"\xff\x00", "application/octet-stream"}, "ns/f.txt": {"{}", "text/plain; charset=utf-8"},
		"ns/g": {"", "text/plain; charset=utf-8"}, "ns/h": {"12", "text/plain; charset=utf-8"},
	} {
		put(t, dir, key, c.value)
		if item, err := d.Get(t.Context(), key); err != nil || item.ContentType != c.want {
			t.Errorf("%q with %q is %q, %v; want %q", key, c.value, item.ContentType, err, c.want)
		}
	}
}

// TestTwoSidecars share the folder: versions are the same for both, and both ask before they overwrite.
func TestTwoSidecars(t *testing.T) {
	dir := t.TempDir()
	a, b := open(t, dir), open(t, dir)
	version, err := a.(config.Setter).Set(t.Context(), config.Item{Key: "ns/k", Value: []byte("one")}, "")
	must(t, err)
	if item, err := b.Get(t.Context(), "ns/k"); err != nil || item.Version != version {
		t.Errorf("the other sees version %q, %v; want %q", item.Version, err, version)
	}
	_, err = b.(config.Setter).Set(t.Context(), config.Item{Key: "ns/k", Value: []byte("two")}, version)
	must(t, err)
	if _, err := a.(config.Setter).Set(t.Context(), config.Item{Key: "ns/k", Value: []byte("three")}, version); !errors.Is(err, components.ErrConflict) {
		t.Errorf("%v, want ErrConflict", err)
	}
}

func TestSetLeavesNothingBehind(t *testing.T) {
	dir := t.TempDir()
	put(t, dir, "ns/a/b", "x")
	d := open(t, dir)
	for range 3 {
		_, _ = d.(config.Setter).Set(t.Context(), config.Item{Key: "ns/a"}, "") // refused: a folder of another key
		if _, err := d.(config.Setter).Set(t.Context(), config.Item{Key: "ns/k"}, ""); err != nil {
			t.Fatal(err)
		}
	}
	entries, err := os.ReadDir(filepath.Join(dir, "ns"))
	if err != nil || len(entries) != 2 {
		t.Errorf("%v, %v; want the key and the folder alone", entries, err)
	}
}

func TestDefaultFolderAndOptions(t *testing.T) {
	env := components.Env{Logger: slog.New(slog.NewTextHandler(t.Output(), nil)), DataDir: t.TempDir()}
	d, err := file.Open(t.Context(), env, file.Options{Rescan: time.Second})
	must(t, err)
	put(t, filepath.Join(env.DataDir, "config"), "ns/k", "x")
	if _, err := d.Get(t.Context(), "ns/k"); err != nil {
		t.Error(err)
	}
	if err := (file.Options{}).Validate(); err == nil {
		t.Error("no interval is accepted")
	}
	put(t, env.DataDir, "plain", "x")
	if _, err := file.Open(t.Context(), env, file.Options{Dir: filepath.Join(env.DataDir, "plain"), Rescan: time.Second}); err == nil {
		t.Error("a file is taken for a folder")
	}
}
