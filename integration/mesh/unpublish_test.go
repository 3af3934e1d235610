package mesh

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/outrigger-mesh/outrigger/integration/harness"
	client "github.com/outrigger-mesh/outrigger/sdk/go"
)

// TestUnpublishedIsLeft: an application that takes its service back, and runs on, gets no more calls and fails none while another serves it. When the last one does, the
// registry that lists nothing is not believed for mesh.hold; what the sidecar there says is.
func TestUnpublishedIsLeft(t *testing.T) {
	t.Log("feature: http grpc bolt dubbo, a service that is taken back is left at once, also the last instance of it")
	for _, w := range wires {
		t.Run(w.protocol, func(t *testing.T) {
			t.Parallel()
			r := &ruled{t: t, w: w, dir: t.TempDir()}
			of := client.Service{Name: askedService, Protocol: w.protocol}
			if w.protocol == "bolt" {
				of.Version = "1.0"
			}
			var registries []*client.Registry
			for i := range 2 {
				r.apps = append(r.apps, w.app(t))
				s := harness.Start(t, harness.Options{App: fmt.Sprint("provider-", i), DataDir: t.TempDir(), Config: r.registry()})
				registries = append(registries, s.Client().Registry())
				if _, err := registries[i].Publish(t.Context(), client.Publication{Service: of, Port: r.apps[i].port}); err != nil {
					t.Fatal(err)
				}
			}
			r.consumer = harness.Start(t, harness.Options{App: "consumer", DataDir: t.TempDir(), Config: r.registry() + "mesh: {hold: 5m}\n"})
			call := r.caller()
			harness.Eventually(t, 30*time.Second, func() error {
				if err := call("fine"); err != nil || instancesOf(r.consumer) != 2 {
					return fmt.Errorf("%d instances, %v", instancesOf(r.consumer), err)
				}
				return nil
			})
			callers := make(chan func(string) error, 8)
			for range cap(callers) {
				callers <- r.caller()
			}
			l := begin(t, func() error {
				c := <-callers
				defer func() { callers <- c }()
				return c("fine")
			})
			underWay := r.hold()
			l.more(50)
			if err := registries[0].Unpublish(t.Context(), of); err != nil {
				t.Fatal(err)
			}
			l.more(50)
			r.knows(1)
			underWay()
			l.end()
			harness.Eventually(t, 10*time.Second, func() error {
				at := r.apps[0].times("fine")
				for range 10 {
					if err := call("fine"); err != nil {
						t.Errorf("while another serves it: %v", err)
					}
				}
				if n := r.apps[0].times("fine") - at; n > 0 {
					return fmt.Errorf("%d of 10 calls arrive where it was taken back", n)
				}
				return nil
			})
			if err := registries[1].Unpublish(t.Context(), of); err != nil {
				t.Fatal(err)
			}
			began := time.Now()
			harness.Eventually(t, 10*time.Second, func() error {
				if err := call("fine"); err == nil || !strings.Contains(err.Error(), "NO_INSTANCE") {
					if err != nil && !strings.Contains(err.Error(), "SERVICE_NOT_HERE") {
						t.Errorf("meanwhile: %v", err)
					}
					return fmt.Errorf("the last was taken back, and a call is answered %v", err)
				}
				return nil
			})
			t.Logf("the last instance is left after %v, where the registry is believed after 5 m", time.Since(began).Round(time.Millisecond))
		})
	}
}
