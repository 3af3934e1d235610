package backends_test

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
	"testing"

	"github.com/outrigger-mesh/outrigger/integration/harness"
	"github.com/outrigger-mesh/outrigger/integration/servers"
)

// TestRedisClusterFailover: the primary that has an application's state, or a topic, is killed, and frozen, until the cluster has made a
// replica the primary.
func TestRedisClusterFailover(t *testing.T) {
	t.Parallel()
	s := servers.Run(t, "redis-cluster-replicas")
	t.Run("state", func(t *testing.T) {
		l := newRedisLoad(t, redisClustered(s))
		for _, what := range []func(func() *servers.Node) fault{
			func(n func() *servers.Node) fault { return kill(t, n) }, freeze,
		} {
			l.answered(500)
			var first *servers.Node
			f := what(func() *servers.Node { first = redisPrimaryOf(t, s, "{default/app}"); return first })
			l.report(f.name+" of a cluster's primary", l.outlives(f))
			if redisPrimaryOf(t, s, "{default/app}") == first {
				t.Fatal("it is still the primary")
			}
		}
		l.end()
	})
	t.Run("events", func(t *testing.T) {
		one, two := redisEvents(t, redisClustered(s))
		primary := func() *servers.Node { return redisPrimaryOf(t, s, "{default/load}") }
		eventFaults(t, "redis streams, a cluster's primary", one, two, (*load).outlives, kill(t, primary))
	})
	t.Run("without replicas", func(t *testing.T) {
		replicas := redisReplicasOf(t, s, redisPrimaryOf(t, s, "{default/app}"))
		withoutReplicas(t, "redis cluster", redisClustered(s), replicas)
	})
}

// redisReplicasOf waits until both of a primary's replicas follow it.
func redisReplicasOf(t *testing.T, s *servers.Server, primary *servers.Node) (all []*servers.Node) {
	t.Helper()
	_, port, _ := strings.Cut(primary.Addr, ":")
	harness.Eventually(t, patience, func() error {
		all = nil
		for _, n := range s.Nodes {
			c, err := s.Redis(t.Context(), n)
			if err != nil {
				return err
			}
			text, err := c.Do("INFO", "replication")
			c.Close()
			if err != nil {
				return err
			}
			if strings.Contains(text, "master_port:"+port+"\r\nmaster_link_status:up") {
				all = append(all, n)
			}
		}
		if len(all) != 2 {
			return fmt.Errorf("%s has %d replicas", primary.Name, len(all))
		}
		return nil
	})
	return all
}

// redisPrimaryOf is the node that most of a cluster take for the primary of a key.
func redisPrimaryOf(t *testing.T, s *servers.Server, key string) (primary *servers.Node) {
	t.Helper()
	harness.Eventually(t, patience, func() error {
		said := map[string]int{}
		for _, n := range s.Nodes {
			if addr, err := redisKeyAt(t, s, n, key); err == nil {
				said[addr]++
			}
		}
		for _, n := range s.Nodes {
			if primary = n; said[n.Addr] > len(s.Nodes)/2 {
				return nil
			}
		}
		return fmt.Errorf("they do not agree: %v", said)
	})
	return primary
}

// redisKeyAt is where a node says that a key is.
func redisKeyAt(t *testing.T, s *servers.Server, n *servers.Node, key string) (string, error) {
	c, err := s.Redis(t.Context(), n)
	if err != nil {
		return "", err
	}
	defer c.Close()
	text, err := c.Do("CLUSTER", "KEYSLOT", key)
	if err != nil {
		return "", err
	}
	slot, err := strconv.Atoi(text)
	if err != nil {
		return "", err
	}
	nodes, err := c.Do("CLUSTER", "NODES")
	if err != nil {
		return "", err
	}
	for line := range strings.Lines(nodes) { // ID HOST:PORT@BUS FLAGS PRIMARY PING PONG EPOCH LINK SLOTS...
		f := strings.Fields(line)
		if len(f) < 9 || strings.Contains(f[2], "fail") {
			continue
		}
		for _, slots := range f[8:] {
			var first, last int
			if n, _ := fmt.Sscanf(slots, "%d-%d", &first, &last); n == 2 && first <= slot && slot <= last {
				addr, _, _ := strings.Cut(f[1], "@")
				return addr, nil
			}
		}
	}
	return "", errors.New("nobody has it")
}
