package local

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/outrigger-mesh/outrigger/components"
	"github.com/outrigger-mesh/outrigger/components/internal/store/db"
	"github.com/outrigger-mesh/outrigger/components/lock"
)

func TestSweepRemovesWhatNobodyLooksAt(t *testing.T) {
	var uptime atomic.Int64
	d, err := db.Open(db.Options{Dir: "store", FS: vfs.NewMem(), Clock: db.Clock{Uptime: func() time.Duration { return time.Duration(uptime.Load()) }}})
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	ctx, cancel := context.WithCancel(t.Context())
	opened, err := open(ctx, d.Space("lock"), slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	m := opened.(*machine)
	defer func() { cancel(); m.Close() }()
	const n = 2*sweepMost + 10
	for i := range n {
		lease := time.Minute
		if i%1000 == 0 {
			lease = time.Hour
		}
		if _, err := m.tryLock(ctx, ask{Key: fmt.Sprint("default/a/b/", i), Owner: "o", Lease: lease, Durability: db.OS}); err != nil {
			t.Fatal(err)
		}
	}
	uptime.Add(int64(2 * time.Minute))
	if err := m.sweepOnce(ctx); err != nil {
		t.Fatal(err)
	}
	v := d.Space("lock").View()
	defer v.Close()
	left := 0
	for range v.Scan(nil, nil) {
		left++
	}
	if left != 3 {
		t.Errorf("%d records are left, want the 3 whose leases go on", left)
	}
}

// TestSpoiltRecord keeps its lock for as long as it may be held, and no other.
func TestSpoiltRecord(t *testing.T) { synctest.Test(t, testSpoiltRecord) }

func testSpoiltRecord(t *testing.T) {
	var uptime atomic.Int64
	d, err := db.Open(db.Options{Dir: "store", FS: vfs.NewMem(), Clock: db.Clock{Uptime: func() time.Duration { return time.Duration(uptime.Load()) }}})
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	space := d.Space("lock")
	records := map[string][]byte{"default/a/b/empty": {}, "default/a/b/newer": {2, 0xa0}, "default/a/b/short": {1}, "default/a/b/garbage": {1, 0xff}}
	if err := space.Update(t.Context(), db.OS, func(tx *db.Tx) error {
		for key, record := range records {
			tx.Set([]byte(key), record)
		}
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	var log bytes.Buffer
	opened, err := open(ctx, space, slog.New(slog.NewTextHandler(&log, nil)))
	if err != nil {
		t.Fatal(err)
	}
	m := opened.(*machine)
	defer cancel()
	try := func(key string) error {
		_, err := m.tryLock(ctx, ask{Key: key, Owner: "o", Lease: time.Minute, Durability: db.OS})
		return err
	}
	if err := try("default/a/b/sound"); err != nil {
		t.Errorf("another lock: %v", err)
	}
	sweep := func(after time.Duration) {
		uptime.Add(int64(after))
		if err := m.sweepOnce(ctx); err != nil {
			t.Fatal(err)
		}
	}
	sweep(0)
	sweep(lock.MaxLease - time.Second)
	for key := range records {
		if err := try(key); !errors.Is(err, components.ErrDamaged) || !strings.Contains(err.Error(), key) {
			t.Errorf("%s: %v, want that it is damaged", key, err)
		}
	}
	synctest.Wait() // until those calls have been given up
	sweep(2 * time.Second)
	for key := range records {
		if err := try(key); err != nil {
			t.Errorf("%s, when no lease of it can go on: %v", key, err)
		}
	}
	cancel()
	m.Close()
	for key := range records {
		if n := strings.Count(log.String(), key); n != 2 { // as the lock, and in the error
			t.Errorf("%s is in the log %d times: %s", key, n, &log)
		}
	}
}
