package mesh

import (
	"fmt"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/outrigger-mesh/outrigger/integration/harness"
)

// rpcPair is a stock client and a stock server, each of a language and a dialect of its protocol.
type rpcPair struct {
	protocol               string // of the mesh
	server, serverLanguage string
	client, clientLanguage string
	hasTimeouts            bool
}

var rpcPairs = []rpcPair{
	{protocol: "bolt", server: "bolt", serverLanguage: "node", client: "bolt", clientLanguage: "node", hasTimeouts: true},
	{protocol: "bolt", server: "bolt", serverLanguage: "node", client: "bolt2crc", clientLanguage: "node", hasTimeouts: true},
	{protocol: "dubbo", server: "dubbo", serverLanguage: "node", client: "dubbo", clientLanguage: "node", hasTimeouts: true},
	{protocol: "dubbo", server: "dubbo", serverLanguage: "node", client: "dubbo-js", clientLanguage: "node"},
}

const patience = 5 * time.Second

func TestStockPeersThroughSidecars(t *testing.T) {
	t.Log("feature: bolt dubbo, stock clients and servers")
	dirs := map[string]string{}
	for name, p := range programs {
		dirs[name] = p.Prepare(t)
	}
	for _, c := range rpcPairs {
		t.Run(c.clientLanguage+" "+c.client+" to "+c.serverLanguage+" "+c.server, func(t *testing.T) {
			port := freePort(t)
			server := startPeer(t, c.serverLanguage, dirs[c.serverLanguage], "server", c.server, strconv.Itoa(port))
			s := startSidecars(t, c.protocol, port, "")
			for _, way := range []struct{ name, to string }{
				{"direct", fmt.Sprint("127.0.0.1:", port)}, {"inbound sidecar", s.provider.Inbound}, {"two sidecars", s.consumer.Outbound},
			} {
				t.Run(way.name, func(t *testing.T) {
					c.calls(t, startPeer(t, c.clientLanguage, dirs[c.clientLanguage], "client", c.client, way.to))
				})
			}
			if c.hasTimeouts {
				full := startSidecars(t, c.protocol, port, "mesh: {defaults: {breaker: {service: 1}}}\n")
				client := startPeer(t, c.clientLanguage, dirs[c.clientLanguage], "client", c.client, full.consumer.Outbound)
				if a := client.call(t, "hello", "first", patience); !a.OK {
					t.Fatal(a)
				}
				c.harmless(t, client, "one call too many", "BREAKER_OPEN", func() answer { return client.call(t, "hello", "second", patience) })
			}
			client := startPeer(t, c.clientLanguage, dirs[c.clientLanguage], "client", c.client, s.consumer.Outbound)
			if a := client.call(t, "hello", "before", patience); !a.OK {
				t.Fatal(a)
			}
			server.kill()
			begun := time.Now()
			a := client.call(t, "hello", "after", patience)
			if a.OK || a.cutOff() || !strings.Contains(a.Error, "provider") && !strings.Contains(a.Error, "127.0.0.1:") {
				t.Errorf("of a provider that was killed: %s", a)
			}
			t.Logf("of a provider that was killed, after %v: %s", time.Since(begun), a)
			harness.Eventually(t, 20*time.Second, func() error { // the sidecar unpublishes what is gone
				if a := client.call(t, "hello", "gone", patience); a.OK || !strings.Contains(a.Error, "no instance") {
					return fmt.Errorf("of a provider that is gone: %s", a)
				}
				return nil
			})
			startPeer(t, c.serverLanguage, dirs[c.serverLanguage], "server", c.server, strconv.Itoa(port))
			harness.Eventually(t, 20*time.Second, func() error {
				if a := client.call(t, "hello", "again", patience); !a.OK {
					return fmt.Errorf("of a provider that is back: %s", a)
				}
				return nil
			})
		})
	}
}

func (c rpcPair) calls(t *testing.T, client *process) {
	for i := range 50 {
		arg := strings.Repeat("w", 1+i)
		if a := client.call(t, "hello", arg, patience); !a.OK || !strings.HasSuffix(a.Value, ":"+arg) {
			t.Fatalf("hello: %s", a)
		}
	}
	if a := client.call(t, "big", "200000", patience); len(a.Value) != 200_000 {
		t.Errorf("big: %d bytes, %.100s", len(a.Value), a.Error)
	}
	if a := client.call(t, "fail", "boom", patience); a.OK || !strings.Contains(a.Error, "boom") {
		t.Errorf("fail: %s", a)
	}
	slow := client.begin("slow", "300", patience)
	if a := client.call(t, "hello", "meanwhile", patience); !a.OK {
		t.Errorf("beside a slow call: %s", a)
	}
	if a := <-slow; !a.OK || a.Value != "slow" {
		t.Errorf("slow: %s", a)
	}
	if !c.hasTimeouts {
		return
	}
	c.harmless(t, client, "too slow", "TIMEOUT", func() answer { return client.call(t, "slow", "2000", 400*time.Millisecond) })
}

// harmless has a call fail beside one that is well, and stays so: both are on one connection. What the client throws says why, in its own words if it is
// a timeout, and never that its connection has ended.
func (c rpcPair) harmless(t *testing.T, client *process, what, reason string, fails func() answer) {
	t.Helper()
	well := client.begin("slow", "1200", patience)
	begun := time.Now()
	a := fails()
	took := time.Since(begun)
	if a.OK || a.cutOff() || !strings.Contains(a.Error, reason) && (reason != "TIMEOUT" || !strings.Contains(a.Name, "Timeout")) || took > time.Second {
		t.Errorf("%s, after %v: %s", what, took, a)
	} else {
		t.Logf("%s, after %v: %s", what, took, a)
	}
	if a := <-well; !a.OK || a.Value != "slow" {
		t.Errorf("beside a call that failed, %s: %s", what, a)
	}
}

// cutOff tells whether the client's connection ended under the call.
func (a answer) cutOff() bool {
	return strings.Contains(a.Name, "Socket") || strings.Contains(a.Name, "Decode") || strings.Contains(a.Error, "socket")
}
