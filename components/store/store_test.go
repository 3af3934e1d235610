package store_test

import (
	"context"
	"log/slog"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/outrigger-mesh/outrigger/components/internal/folder"
	"github.com/outrigger-mesh/outrigger/components/store"
)

// TestWhoLooksIsNotTheOwner: an owner that is killed while it is asked leaves the store to who asks, which is nobody to speak of.
func TestWhoLooksIsNotTheOwner(t *testing.T) {
	dir := t.TempDir()
	s := store.Of(dir, slog.New(slog.DiscardHandler))
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	if err := s.Own(ctx, func(int) { cancel() }); err != nil {
		t.Fatal(err)
	}
	owner, err := os.OpenFile(filepath.Join(dir, "store", "owner"), os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	if held, err := folder.TryLock(owner); err != nil || !held {
		t.Fatal(held, err)
	}
	go func() {
		time.Sleep(500 * time.Millisecond) // it has been seen by then, and is waited for
		owner.Close()
	}()
	st, err := s.Status(t.Context())
	if err != nil || st.PID != 0 || !st.Since.IsZero() || st.Bytes == 0 {
		t.Errorf("%+v, %v; this is process %d", st, err, os.Getpid())
	}
}
