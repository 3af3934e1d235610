package local

import (
	"testing"
	"time"

	"github.com/outrigger-mesh/outrigger/components/schedule"
)

// TestAFullDiskRepeatsNothing: what was handled, and cannot be written down, is written down later, and not handled again until then.
func TestAFullDiskRepeatsNothing(t *testing.T) {
	inWorld(t, func(w *world) {
		w.create("every", everyX, schedule.Once)
		w.create("at", schedule.Trigger{At: w.begin.Add(5 * mins)}, schedule.Once)
		w.takes.Store(int64(time.Second))
		w.until(5*mins + sec/2)
		w.fs.full.Store(true)
		w.until(35 * mins)
		w.want("at 5m0s")
		w.fs.full.Store(false)
		w.until(36 * mins)
		if got := w.handled(); len(got) != 1 || got[0][:5] != "every" {
			t.Errorf("handled %q, want every once, which it was tried for each second", got)
		}
		if s, err := w.m.get(w.Context(), getIn{"c/shop/orders/at"}); err != nil || s.Fired != 1 || s.Last.IsZero() {
			t.Errorf("%+v, %v", s, err)
		}
	})
}
