package folder_test

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/outrigger-mesh/outrigger/components"
	"github.com/outrigger-mesh/outrigger/components/internal/folder"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func open(t *testing.T, dir string) *os.Root {
	t.Helper()
	root, err := folder.Open(dir)
	must(t, err)
	t.Cleanup(func() { root.Close() })
	return root
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func TestKindsOfErrors(t *testing.T) {
	for cause, kind := range map[error]error{
		syscall.ENOENT: components.ErrNotFound, syscall.ENOTDIR: components.ErrNotFound, syscall.EACCES: components.ErrDenied, syscall.EPERM: components.ErrDenied,
		syscall.EROFS: components.ErrDenied, syscall.ENOSPC: components.ErrExhausted, syscall.ENAMETOOLONG: components.ErrInvalid,
		syscall.EIO: components.ErrUnavailable, syscall.EMFILE: components.ErrUnavailable,
		components.ErrConflict: components.ErrConflict,
	} {
		err := folder.Explain(&fs.PathError{Op: "open", Path: "/secret/place", Err: cause})
		if !errors.Is(err, kind) || kind != components.ErrConflict && strings.Contains(err.Error(), "/secret/place") {
			t.Errorf("%v is explained as %v, want %v without the path", cause, err, kind)
		}
	}
	if err := folder.Explain(nil); err != nil {
		t.Error(err)
	}
}

func TestVisible(t *testing.T) {
	for name, want := range map[string]bool{"a": true, "a/b.c": true, "ü ~": true, "": false, ".a": false, "a/.b": false, "a//b": false, "/a": false,
		"a/": false, "..": false, "a/..": false, "a\x00": false, strings.Repeat("a", 255): true, strings.Repeat("a", 256): false} {
		if got := folder.Visible(name); got != want {
			t.Errorf("%q: %v", name, got)
		}
	}
}

// TestWritersAndReaders: a reader sees the content of one write, whole, and the stamp that belongs to it.
func TestWritersAndReaders(t *testing.T) {
	root := open(t, t.TempDir())
	must(t, folder.Write(root, "d/f", []byte(strings.Repeat("0", 10000))))
	var done atomic.Bool
	var writer sync.WaitGroup
	writer.Go(func() {
		defer done.Store(true)
		for i := range 50 {
			if err := folder.Write(root, "d/f", []byte(strings.Repeat(fmt.Sprint(i%10), 10000+i))); err != nil {
				t.Errorf("write: %v", err)
			}
		}
	})
	for !done.Load() {
		data, stamp, err := folder.Read(root, "d/f", 1<<20)
		if errors.Is(err, components.ErrUnavailable) {
			continue // no moment of rest was found
		}
		if err != nil || len(data) < 10000 || strings.Count(string(data), string(data[0])) != len(data) || stamp.Size != int64(len(data)) {
			t.Errorf("read %d bytes, stamp of %d, %v", len(data), stamp.Size, err)
		}
	}
	writer.Wait()
}

func TestReplaceIsLater(t *testing.T) {
	root := open(t, t.TempDir())
	must(t, folder.Write(root, "f", []byte("a")))
	for range 10 {
		before, err := folder.StampOf(root, "f")
		must(t, err)
		must(t, folder.Replace(root, "f", []byte("a"), before))
		after, err := folder.StampOf(root, "f")
		must(t, err)
		if after.Changed <= before.Changed {
			t.Errorf("changed at %d, before at %d", after.Changed, before.Changed)
		}
	}
}

// TestStampFollowsAsTheKernelDoes compares with os.Root, which resolves links by itself.
func TestStampFollowsAsTheKernelDoes(t *testing.T) {
	dir := t.TempDir()
	root := open(t, dir)
	must(t, folder.Write(root, "a/b/file", []byte("x")))
	must(t, folder.Write(root, "top", []byte("yy")))
	for name, target := range map[string]string{
		"a/up": "../top", "link": "a/b", "a/b/twice": "../../link/file", "chain": "a/up", "out": "../x", "abs": "/etc/hostname", "loop": "loop",
		"dangling": "none", "a/round": "../a/b/../b/./file", "slash": "a/b/", "outin": "../" + filepath.Base(dir) + "/top",
		"self": ".", "a/above": "..", "a/b/both": "../.",
	} {
		must(t, root.Symlink(target, name))
	}
	for _, name := range []string{"top", "a/up", "link/file", "a/b/twice", "chain", "out", "abs", "loop", "dangling", "a/round", "slash/file",
		"slash", "outin", "self", "self/self/top", "a/above", "a/above/top", "a/b/both", "a/b/both/b/file", "top/x", "none", "link/twice", "a/b/../../top", "../x", "a", "."} {
		info, want := root.Stat(name)
		stamp, err := folder.StampOf(root, name)
		if (err == nil) != (want == nil) {
			t.Errorf("%q: %v, the kernel says %v", name, err, want)
		} else if err == nil && (stamp.Size != info.Size() || stamp.Mode != info.Mode()) {
			t.Errorf("%q: another file", name)
		}
	}
	for _, name := range []string{"out", "abs", "loop", "outin", "../x"} {
		if _, err := folder.StampOf(root, name); !errors.Is(err, components.ErrDenied) {
			t.Errorf("%q: %v, want ErrDenied", name, err)
		}
	}
}

func TestLockIsHeldByOne(t *testing.T) {
	root := open(t, t.TempDir())
	var inside atomic.Int32
	var users sync.WaitGroup
	for range 5 {
		users.Go(func() {
			for range 5 {
				release, err := folder.Lock(t.Context(), root, ".lock")
				if err != nil {
					t.Error(err)
					return
				}
				if inside.Add(1) != 1 {
					t.Error("two hold the lock")
				}
				inside.Add(-1)
				release()
			}
		})
	}
	users.Wait()
	release, err := folder.Lock(t.Context(), root, ".lock")
	must(t, err)
	defer release()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	if _, err := folder.Lock(ctx, root, ".lock"); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("%v, want DeadlineExceeded", err)
	}
}

