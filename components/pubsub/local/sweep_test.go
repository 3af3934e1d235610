package local

import (
	"context"
	"log/slog"
	"sync/atomic"
	"testing"
	"time"

	"github.com/outrigger-mesh/outrigger/components/internal/store/db"
)

// TestRetentionByTime sweeps more than one step removes.
func TestRetentionByTime(t *testing.T) {
	var passed atomic.Int64
	d, err := db.Open(db.Options{Dir: t.TempDir(), Logger: slog.New(slog.DiscardHandler), Clock: db.Clock{Boot: "one",
		Uptime: func() time.Duration { return time.Duration(passed.Load()) }, Wall: time.Now}})
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	ctx, cancel := context.WithCancel(t.Context())
	opened, err := openMachine(ctx, d.Space("pubsub"), slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	m := opened.(*machine)
	defer m.Close()
	defer cancel()
	set := settings{Durability: "os", Retention: time.Hour, RetentionBytes: 1 << 30, Idempotency: time.Hour}
	publish := func(n int, key string) {
		t.Helper()
		in := publishIn{Component: "default", Settings: set, Events: make([]publication, n)}
		for i := range in.Events {
			in.Events[i] = publication{Namespace: "ns", Topic: "t", Key: key}
		}
		if _, err := m.publish(ctx, in); err != nil {
			t.Fatal(err)
		}
	}
	publish(1, "once")
	publish(2*maxSweep+10, "")
	passed.Add(int64(time.Hour / 2))
	publish(5, "")
	count := func() (records int) {
		v := m.space.View()
		defer v.Close()
		for range v.Scan([]byte("e"), []byte("f")) {
			records++
		}
		for range v.Scan([]byte("i"), []byte("j")) {
			records++
		}
		for range v.Scan([]byte("x"), nil) {
			records++
		}
		return records
	}
	before := 2*maxSweep + 16 + 2
	if n := count(); n != before {
		t.Fatalf("%d records, want %d", n, before)
	}
	if err := m.sweep(ctx); err != nil {
		t.Fatal(err)
	}
	if n := count(); n != before {
		t.Errorf("%d records after a sweep in which nothing was due, want %d", n, before)
	}
	passed.Add(int64(time.Hour/2 + time.Minute))
	if err := m.sweep(ctx); err != nil {
		t.Fatal(err)
	}
	if n := count(); n != 5 {
		t.Errorf("%d records are left, want the 5 events of the last hour", n)
	}
}
