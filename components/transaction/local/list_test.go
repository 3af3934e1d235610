package local

import (
	"context"
	"log/slog"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/outrigger-mesh/outrigger/components/internal/store/db"
)

// opened is a machine on a store in memory, until the test ends.
func opened(t *testing.T, clock db.Clock) (context.Context, *machine) {
	t.Helper()
	d, err := db.Open(db.Options{Dir: "store", FS: vfs.NewMem(), Clock: clock})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	m, err := open(ctx, d.Space("transaction"), slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { cancel(); m.Close(); d.Close() })
	return ctx, m.(*machine)
}

// TestListGoesOn past what cannot be read.
func TestListGoesOn(t *testing.T) {
	ctx, m := opened(t, db.Clock{})
	for _, gid := range []string{"1", "2", "3"} {
		if _, err := m.begin(ctx, beginIn{Key: "default/a/b/" + gid, Content: chain().content, Durability: db.OS}); err != nil {
			t.Fatal(err)
		}
	}
	if err := m.space.Update(ctx, db.OS, func(w *db.Tx) error {
		w.Set(runKey("default/a/b/1"), []byte{1, 0xff})
		w.Set(contentKey("default/a/b/2"), []byte{9})
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	out, err := m.list(ctx, listIn{Prefix: "default/a/b/", Limit: 10})
	if err != nil || len(out.All) != 1 || out.All[0].GID != "a/b/3" {
		t.Errorf("%+v, %v", out, err)
	}
}
