package backends_test

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/outrigger-mesh/outrigger/integration/harness"
	"github.com/outrigger-mesh/outrigger/integration/servers"
	client "github.com/outrigger-mesh/outrigger/sdk/go"
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

// rabbitFaults: the node is restarted, killed and frozen.
func rabbitFaults(t *testing.T, s *servers.Server) {
	one, two := rabbitSidecars(t, s)
	node := s.Node("rabbitmq")
	eventFaults(t, "rabbitmq", one, two, restart(t, node), kill(t, node), freeze(node))
}

// rabbitRefuses: whoever may not use the server is told so, and the secret is nowhere.
func rabbitRefuses(t *testing.T, s *servers.Server) {
	const canary = "canary-4711-password"
	for name, c := range map[string]struct{ user, password, want string }{
		"wrong password": {s.User, canary, "username or password"},
		"no permission":  {s.Limited, s.LimitedPassword, "vhost"},
	} {
		harness.Binary(t)
		began := time.Now()
		sidecar := harness.Start(t, harness.Options{App: "app", Config: rabbitConfig(s, c.user, c.password)})
		var err error
		harness.Eventually(t, 5*time.Second, func() error {
			ctx, cancel := context.WithTimeout(t.Context(), time.Second)
			defer cancel()
			if _, err = sidecar.Client().PubSub("").Publish(ctx, "t", client.Event{}); err == nil || !strings.Contains(err.Error(), c.want) {
				return fmt.Errorf("it answers %v", err)
			}
			return nil
		})
		if text := err.Error() + shown(t, sidecar); strings.Contains(text, canary) || strings.Contains(text, s.LimitedPassword) {
			t.Errorf("a secret is in %s", text)
		}
		fmt.Printf("rabbitmq %s: told after %.1f s: %.160s\n", name, time.Since(began).Seconds(), err)
	}
}
