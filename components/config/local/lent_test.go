package local

import (
	"context"
	"log/slog"
	"testing"
	"testing/synctest"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/outrigger-mesh/outrigger/components/config"
	"github.com/outrigger-mesh/outrigger/components/internal/store/db"
	"github.com/outrigger-mesh/outrigger/components/internal/store/storetest"
)

// TestLentUntilSetReturns: when a caller has given up, what it has lent is its own again, though the value may be kept after that.
func TestLentUntilSetReturns(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		begin := time.Now()
		clock := db.Clock{Boot: "boot", Wall: time.Now, Uptime: func() time.Duration { return time.Since(begin) }}
		d, err := db.Open(db.Options{Dir: "store", FS: vfs.NewMem(), Clock: clock})
		if err != nil {
			t.Fatal(err)
		}
		defer d.Close()
		opened, err := openMachine(t.Context(), d.Space("config"), slog.New(slog.DiscardHandler))
		if err != nil {
			t.Fatal(err)
		}
		m := opened.(*machine)
		item := config.Item{Key: "c/ns/k", Value: []byte("value"), Metadata: map[string]string{"k": "v"}}
		set := func(ctx context.Context) error {
			_, err := m.set(ctx, setIn{Item: item, Durability: "disk"})
			return err
		}
		storetest.Abandon(t, m.space, set, func() {
			copy(item.Value, "XXXXX")
			delete(item.Metadata, "k")
		})
		out, err := m.get(t.Context(), keyIn{"c/ns/k"})
		if err != nil || len(out.Items) != 1 || string(out.Items[0].Value) != "value" || out.Items[0].Metadata["k"] != "v" {
			t.Errorf("%+v, %v", out.Items, err)
		}
	})
}
