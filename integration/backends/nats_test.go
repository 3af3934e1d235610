package backends_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/outrigger-mesh/outrigger/integration/harness"
	"github.com/outrigger-mesh/outrigger/integration/servers"
)

// natsSession is after what a sidecar that is not heard of has left its groups.
const natsSession = 2 * time.Second

func natsConfig(s *servers.Server, user, password, more string) string {
	return fmt.Sprintf(`
pubsub:
  default:
    driver: nats
    options: {addresses: %s, user: %q, password: %q, timeout: 1s, session_timeout: %s, heartbeat: 200ms, replicas: %d, synced: true%s}
`, addresses(s.Addrs()), user, password, natsSession, len(s.Nodes), more)
}

func natsSidecars(t *testing.T, s *servers.Server, more string) (one, two *harness.Sidecar) {
	t.Helper()
	config := natsConfig(s, s.User, s.Password, more)
	return harness.Start(t, harness.Options{App: "one", Config: config}), harness.Start(t, harness.Options{App: "two", Config: config})
}

// TestNATS: sidecars come and go, are killed and frozen; then the server is stopped, killed and frozen under load.
func TestNATS(t *testing.T) {
	t.Parallel()
	s := servers.Run(t, "nats")
	harness.Binary(t)
	t.Run("sidecars", func(t *testing.T) {
		for name, test := range map[string]func(t *testing.T, one, two *harness.Sidecar){
			"come-and-go": func(t *testing.T, one, two *harness.Sidecar) { comeAndGo(t, "nats", one, two) },
			"killed":      func(t *testing.T, one, two *harness.Sidecar) { killedSidecar(t, "nats", natsSession, one, two) },
			"frozen":      func(t *testing.T, one, two *harness.Sidecar) { frozenSidecar(t, "nats", natsSession, one, two) },
		} {
			t.Run(name, func(t *testing.T) {
				t.Parallel()
				one, two := natsSidecars(t, s, ", prefix: "+name)
				test(t, one, two)
			})
		}
		t.Run("refused", func(t *testing.T) { t.Parallel(); natsRefuses(t, s) })
	})
	one, two := natsSidecars(t, s, "")
	eventFaults(t, "nats", one, two, (*load).suffers, faults(t, always(s.Nodes[0]))...)
}

// TestNATSCluster: of three servers the one that leads the topic's stream is stopped, the next one killed, and the next frozen.
func TestNATSCluster(t *testing.T) {
	t.Parallel()
	s := servers.Run(t, "nats-cluster")
	one, two := natsSidecars(t, s, "")
	leader := func() *servers.Node {
		n, err := s.NATSLeader(t.Context(), "_load")
		check(t, err)
		return n
	}
	eventFaults(t, "nats, the leader of 3", one, two, (*load).outlives, faults(t, leader)...)
}
