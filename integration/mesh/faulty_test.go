package mesh

import (
	"fmt"
	"io"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/outrigger-mesh/outrigger/integration/harness"
)

// TestFaultyApplications: of an application that answers garbage, or closes each connection, callers are told at once and by their own protocol; of
// one that says nothing at the timeout.
func TestFaultyApplications(t *testing.T) {
	t.Log("feature: http grpc bolt dubbo, an application that answers garbage, hangs up or says nothing is told of in the caller's protocol")
	const noProtocol = "SSH-2.0-OpenSSH_9.2p1 Debian-2\r\n\r\n and more that no client of any protocol expects to be answered, which is as long as a head"
	for _, w := range wires {
		t.Run(w.protocol, func(t *testing.T) {
			t.Parallel()
			r := &ruled{t: t, w: w, dir: t.TempDir()}
			for version, port := range map[string]int{
				"garbage":  harness.Listen(t, func(nc net.Conn) { io.WriteString(nc, noProtocol); io.Copy(io.Discard, nc) }),
				"late":     harness.Listen(t, func(nc net.Conn) { nc.Read(make([]byte, 1)); io.WriteString(nc, noProtocol); io.Copy(io.Discard, nc) }),
				"slamming": harness.Listen(t, func(net.Conn) {}),
				"silent":   harness.Listen(t, func(nc net.Conn) { io.Copy(io.Discard, nc) }),
			} {
				r.sidecar(version, port)
				consumer := harness.Start(t, harness.Options{App: "consumer-" + version, Config: r.registry() +
					"mesh: {defaults: {outlier: {failures: 1000}}, routes: [{service: peer.Hello, timeout: 300ms, split: [{labels: {version: " + version + "}, weight: 1}]}]}\n"})
				call := w.client(t, consumer.Outbound)
				harness.Eventually(t, 20*time.Second, func() error {
					if err := call("fine"); err == nil || strings.Contains(err.Error(), "NO_INSTANCE") {
						return fmt.Errorf("%s: %v", version, err)
					}
					return nil
				})
				if version == "silent" {
					onTime(t, 300*time.Millisecond, func() error { return call("fine") })
				} else {
					prompt(t, version, "CONNECTION_LOST or MALFORMED", func() error { return call("fine") })
				}
			}
		})
	}
}
