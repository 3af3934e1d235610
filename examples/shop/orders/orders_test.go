package orders

import (
	"testing"

	"github.com/outrigger-mesh/outrigger/examples/shop/shoppb"
)

func TestPercent(t *testing.T) {
	for text, want := range map[string]int32{"0": 0, "10": 10, "25\n": 25, " 100 ": 100, "": 0, "101": 0, "300": 0, "-1": 0, "ten": 0, "1.5": 0} {
		if got := percent(text); got != want {
			t.Errorf("percent(%q) = %d, want %d", text, got, want)
		}
	}
}

// One that does not read gets what fits, then the end; the others get all.
func TestAWatcherThatFallsBehindIsLetGo(t *testing.T) {
	var w watchers
	slow, quick := w.add(), w.add()
	for n := range int64(behind + 1) {
		w.tell(&shoppb.Order{Number: n})
		if o := <-quick; o.GetNumber() != n {
			t.Fatalf("order %d, want %d", o.GetNumber(), n)
		}
	}
	n := 0
	for range slow {
		n++
	}
	if n != behind {
		t.Errorf("%d orders, want %d and the end", n, behind)
	}
	w.remove(slow) // as its handler does: nothing is left to close
	w.remove(quick)
	w.tell(&shoppb.Order{})
	if len(quick) != 0 {
		t.Error("a watcher that has gone is told")
	}
}
