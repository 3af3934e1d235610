package backends_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/outrigger-mesh/outrigger/integration/harness"
	"github.com/outrigger-mesh/outrigger/integration/servers"
)

func rabbitConfig(s *servers.Server, user, password string) string {
	return fmt.Sprintf(`
pubsub:
  default:
    driver: rabbitmq
    options: {addresses: %s, user: %q, password: %q, heartbeat: 1s, connect_timeout: 1s}
`, addresses(s.Addrs()), user, password)
}

func rabbitSidecars(t *testing.T, s *servers.Server) (one, two *harness.Sidecar) {
	t.Helper()
	config := rabbitConfig(s, s.User, s.Password)
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
