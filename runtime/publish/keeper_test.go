package publish_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/outrigger-mesh/outrigger/runtime/publish"
)

// One that registers itself leaves a record with the sidecar's address behind when it is killed: ours stands before that, with no weight, until it is back.
func TestOneThatRegistersItselfIsNotCalledWhenItIsGone(t *testing.T) {
	b := start(t, "")
	app, port := serve(t, 0)
	b.publish(t, publish.Publication{Service: service("stock"), Port: port, Itself: true})
	weighs := func(want int) {
		t.Helper()
		eventually(t, func() error {
			if r := b.central.have(t, "stock|"); r.Weight != want {
				return fmt.Errorf("its weight is %d, not %d", r.Weight, want)
			}
			return nil
		})
	}
	weighs(100)
	app.Close()
	weighs(0)
	if b.Answers("stock") {
		t.Error("it is said to answer")
	}
	again, _ := serve(t, port)
	weighs(100)
	again.Close()
	weighs(0)
	if err := b.Unpublish(t.Context(), service("stock")); err != nil {
		t.Fatal(err)
	}
	b.central.lack(t, "stock|")
}

// An application that is gone refuses connections: it is taken out without waiting for two more probes at the usual interval.
func TestTakenOutSoonWhenItsPortRefuses(t *testing.T) {
	const interval = time.Second
	b := startWith(t, "", func(o *publish.Options) { o.Probe = interval })
	took := time.Hour
	for range 3 { // the machine may be busy
		app, port := serve(t, 0)
		b.publish(t, publish.Publication{Service: service("stock"), Port: port})
		b.central.have(t, "stock|")
		app.Close()
		began := time.Now()
		b.central.lack(t, "stock|")
		if took = min(took, time.Since(began)); took < 2*interval {
			return
		}
		if err := b.Unpublish(t.Context(), service("stock")); err != nil {
			t.Fatal(err)
		}
	}
	t.Errorf("the fastest of three times it took %v", took)
}
