package backends_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/outrigger-mesh/outrigger/integration/servers"
)

// TestZookeeperRegistryFaults: a record outlives a restart of ZooKeeper, and comes back when its session has ended, because its sidecar was
// stopped or because ZooKeeper was.
func TestZookeeperRegistryFaults(t *testing.T) {
	t.Parallel()
	s := servers.Run(t, "zookeeper")
	r := newSeen(t, fmt.Sprintf(`mesh: {registry: default, inbound: {advertise: 127.0.0.1}}
registry: {default: {driver: zookeeper, options: {addresses: %s, session: 4s}}}
`, addresses(s.Addrs())))
	before := running(t, r.shown, r.looks)
	node := s.Nodes[0]
	check(t, node.Kill())
	check(t, node.Start(t.Context()))
	time.Sleep(5 * time.Second) // longer than the session
	r.stays("zookeeper kill -9 and start")

	r.stopped("zookeeper and a sidecar that is stopped")

	check(t, node.Freeze())
	time.Sleep(frozen)
	check(t, node.Thaw())
	r.comesBack(fmt.Sprintf("zookeeper frozen %s", frozen), time.Now())

	check(t, node.Kill())
	time.Sleep(frozen)
	check(t, node.Start(t.Context()))
	r.comesBack(fmt.Sprintf("zookeeper away %s", frozen), time.Now())
	fmt.Printf("zookeeper: goroutines %+d\n", settled(t, before, r.shown, r.looks))
}
