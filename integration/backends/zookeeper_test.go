package backends_test

import (
	"fmt"
	"io"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/outrigger-mesh/outrigger/integration/harness"
	"github.com/outrigger-mesh/outrigger/integration/servers"
	client "github.com/outrigger-mesh/outrigger/sdk/go"
)

// zookeeperSession is how long the records of a sidecar stay that is not heard of.
const zookeeperSession = 4 * time.Second

func zookeeperConfig(s *servers.Server) string {
	return fmt.Sprintf(`mesh: {registry: default, inbound: {advertise: 127.0.0.1}}
registry: {default: {driver: zookeeper, options: {addresses: %s, session: %s}}}
`, addresses(s.Addrs()), zookeeperSession)
}

// TestZookeeperRegistryFaults: a record outlives a restart of ZooKeeper, and comes back when its session has ended, because its sidecar was
// stopped or because ZooKeeper was.
func TestZookeeperRegistryFaults(t *testing.T) {
	t.Parallel()
	s := servers.Run(t, "zookeeper")
	r := newSeen(t, zookeeperConfig(s))
	node := s.Nodes[0]
	check(t, node.Kill())
	check(t, node.Start(t.Context()))
	time.Sleep(zookeeperSession + time.Second)
	r.stays("zookeeper kill -9 and start")

	r.stopped("zookeeper and a sidecar that is stopped")

	for _, f := range faults(t, always(node)) {
		r.suffers("zookeeper", f)
	}
}

// TestZookeeperEnsemble: records outlive the leader, and the others take new ones meanwhile.
func TestZookeeperEnsemble(t *testing.T) {
	t.Parallel()
	s := servers.Run(t, "zookeeper-ensemble")
	r := newSeen(t, zookeeperConfig(s))
	var leader *servers.Node
	now := func() *servers.Node { leader = zookeeperLeader(t, s, nil); return leader }
	for _, f := range []fault{kill(t, now), freeze(now)} {
		began := time.Now()
		check(t, f.lose())
		zookeeperLeader(t, s, leader)
		elected := time.Since(began)
		harness.Eventually(t, patience, func() error {
			_, err := r.shown.Client().Registry().Publish(t.Context(), client.Publication{Service: client.Service{Name: "new"}, Port: r.port})
			return err
		})
		harness.Eventually(t, patience, func() error {
			found, err := r.looks.Client().Registry().Resolve(t.Context(), client.Service{Name: "new"})
			if err == nil && len(found.Instances) == 0 {
				err = fmt.Errorf("nobody is told of it")
			}
			return err
		})
		told := time.Since(began)
		time.Sleep(zookeeperSession + time.Second - time.Since(began))
		check(t, f.bring())
		r.stays(fmt.Sprintf("zookeeper %s of the leader: another was elected after %.1f s, a new record was told of after %.1f s", f.name, elected.Seconds(), told.Seconds()))
		check(t, r.shown.Client().Registry().Unpublish(t.Context(), client.Service{Name: "new"}))
	}
}

// zookeeperLeader waits until one of the servers other than that is the leader.
func zookeeperLeader(t *testing.T, s *servers.Server, but *servers.Node) (leader *servers.Node) {
	t.Helper()
	harness.Eventually(t, patience, func() error {
		for _, n := range s.Nodes {
			if n == but {
				continue
			}
			if text, err := zookeeperSays(n); err == nil && strings.Contains(text, "\nMode: leader") {
				leader = n
				return nil
			}
		}
		return fmt.Errorf("there is no leader")
	})
	return leader
}

// zookeeperSays is what a server says of itself.
func zookeeperSays(n *servers.Node) (string, error) {
	conn, err := net.DialTimeout("tcp", n.Addr, time.Second)
	if err != nil {
		return "", err
	}
	defer conn.Close()
	if err := conn.SetDeadline(time.Now().Add(time.Second)); err != nil {
		return "", err
	}
	if _, err := io.WriteString(conn, "srvr"); err != nil {
		return "", err
	}
	text, err := io.ReadAll(conn)
	return string(text), err
}
