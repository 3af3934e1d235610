package publish_test

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/outrigger-mesh/outrigger/components"
	"github.com/outrigger-mesh/outrigger/runtime/publish"
)

// TestTwoProcessesOneFile: while one sidecar takes over from another, both may be asked to publish.
func TestTwoProcessesOneFile(t *testing.T) {
	file := filepath.Join(t.TempDir(), "p.json")
	const each = 10
	a, b := start(t, file), start(t, file)
	_, port := serve(t, 0)
	var asking sync.WaitGroup
	for i, p := range []*bench{a, b} {
		asking.Go(func() {
			for n := range each {
				if _, err := p.Publish(t.Context(), publish.Publication{Service: service(fmt.Sprintf("s%d-%d", i, n)), Port: port}); err != nil {
					t.Error(err)
				}
			}
		})
	}
	asking.Wait()
	if err := a.Unpublish(t.Context(), service("s1-0")); err != nil { // which the other one was asked for
		t.Fatal(err)
	}
	b.Refresh()
	c := start(t, file)
	for _, p := range []*bench{b, c} {
		for i := range 2 {
			for n := range each {
				name := fmt.Sprintf("s%d-%d", i, n)
				if _, ok := p.Port(name, ""); ok != (name != "s1-0") {
					t.Errorf("%s is there: %v", name, ok)
				}
			}
		}
	}
	c.central.have(t, fmt.Sprintf("s0-%d|", each-1))
}

// TestAnnounced waits for the registry, but not for an application that is not there.
func TestAnnounced(t *testing.T) {
	b := start(t, "")
	gone, closed := serve(t, 0)
	gone.Close()
	_, port := serve(t, 0)
	b.central.set(components.ErrUnavailable)
	b.publish(t, publish.Publication{Service: service("stock"), Port: port})
	b.publish(t, publish.Publication{Service: service("absent"), Port: closed})
	ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
	defer cancel()
	if err := b.Announced(ctx); !errors.Is(err, context.DeadlineExceeded) || !strings.Contains(err.Error(), `"stock"`) {
		t.Fatalf("the registry is away: %v", err)
	}
	b.central.set(nil)
	if err := b.Announced(t.Context()); err != nil {
		t.Fatal(err)
	}
	if b.central.count() == 0 {
		t.Error("it did not wait")
	}
	b.central.lack(t, "absent|")
}
