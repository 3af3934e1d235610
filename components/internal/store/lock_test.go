package store

import (
	"errors"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"google.golang.org/grpc/metadata"

	"github.com/outrigger-mesh/outrigger/components"
	"github.com/outrigger-mesh/outrigger/components/internal/folder"
	"github.com/outrigger-mesh/outrigger/components/internal/store/db"
)

func TestLockIsHeldOnce(t *testing.T) {
	dir := t.TempDir()
	if _, owned, err := OwnerOf(dir); owned || err != nil {
		t.Errorf("before anybody came: %v, %v", owned, err)
	}
	l, err := takeLock(dir)
	if l == nil || err != nil {
		t.Fatal(l, err)
	}
	if second, err := takeLock(dir); second != nil || err != nil {
		t.Errorf("a second hold: %v, %v", second, err)
	}
	if o, owned, err := OwnerOf(dir); !owned || err != nil || o.PID != os.Getpid() || o.Since.IsZero() {
		t.Errorf("the owner is %+v, %v, %v", o, owned, err)
	}
	l.free()
	if _, owned, err := OwnerOf(dir); owned || err != nil {
		t.Errorf("after it was freed: %v, %v", owned, err)
	}
	if l, err = takeLock(dir); l == nil || err != nil {
		t.Fatal(l, err)
	}
	l.free()
}

// TestFileSystemsThatDoNotLock: those that say so, and those that do not.
func TestFileSystemsThatDoNotLock(t *testing.T) {
	for what, try := range map[string]func(*os.File) (bool, error){
		"every lock is given":   func(*os.File) (bool, error) { return true, nil },
		"there are none":        func(*os.File) (bool, error) { return false, &os.PathError{Op: "flock", Err: syscall.ENOLCK} },
		"there is no such call": func(*os.File) (bool, error) { return false, folder.Explain(syscall.ENOTSUP) },
	} {
		dir := t.TempDir()
		l, err := takeLockBy(dir, try)
		var d *components.Detail
		if l != nil || !errors.Is(err, components.ErrUnsupported) || !errors.As(err, &d) || d.Reason != ReasonNoLock ||
			!strings.Contains(err.Error(), "-data-dir") || !strings.Contains(err.Error(), dir) {
			t.Errorf("%s: %v, want a refusal that says what to do", what, err)
		}
		if text, err := os.ReadFile(filepath.Join(dir, lockFile)); len(text) > 0 || err != nil {
			t.Errorf("%s: who was refused has noted itself as the owner: %q, %v", what, text, err)
		}
	}
	busy := errors.New("busy")
	if _, err := takeLockBy(t.TempDir(), func(*os.File) (bool, error) { return false, busy }); !errors.Is(err, busy) || errors.Is(err, components.ErrUnsupported) {
		t.Errorf("another error: %v", err)
	}
}

func TestCallThatIsTooLateIsNotBegun(t *testing.T) {
	for by, late := range map[time.Duration]bool{db.Uptime() - time.Millisecond: true, db.Uptime() + time.Minute: false} {
		ctx := metadata.NewIncomingContext(t.Context(), metadata.Pairs(beginHeader, strconv.FormatInt(int64(by), 10)))
		if tooLate(ctx) != late {
			t.Errorf("by %s at %s: %v", by, db.Uptime(), !late)
		}
	}
	if tooLate(t.Context()) {
		t.Error("a call without the header is too late")
	}
}
