package orders

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/outrigger-mesh/outrigger/examples/shop/shoppb"
	client "github.com/outrigger-mesh/outrigger/sdk/go"
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

func TestAgain(t *testing.T) {
	full := errors.New("the book is full")
	for _, test := range []struct {
		name  string
		fails []error // one after the other; the last one for ever
		wait  time.Duration
		tries int
		err   error
	}{
		{"at once", []error{nil}, time.Hour, 1, nil},
		{"the store comes back", []error{client.ErrUnavailable, client.ErrUnavailable, nil}, time.Hour, 3, nil},
		{"it comes back full", []error{client.ErrUnavailable, full}, time.Hour, 2, full},
		{"it stays away", []error{client.ErrUnavailable}, time.Hour, int(storePatience/beforeRetry) + 2, client.ErrUnavailable},
		{"the customer leaves", []error{client.ErrUnavailable}, 3*beforeRetry - 1, 3, client.ErrUnavailable},
	} {
		synctest.Test(t, func(t *testing.T) {
			ctx, cancel := context.WithTimeout(t.Context(), test.wait)
			defer cancel()
			tries := 0
			err := again(ctx, func() error {
				tries++
				return test.fails[min(tries, len(test.fails))-1]
			})
			if tries != test.tries || !errors.Is(err, test.err) {
				t.Errorf("%s: %v after %d tries, want %v after %d", test.name, err, tries, test.err, test.tries)
			}
		})
	}
}
