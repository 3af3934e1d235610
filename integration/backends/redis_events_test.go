package backends_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/outrigger-mesh/outrigger/integration/harness"
	"github.com/outrigger-mesh/outrigger/integration/servers"
)

// redisSession is after what another sidecar has what one had that is not heard of.
const redisSession = 3 * time.Second

func redisEvents(t *testing.T, options string) (one, two *harness.Sidecar) {
	t.Helper()
	config := fmt.Sprintf("mesh: {registry: \"\"}\npubsub: {default: {driver: redis, options: {session_timeout: %s, redis: %s}}}\n", redisSession, options)
	return harness.Start(t, harness.Options{App: "one", Config: config}), harness.Start(t, harness.Options{App: "two", Config: config})
}

// A Redis with streams is killed and frozen, and fails over: what was acknowledged is delivered, in the order of its key.
func TestRedisEvents(t *testing.T) {
	t.Parallel()
	single := servers.Run(t, "redis")
	node := single.Nodes[0]
	one, two := redisEvents(t, redisSingle(single))
	e := newEvents(t, "load")
	e.subscribe(one)
	e.subscribe(two)
	e.publish(one, 4)
	e.publish(two, 4)
	e.more(500)
	before := running(t, one, two)
	for _, f := range []struct {
		name        string
		lose, bring func() error
	}{{"kill -9", node.Kill, func() error { return node.Start(t.Context()) }}, {"frozen", node.Freeze, node.Thaw}} {
		said := e.during(func() {
			check(t, f.lose())
			time.Sleep(frozen)
			check(t, f.bring())
		})
		e.more(500)
		fmt.Printf("redis streams %s %s: %s\n", f.name, frozen, said())
	}
	acked, repeated := e.finish()
	fmt.Printf("redis streams: acked %d lost 0 | repeated %d | goroutines %+d\n", acked, repeated, settled(t, before, one, two))
}

func TestRedisEventsFailOver(t *testing.T) {
	t.Parallel()
	s := servers.Run(t, "redis-sentinel")
	one, two := redisEvents(t, redisSentinels(s))
	e := newEvents(t, "load")
	e.subscribe(one)
	e.subscribe(two)
	e.publish(one, 4)
	e.more(500)
	said := e.during(func() { check(t, s.Nodes[0].Kill()) })
	check(t, s.Nodes[0].Start(t.Context()))
	e.more(500)
	acked, repeated := e.finish()
	fmt.Printf("redis streams kill -9 of the primary: acked %d lost 0 | repeated %d | %s\n", acked, repeated, said())
}

func TestRedisEventsSidecarIsKilled(t *testing.T) {
	t.Parallel()
	one, two := redisEvents(t, redisSingle(servers.Run(t, "redis")))
	killedSidecar(t, "redis streams", redisSession, one, two)
}

func TestRedisEventsSidecarIsFrozen(t *testing.T) {
	t.Parallel()
	one, two := redisEvents(t, redisSingle(servers.Run(t, "redis")))
	frozenSidecar(t, "redis streams", redisSession, one, two)
}

func TestRedisEventsSidecarsComeAndGo(t *testing.T) {
	t.Parallel()
	one, two := redisEvents(t, redisSingle(servers.Run(t, "redis")))
	comeAndGo(t, "redis streams", one, two)
}
