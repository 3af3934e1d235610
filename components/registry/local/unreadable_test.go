package local_test

import (
	"bytes"
	"context"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/outrigger-mesh/outrigger/components"
	"github.com/outrigger-mesh/outrigger/components/internal/store/storetest"
	"github.com/outrigger-mesh/outrigger/components/registry"
	"github.com/outrigger-mesh/outrigger/components/registry/local"
)

// TestUnreadableRecords: they are in no list, they keep nobody from registering, and go with those who held them.
func TestUnreadableRecords(t *testing.T) {
	dir := t.TempDir()
	shut(t, open(t, dir, components.NewShared()))
	bad := "default\x00shop\x00\x00stock\x0010.0.0.1:80\x00holder"
	storetest.Put(t, dir, "registry", map[string][]byte{bad: []byte("garbage"), "strange": {1, 0xa0}})

	var log bytes.Buffer
	shared := components.NewShared()
	env := components.Env{ID: components.ID{Capability: "registry", Name: "default", Driver: "local"}, DataDir: dir, Shared: shared,
		Logger: slog.New(slog.NewTextHandler(&log, nil))}
	d, err := local.Open(context.WithoutCancel(t.Context()), env, local.Options{})
	if err != nil {
		t.Fatal(err)
	}
	if err := d.Register(t.Context(), registry.Record{Service: stock, Address: "10.0.0.2:80"}); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	_ = d.Watch(ctx, stock, func(all []registry.Record) error {
		cancel()
		if len(all) != 1 || all[0].Address != "10.0.0.2:80" {
			t.Errorf("listed are %v", all)
		}
		return nil
	})
	shut(t, d)
	for _, named := range []string{"stock at 10.0.0.1:80", "strange"} {
		if strings.Count(log.String(), named) != 1 {
			t.Errorf("%q is not in the log once:\n%s", named, &log)
		}
	}
}
