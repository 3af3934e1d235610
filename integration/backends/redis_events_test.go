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

// A Redis with streams is stopped, killed and frozen.
func TestRedisEvents(t *testing.T) {
	t.Parallel()
	single := servers.Run(t, "redis")
	one, two := redisEvents(t, redisSingle(single))
	eventFaults(t, "redis streams", one, two, (*load).suffers, faults(t, always(single.Nodes[0]))...)
}

func TestRedisEventsFailOver(t *testing.T) {
	t.Parallel()
	s := servers.Run(t, "redis-sentinel")
	one, two := redisEvents(t, redisSentinels(s))
	primary := func() *servers.Node { return redisPrimary(t, s) }
	eventFaults(t, "redis streams, the primary", one, two, (*load).outlives, kill(t, primary))
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
