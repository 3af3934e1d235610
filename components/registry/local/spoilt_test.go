package local

import (
	"context"
	"log/slog"
	"testing"
	"testing/synctest"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/outrigger-mesh/outrigger/components/internal/store/db"
	"github.com/outrigger-mesh/outrigger/components/registry"
)

// TestSpoiltRecord is written anew by its holder, and goes with a holder that does not come.
func TestSpoiltRecord(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		begin := time.Now()
		clock := db.Clock{Boot: "boot", Wall: time.Now, Uptime: func() time.Duration { return time.Since(begin) }}
		d, err := db.Open(db.Options{Dir: "store", FS: vfs.NewMem(), Clock: clock})
		if err != nil {
			t.Fatal(err)
		}
		defer d.Close()
		space, service := d.Space("registry"), registry.Service{Namespace: "shop", Name: "stock"}
		here, gone := key{"default", service, "10.0.0.1:80", "here"}, key{"default", service, "10.0.0.2:80", "gone"}
		if err := space.Update(t.Context(), db.OS, func(tx *db.Tx) error {
			tx.Set(here.bytes(), []byte{})
			tx.Set(gone.bytes(), []byte{1, 0xff})
			return nil
		}); err != nil {
			t.Fatal(err)
		}
		ctx, end := context.WithCancel(t.Context())
		opened, err := openMachine(ctx, space, slog.New(slog.DiscardHandler))
		if err != nil {
			t.Fatal(err)
		}
		m := opened.(*machine)
		defer m.Close()
		defer end()
		m.join("here")
		if err := m.write(ctx, "default", "here", []registry.Record{{Service: service, Address: here.address}}); err != nil {
			t.Fatal(err)
		}
		if all := m.records(list{"default", service}); len(all) != 1 || all[0].Address != here.address {
			t.Errorf("listed are %v", all)
		}
		time.Sleep(grace + time.Second)
		v := space.View()
		defer v.Close()
		for k, there := range map[key]bool{here: true, gone: false} {
			if _, ok, err := v.Get(k.bytes()); ok != there || err != nil {
				t.Errorf("of %s there is a record: %v, %v", k.holder, ok, err)
			}
		}
	})
}
