package store_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/outrigger-mesh/outrigger/components"
	"github.com/outrigger-mesh/outrigger/components/internal/store"
	"github.com/outrigger-mesh/outrigger/components/internal/store/storetest"
)

// What is damaged while the store is open is told to who reads it, in whichever process, and naming the place; all else goes on.
func TestDamageFoundWhileServing(t *testing.T) {
	dir, r := t.TempDir(), rand.NewChaCha8([32]byte{})
	records := map[string][]byte{}
	for i := range 1000 {
		value := make([]byte, 3000)
		_, _ = r.Read(value)
		records[fmt.Sprint("k", i)] = fmt.Appendf(nil, "%d %x", i+1, value)
	}
	storetest.Put(t, dir, "ledger", records)
	if err := (store.Care{DataDir: dir, Log: slog.New(slog.DiscardHandler)}).Compact(t.Context()); err != nil {
		t.Fatal(err)
	}
	owner, client := join(t, dir), join(t, dir)
	table := damageTable(t, filepath.Join(dir, "store", "data"))
	for who, l := range map[string]*store.Link{"the owner": owner, "a client": client} {
		damaged := 0
		for i := range records {
			ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
			out, err := read.Call(ctx, l, entry{i})
			cancel()
			switch {
			case errors.Is(err, components.ErrDamaged) && strings.Contains(err.Error(), table) && strings.Contains(err.Error(), "at byte "):
				damaged++
			case err != nil || fmt.Sprint("k", out.ID-1) != i:
				t.Fatalf("%s reads %s: %d, %v", who, i, out.ID, err)
			}
		}
		if damaged == 0 || damaged > 20 {
			t.Errorf("%s finds %d of %d damaged", who, damaged, len(records))
		}
		if _, err := add.Call(t.Context(), l, entry{who}); err != nil {
			t.Errorf("%s writes: %v", who, err)
		}
		if err := l.Check(t.Context()); err != nil {
			t.Errorf("%s: %v", who, err)
		}
	}
}

// damageTable changes a byte in the middle of the largest table, and names it.
func damageTable(t *testing.T, data string) (name string) {
	t.Helper()
	tables, err := filepath.Glob(filepath.Join(data, "*.sst"))
	if err != nil {
		t.Fatal(err)
	}
	var size int64
	for _, path := range tables {
		if info, err := os.Stat(path); err != nil {
			t.Fatal(err)
		} else if info.Size() > size {
			name, size = path, info.Size()
		}
	}
	f, err := os.OpenFile(name, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	b := make([]byte, 1)
	if _, err := f.ReadAt(b, size/2); err != nil {
		t.Fatal(err)
	}
	if _, err := f.WriteAt([]byte{b[0] ^ 1}, size/2); err != nil {
		t.Fatal(err)
	}
	return filepath.Base(name)
}
