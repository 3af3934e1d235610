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

// TestNATS: sidecars come and go, are killed and frozen; then the server is restarted, killed and frozen under load.
func TestNATS(t *testing.T) {
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
	eventFaults(t, "nats", one, two, restart(t, s.Nodes[0]), kill(t, s.Nodes[0]), freeze(s.Nodes[0]))
}

// TestNATSCluster: of three servers the one that leads the topic's stream is killed, and the next one frozen.
func TestNATSCluster(t *testing.T) {
	s := servers.Run(t, "nats-cluster")
	one, two := natsSidecars(t, s, "")
	leading := func(what string, happens func(*servers.Node) fault) fault {
		return fault{what + " of the leader of 3", func() error {
			n, err := s.NATSLeader(t.Context(), "_load")
			if err != nil {
				return err
			}
			return happens(n).make()
		}}
	}
	eventFaults(t, "nats", one, two, leading("kill -9", func(n *servers.Node) fault { return kill(t, n) }), leading("freezing", freeze))
}

// natsRefuses: whoever may not use the server is told so, and the secret is nowhere.
func natsRefuses(t *testing.T, s *servers.Server) {
	const canary = "canary-4711-password"
	for name, c := range map[string]struct{ user, password, more, want string }{
		"wrong password": {s.User, canary, "", "Authorization"},
		"no permission":  {s.Limited, s.LimitedPassword, "", "ermissions"},
		"wrong CA":       {s.User, s.Password, ", tls: {enabled: true}", "certificate"},
	} {
		began := time.Now()
		sidecar := harness.Start(t, harness.Options{App: "app", Config: natsConfig(s, c.user, c.password, c.more)})
		var err error
		harness.Eventually(t, 5*time.Second, func() error {
			ctx, cancel := context.WithTimeout(t.Context(), time.Second)
			defer cancel()
			if _, err = sidecar.Client().PubSub("").Publish(ctx, "t", client.Event{}); err == nil || !strings.Contains(err.Error(), c.want) {
				return fmt.Errorf("it answers %v", err)
			}
			return nil
		})
		for _, text := range []string{err.Error(), sidecar.Output(), get(t, sidecar, "/metrics"), get(t, sidecar, "/info"), get(t, sidecar, "/readyz/outbound")} {
			if strings.Contains(text, canary) || strings.Contains(text, s.LimitedPassword) {
				t.Errorf("a secret is in %.300q", text)
			}
		}
		fmt.Printf("nats %s: told after %.1f s: %.160s\n", name, time.Since(began).Seconds(), err)
	}
}
