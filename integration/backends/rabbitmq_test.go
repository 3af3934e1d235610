package backends_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/outrigger-mesh/outrigger/integration/harness"
	"github.com/outrigger-mesh/outrigger/integration/servers"
)

func rabbitConfig(at []string, user, password string) string {
	return fmt.Sprintf(`
pubsub:
  default:
    driver: rabbitmq
    options: {addresses: %s, user: %q, password: %q, heartbeat: 1s, connect_timeout: 1s}
`, addresses(at), user, password)
}

func rabbitSidecars(t *testing.T, s *servers.Server) (one, two *harness.Sidecar) {
	t.Helper()
	config := rabbitConfig(s.Addrs(), s.User, s.Password)
	return harness.Start(t, harness.Options{App: "one", Config: config}), harness.Start(t, harness.Options{App: "two", Config: config})
}

// TestRabbit has one server for all: it takes long to start.
func TestRabbit(t *testing.T) {
	t.Parallel()
	s := servers.Run(t, "rabbitmq")
	t.Run("it stays", func(t *testing.T) {
		t.Run("refuses", func(t *testing.T) { t.Parallel(); rabbitRefuses(t, s) })
		t.Run("sidecar killed", func(t *testing.T) {
			t.Parallel()
			one, two := rabbitSidecars(t, s)
			killedSidecar(t, "rabbitmq", time.Second, one, two)
		})
	})
	t.Run("faults", func(t *testing.T) { rabbitFaults(t, s) })
}

// rabbitFaults: the node is stopped, killed and frozen.
func rabbitFaults(t *testing.T, s *servers.Server) {
	one, two := rabbitSidecars(t, s)
	eventFaults(t, "rabbitmq", one, two, (*load).suffers, faults(t, always(s.Node("rabbitmq")))...)
}

// TestRabbitCluster: of three nodes the one that leads the topic is killed, then one that a sidecar is connected to, and the leader by then is frozen: each
// sidecar goes on with another, and the cluster without it.
func TestRabbitCluster(t *testing.T) {
	t.Parallel()
	s := servers.Run(t, "rabbitmq-cluster")
	at := s.Addrs()
	one := harness.Start(t, harness.Options{App: "one", Config: rabbitConfig(at, s.User, s.Password)})
	two := harness.Start(t, harness.Options{App: "two", Config: rabbitConfig([]string{at[1], at[2], at[0]}, s.User, s.Password)})
	of := func(who string, make func(func() *servers.Node) fault, find func() (*servers.Node, error)) fault {
		f := make(func() *servers.Node {
			n, err := find()
			check(t, err)
			return n
		})
		f.name = who + " " + f.name
		return f
	}
	kill := func(node func() *servers.Node) fault { return kill(t, node) }
	leader := func() (*servers.Node, error) { return s.RabbitLeader(t.Context(), "outrigger.default.topic.") }
	connected := func() (*servers.Node, error) { return s.RabbitConnected(t.Context()) }
	repeated := eventFaults(t, "rabbitmq of 3,", one, two, (*load).outlives, of("the leader", kill, leader), of("one with a sidecar", kill, connected), of("the leader", freeze, leader))
	if most := 3 * 1000; repeated > most { // what was under way, and was settled within a moment
		t.Errorf("%d events came more than once", repeated)
	}
}
