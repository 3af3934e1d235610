package store

import (
	"errors"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc/metadata"

	"github.com/outrigger-mesh/outrigger/components"
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

func TestLockThatHoldsNobodyOff(t *testing.T) {
	path := filepath.Join(t.TempDir(), "owner")
	if err := os.WriteFile(path, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	err := proveLock(path, func(*os.File) (bool, error) { return true, nil }) // as on a file system that does not lock
	if !errors.Is(err, components.ErrUnsupported) || !strings.Contains(err.Error(), "-data-dir") {
		t.Errorf("got %v, want a refusal that says what to do", err)
	}
	if err := proveLock(path, func(*os.File) (bool, error) { return false, nil }); err != nil {
		t.Errorf("a lock that holds: %v", err)
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