func TestNotifierWithoutEvents(t *testing.T) {
	dir := t.TempDir()
	n := folder.NewNotifier(slog.New(slog.NewTextHandler(t.Output(), nil)), 20*time.Millisecond)
	defer n.Close()
	for range 3 {
		select {
		case <-n.C:
		case <-time.After(10 * time.Second):
			t.Fatal("the interval passes and nothing is told")
		}
	}
	n.Begin()
	n.Watch(filepath.Join(dir, "not/there"))
	n.End()
}

func TestNotifierTells(t *testing.T) {
	dir := t.TempDir()
	n := folder.NewNotifier(slog.New(slog.NewTextHandler(t.Output(), nil)), time.Hour)
	defer n.Close()
	round := func() {
		n.Begin()
		n.Watch(filepath.Join(dir, "a/b"))
		n.End()
	}
	round()
	for _, change := range []func() error{
		func() error { return os.Mkdir(filepath.Join(dir, "a"), 0o700) },
		func() error { return os.Mkdir(filepath.Join(dir, "a/b"), 0o700) },
		func() error { return os.WriteFile(filepath.Join(dir, "a/b/f"), nil, 0o600) },
		func() error { return os.RemoveAll(filepath.Join(dir, "a")) },
		func() error { return os.MkdirAll(filepath.Join(dir, "a/b"), 0o700) },
	} {
		must(t, change())
		select {
		case <-n.C:
		case <-time.After(10 * time.Second):
			t.Fatal("a change is not told")
		}
		time.Sleep(50 * time.Millisecond) // the rest of what belongs to it
		select {
		case <-n.C:
		default:
		}
		round()
	}
}

// owned is a file's description that names an owner.
type owned struct {
	fs.FileInfo
	sys any
}

func (o owned) Sys() any { return o.sys }

func TestForeign(t *testing.T) {
	own := uint32(os.Geteuid())
	for _, test := range []struct {
		sys  any
		want bool
	}{{&syscall.Stat_t{Uid: own}, false}, {&syscall.Stat_t{Uid: 0}, false}, {&syscall.Stat_t{Uid: own + 1}, true}, {nil, true}} {
		if got := folder.Foreign(owned{sys: test.sys}); got != test.want {
			t.Errorf("%+v is foreign: %v", test.sys, got)
		}
	}
}
