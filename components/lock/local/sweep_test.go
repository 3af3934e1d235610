package local

import (
	"context"
	"fmt"
	"log/slog"
	"sync/atomic"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/outrigger-mesh/outrigger/components/internal/store/db"
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

func TestRecordsThatAreNone(t *testing.T) {
	for _, record := range [][]byte{nil, {0}, {2, 0xa0}, {format}, {format, 0xff}} {
		if h, err := decode(record); err == nil {
			t.Errorf("%x was read as %+v", record, h)
		}
	}
}
