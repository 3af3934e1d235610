package store_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/outrigger-mesh/outrigger/components"
	"github.com/outrigger-mesh/outrigger/components/internal/store"
)

// strangerVariable makes this test binary a process of a user who has no rights, with that data folder.
const strangerVariable = "OUTRIGGER_TEST_STRANGER"

func stranger(dir string) int {
	const nobody = 65534
	if os.Geteuid() == 0 {
		if err := errors.Join(syscall.Setgroups(nil), syscall.Setgid(nobody), syscall.Setuid(nobody)); err != nil {
			fmt.Println(err)
			return 1
		}
	}
	l, err := store.Join(context.Background(), components.Env{DataDir: dir, Logger: slog.New(slog.DiscardHandler)})
	switch {
	case err == nil:
		l.Close()
		return 0
	case errors.Is(err, components.ErrPrecondition): // the start of a sidecar ends with it, and is not tried again
		fmt.Println(err)
		return 2
	}
	fmt.Println(err)
	return 1
}

func TestFoldersThatCannotBeUsed(t *testing.T) {
	for what, spoil := range map[string]func(dir string) error{
		"a folder that nothing can be made in":   func(dir string) error { return os.Chmod(dir, 0o555) },
		"a folder that is closed":                func(dir string) error { return os.Chmod(dir, 0) },
		"a store that is closed":                 func(dir string) error { return os.Mkdir(filepath.Join(dir, "store"), 0) },
		"a store that nothing can be written in": func(dir string) error { return os.Mkdir(filepath.Join(dir, "store"), 0o555) },
		"a file in the store's place":            func(dir string) error { return os.WriteFile(filepath.Join(dir, "store"), nil, 0o644) },
		"":                                       func(dir string) error { return nil },
	} {
		dir := t.TempDir()
		if err := errors.Join(os.Chmod(filepath.Dir(dir), 0o755), os.Chmod(dir, 0o777), spoil(dir)); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() {
			_ = os.Chmod(dir, 0o700)
			_ = os.Chmod(filepath.Join(dir, "store"), 0o700) // it may not be there
		})
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		cmd := exec.CommandContext(ctx, os.Args[0], "-test.run=^$")
		cmd.Env = append(os.Environ(), strangerVariable+"="+dir)
		out, err := cmd.CombinedOutput()
		if what == "" {
			if err != nil {
				t.Errorf("a folder that can be used: %v: %s", err, out)
			}
			continue
		}
		if code := cmd.ProcessState.ExitCode(); code != 2 || !strings.Contains(string(out), dir) || !strings.Contains(string(out), "-data-dir") {
			t.Errorf("%s: exit %d: %s; want a refusal that names the folder and says what to do", what, code, out)
		}
	}
}
