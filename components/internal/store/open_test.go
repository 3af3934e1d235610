package store_test

import (
	"context"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"github.com/outrigger-mesh/outrigger/components"
	"github.com/outrigger-mesh/outrigger/components/internal/store"
)

// Whoever waits for a store that its disk does not let open can give up, and the lock is free when the disk has answered.
func TestOpeningEndsWithItsCaller(t *testing.T) {
	dir := t.TempDir()
	data := filepath.Join(dir, "store", "data")
	if err := os.MkdirAll(data, 0o700); err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(data, "format")
	if err := syscall.Mkfifo(file, 0o600); err != nil { // whoever reads it waits
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	ended := make(chan error, 1)
	go func() {
		_, err := store.Join(ctx, components.Env{DataDir: dir, Logger: slog.New(slog.DiscardHandler)})
		ended <- err
	}()
	select {
	case err := <-ended:
		if !errors.Is(err, components.ErrUnavailable) || !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("opening ends with %v", err)
		}
	case <-time.After(20 * time.Second):
		t.Error("who has given up waits")
	}
	w, err := os.OpenFile(file, os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(os.Remove(file), w.Close()); err != nil {
		t.Fatal(err)
	}
	late, end := context.WithTimeout(t.Context(), 20*time.Second)
	defer end()
	l, err := store.Join(late, components.Env{DataDir: dir, Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	l.Close()
}
