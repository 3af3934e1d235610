package publish_test

import (
	"fmt"
	"sync/atomic"
	"testing"

	"github.com/outrigger-mesh/outrigger/runtime/publish"
)

// TestIdentityThatChanges is announced: a certificate comes after the service, and another one with another name takes its place. Who reads
// the record before would call without TLS, or refuse the certificate.
func TestIdentityThatChanges(t *testing.T) {
	var id atomic.Value
	id.Store("")
	b := startWith(t, "", func(o *publish.Options) { o.Identity = func() string { return id.Load().(string) } })
	_, port := serve(t, 0)
	b.publish(t, publish.Publication{Service: service("stock"), Port: port})
	b.central.have(t, "stock|")
	for _, now := range []string{"spiffe://shop/ns/default/app/orders", "spiffe://shop/ns/default/app/stock"} {
		id.Store(now)
		eventually(t, func() error {
			if got := b.central.have(t, "stock|").Metadata["outrigger.identity"]; got != now {
				return fmt.Errorf("announced with identity %q, want %q", got, now)
			}
			return nil
		})
	}
}
