package store_test

import (
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"testing"

	"github.com/outrigger-mesh/outrigger/components"
	"github.com/outrigger-mesh/outrigger/components/internal/folder"
	"github.com/outrigger-mesh/outrigger/components/internal/store"
)

func TestVerifyOfNothingMakesNothing(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "not", "there")
	c := store.Care{DataDir: dir, Log: slog.New(slog.DiscardHandler)}
	if err := c.Verify(t.Context()); !errors.Is(err, components.ErrNotFound) {
		t.Errorf("%v, want that there is no store", err)
	}
	if _, err := os.Stat(filepath.Dir(dir)); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("a folder was made: %v", err)
	}
}

// TestVerifyLeavesNoCopy of its own, nor of one that was killed; and leaves alone what another is reading.
func TestVerifyLeavesNoCopy(t *testing.T) {
	c := newCrowd(t, 1)
	care := store.Care{DataDir: c.dir, Log: slog.New(slog.DiscardHandler)}
	left := filepath.Join(c.dir, "store", "verify")
	if err := errors.Join(os.Mkdir(left, 0o700), os.WriteFile(filepath.Join(left, "000001.sst"), nil, 0o600)); err != nil {
		t.Fatal(err)
	}
	f, err := os.OpenFile(filepath.Join(c.dir, "store", "verifying"), os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	if held, err := folder.TryLock(f); err != nil || !held {
		t.Fatal(held, err)
	}
	if err := care.Verify(t.Context()); !errors.Is(err, components.ErrUnavailable) {
		t.Errorf("while another verifies: %v", err)
	}
	if _, err := os.Stat(filepath.Join(left, "000001.sst")); err != nil {
		t.Errorf("what another reads is gone: %v", err)
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	if err := care.Verify(t.Context()); err != nil {
		t.Errorf("beside what was left: %v", err)
	}
	if _, err := os.Stat(left); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("there is a copy afterwards: %v", err)
	}
}
