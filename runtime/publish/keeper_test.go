package publish_test

import (
	"testing"
	"time"

	"github.com/outrigger-mesh/outrigger/runtime/publish"
)

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
