package file_test

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/outrigger-mesh/outrigger/components"
	"github.com/outrigger-mesh/outrigger/components/secret"
	"github.com/outrigger-mesh/outrigger/components/secret/file"
	"github.com/outrigger-mesh/outrigger/components/secret/secrettest"
)

func TestConformance(t *testing.T) { secrettest.Run(t, backend) }

func backend(t *testing.T) secrettest.Backend {
	dir := t.TempDir()
	return secrettest.Backend{Driver: open(t, dir, true),
		Put:    func(key, value string) { put(t, dir, key, value, 0o600) },
		Remove: func(key string) { must(t, os.Remove(filepath.Join(dir, key))) }}
}

func open(t *testing.T, dir string, trim bool) secret.Driver {
	t.Helper()
	d, err := file.Open(t.Context(), components.Env{DataDir: t.TempDir()}, file.Options{Dir: dir, TrimNewline: trim})
	must(t, err)
	return d
}

func put(t *testing.T, dir, key, value string, mode os.FileMode) {
	t.Helper()
	path := filepath.Join(dir, key)
	must(t, os.MkdirAll(filepath.Dir(path), 0o700))
	must(t, os.WriteFile(path+".new", []byte(value), 0o600))
	must(t, os.Chmod(path+".new", mode))
	must(t, os.Rename(path+".new", path))
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func TestLineEnd(t *testing.T) {
	dir := t.TempDir()
	for value, want := range map[string]string{"x\n": "x", "x\r\n": "x", "x\n\n": "x\n", "\n": "", "": "", "x": "x", "x\r": "x\r"} {
		put(t, dir, "k", value, 0o600)
		if got, err := open(t, dir, true).Get(t.Context(), "k"); err != nil || string(got.Data) != want {
			t.Errorf("file %q: value %q, %v; want %q", value, []byte(got.Data), err, want)
		}
		if got, err := open(t, dir, false).Get(t.Context(), "k"); err != nil || string(got.Data) != value {
			t.Errorf("file %q, not trimmed: value %q, %v", value, []byte(got.Data), err)
		}
	}
}

func TestWritableByOthersIsRefused(t *testing.T) {
	dir := t.TempDir()
	for mode, fine := range map[os.FileMode]bool{0o600: true, 0o400: true, 0o644: true, 0o660: false, 0o602: false, 0o666: false} {
		put(t, dir, "k", "hush", mode)
		_, err := open(t, dir, true).Get(t.Context(), "k")
		if fine && err != nil || !fine && !errors.Is(err, components.ErrDenied) {
			t.Errorf("mode %#o: %v", mode, err)
		}
		if err != nil && strings.Contains(err.Error(), "hush") {
			t.Errorf("the error has the secret in it: %v", err)
		}
	}
}

// TestFilesOfOtherUsersAreRefused, and what their folders and links lead to. Only root can make such files; of others
// the test shows that their own are served.
func TestFilesOfOtherUsersAreRefused(t *testing.T) {
	const nobody = 65534
	for _, stranger := range []string{"none", "d/k", "d", "link", "up", "."} {
		dir := t.TempDir()
		put(t, dir, "d/k", "hush", 0o600)
		must(t, os.Symlink("d/k", filepath.Join(dir, "link")))
		must(t, os.Symlink("d", filepath.Join(dir, "up")))
		d := open(t, dir, true)
		if err := os.Lchown(filepath.Join(dir, stranger), nobody, -1); err != nil {
			if stranger = "none"; os.Geteuid() == 0 && !errors.Is(err, fs.ErrNotExist) {
				t.Fatal(err)
			}
		}
		for key, refused := range map[string]bool{
			"d/k":  stranger == "d/k" || stranger == "d" || stranger == ".",
			"link": stranger == "d/k" || stranger == "d" || stranger == "." || stranger == "link",
			"up/k": stranger == "d/k" || stranger == "d" || stranger == "." || stranger == "up",
		} {
			value, err := d.Get(t.Context(), key)
			if !refused && (err != nil || string(value.Data) != "hush") || refused && !errors.Is(err, components.ErrDenied) {
				t.Errorf("%s is another user's: get %q: %q, %v", stranger, key, []byte(value.Data), err)
			}
		}
		if _, err := file.Open(t.Context(), components.Env{}, file.Options{Dir: dir}); errors.Is(err, components.ErrDenied) != (stranger == ".") {
			t.Errorf("%s is another user's: open: %v", stranger, err)
		}
	}
}

func TestNothingOutsideIsRead(t *testing.T) {
	top := t.TempDir()
	dir := filepath.Join(top, "secrets")
	put(t, top, "outside", "hush", 0o600)
	put(t, dir, "sub/inside", "fine", 0o600)
	must(t, os.Symlink(filepath.Join(top, "outside"), filepath.Join(dir, "absolute")))
	must(t, os.Symlink("../outside", filepath.Join(dir, "relative")))
	must(t, os.Symlink("..", filepath.Join(dir, "up")))
	must(t, os.Symlink("sub/../sub/inside", filepath.Join(dir, "link")))
	must(t, syscall.Mkfifo(filepath.Join(dir, "pipe"), 0o600))
	d := open(t, dir, true)
	for _, key := range []string{"absolute", "relative", "up/outside", "../outside", "/etc/hostname", "sub/../../outside", "sub", "pipe", "a\x00b", ".hidden"} {
		if got, err := d.Get(t.Context(), key); err == nil {
			t.Errorf("get %q answers %q", key, []byte(got.Data))
		}
	}
	if got, err := d.Get(t.Context(), "link"); err != nil || string(got.Data) != "fine" {
		t.Errorf("a link inside: %q, %v", []byte(got.Data), err)
	}
}

func TestFolderThatIsNotThere(t *testing.T) {
	env := components.Env{DataDir: t.TempDir()}
	if _, err := file.Open(t.Context(), env, file.Options{Dir: filepath.Join(env.DataDir, "none")}); !errors.Is(err, components.ErrNotFound) {
		t.Errorf("a folder that was named: %v, want ErrNotFound", err)
	}
	if _, err := file.Open(t.Context(), env, file.Options{}); err != nil {
		t.Errorf("the default folder: %v", err)
	}
	dir := t.TempDir()
	d := open(t, dir, true)
	must(t, os.Remove(dir))
	if _, err := d.Get(t.Context(), "k"); !errors.Is(err, components.ErrUnavailable) {
		t.Errorf("get from a folder that has gone: %v, want ErrUnavailable", err)
	}
}

func TestLargeFileIsRefused(t *testing.T) {
	dir := t.TempDir()
	put(t, dir, "k", strings.Repeat("x", 1<<20+1), 0o600)
	if _, err := open(t, dir, true).Get(t.Context(), "k"); !errors.Is(err, components.ErrExhausted) {
		t.Errorf("%v, want ErrExhausted", err)
	}
}
