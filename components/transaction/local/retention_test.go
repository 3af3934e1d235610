package local

import (
	"errors"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/outrigger-mesh/outrigger/components"
	"github.com/outrigger-mesh/outrigger/components/internal/store/db"
	"github.com/outrigger-mesh/outrigger/components/transaction"
)

// TestEndedAreForgotten when they have been kept for as long as they were to be, and no sooner, though the wall clock is set; what has not ended stays.
func TestEndedAreForgotten(t *testing.T) {
	if defaults, _ := transaction.Drivers.Defaults("local"); defaults.(Options).Retention != 7*24*time.Hour {
		t.Errorf("unless set they are kept for %s, want 7 days", defaults.(Options).Retention)
	}
	synctest.Test(t, func(t *testing.T) {
		began, year := time.Now(), 365*24*time.Hour
		var wall atomic.Int64 // how far the wall clock is off
		clock := db.Clock{Boot: "one", Uptime: func() time.Duration { return time.Since(began) }, Wall: func() time.Time { return time.Now().Add(time.Duration(wall.Load())) }}
		ctx, m := opened(t, clock)
		c := chain().content
		c.Retention = time.Hour
		begin := func(gid string) {
			t.Helper()
			if _, err := m.begin(ctx, beginIn{Key: "default/a/b/" + gid, Content: c, Durability: db.OS}); err != nil {
				t.Fatal(err)
			}
		}
		is := func(gid string, want error) {
			t.Helper()
			if _, err := m.get(ctx, getIn{Key: "default/a/b/" + gid}); !errors.Is(err, want) {
				t.Errorf("%s: %v, want %v", gid, err, want)
			}
		}
		begin("ended")
		begin("open")
		if _, err := m.decide(ctx, decideIn{Key: "default/a/b/ended", Decision: transaction.GiveUp, Durability: db.OS}); err != nil {
			t.Fatal(err)
		}
		wall.Store(int64(year))
		time.Sleep(time.Hour - time.Second)
		is("ended", nil)
		wall.Store(-int64(year))
		time.Sleep(2*sweepEvery + time.Second)
		is("ended", components.ErrNotFound)
		is("open", nil)
		c.Branches = c.Branches[:1] // its gid is free
		begin("ended")
	})
}
