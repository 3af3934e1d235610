package local

import (
	"bytes"
	"context"
	"log/slog"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
)

// disk is one that is full when the test says so, and never says the same of it twice.
type disk struct {
	*vfs.MemFS
	full  atomic.Bool
	looks atomic.Uint64
}

func (d *disk) GetDiskUsage(string) (vfs.DiskUsage, error) {
	u := vfs.DiskUsage{TotalBytes: 1 << 40, AvailBytes: 1 << 39}
	if d.full.Load() {
		u.AvailBytes = (1 + d.looks.Add(1)%3) << 20 // too little for deletions, too
	}
	return u, nil
}

// TestSweepSaysOnceWhyItCannot for as long as that lasts.
func TestSweepSaysOnceWhyItCannot(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		fs := &disk{MemFS: vfs.NewMem()}
		o := own(t, fs, &clocks{})
		defer o.close()
		var log bytes.Buffer
		o.machine.log = slog.New(slog.NewTextHandler(&log, nil))
		ctx, cancel := context.WithCancel(t.Context())
		o.sweeper.Go(func() { o.sweep(ctx) })
		defer o.machine.Close()
		defer cancel()
		for round := 1; round <= 2; round++ {
			o.put(t, "k", time.Minute)
			o.clocks.pass(time.Hour)
			fs.full.Store(true)
			time.Sleep(20 * sweepEvery)
			synctest.Wait()
			if said := strings.Count(log.String(), "disk of the store is full"); said != round {
				t.Errorf("it was said %d times when it had begun %d times:\n%s", said, round, &log)
			}
			fs.full.Store(false)
			time.Sleep(2 * sweepEvery)
			synctest.Wait()
			if n := o.records(t); n != 0 {
				t.Errorf("%d records are left when there is room", n)
			}
		}
	})
}
