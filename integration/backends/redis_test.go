package backends_test

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/outrigger-mesh/outrigger/integration/harness"
	"github.com/outrigger-mesh/outrigger/integration/servers"
	client "github.com/outrigger-mesh/outrigger/sdk/go"
)

// redisLease is how long a lock is held whose holder could not free it.
const redisLease = 2 * time.Second

// redisConfig is of a sidecar whose components are all on a Redis: options are those of redis, in braces.
func redisConfig(options string) string {
	return components("redis", "{redis: "+options+"}", "cache", "state", "lock", "sequence", "pubsub")
}

func redisSingle(s *servers.Server) string {
	return fmt.Sprintf(`{addresses: %s, timeout: 1s}`, addresses(s.Addrs()))
}

func redisSentinels(s *servers.Server) string {
	return fmt.Sprintf(`{mode: sentinel, master: %s, addresses: %s, user: %s, password: %s, timeout: 1s}`,
		servers.SentinelPrimary, addresses(s.Addrs("sentinel")), s.User, s.Password)
}

func redisClustered(s *servers.Server) string {
	return fmt.Sprintf(`{mode: cluster, addresses: %s, timeout: 1s}`, addresses(s.Addrs()))
}

// redisLoad is on locks, numbers, state and cache of two sidecars of one application.
type redisLoad struct {
	*load
	pair    []*harness.Sidecar
	numbers numbers
	holders holders
	writes  writes
	states  *client.State
	before  int // goroutines
}

func newRedisLoad(t *testing.T, options string) *redisLoad {
	l := &redisLoad{load: newLoad(t), numbers: numbers{given: map[int64]bool{}}, writes: writes{acked: map[string]int{}}}
	for i := range 2 {
		s := harness.Start(t, harness.Options{App: "app", Config: redisConfig(options)})
		l.pair = append(l.pair, s)
		c := s.Client()
		l.worker(func(ctx context.Context) error {
			lease, err := c.Lock("").Lock(ctx, client.LockRequest{Name: "l", Lease: redisLease})
			if err != nil {
				return err
			}
			l.holders.enter(t, lease.Token)
			time.Sleep(time.Millisecond)
			l.holders.leave()
			return c.Lock("").Unlock(ctx, "l", lease.Token)
		})
		l.worker(func(ctx context.Context) error {
			return l.numbers.draw(t, func() (int64, error) {
				row, err := c.Sequence("").Next(ctx, "k", 1)
				return row.First, err
			})
		})
		l.worker(func(ctx context.Context) error {
			_, err := c.Cache("").Increment(ctx, "count", 1, 0)
			return err
		})
		for w := range 8 {
			key, n := fmt.Sprintf("%d-%d", i, w), 0
			l.worker(func(ctx context.Context) error {
				n++
				_, err := c.State("").Set(ctx, key, client.Item{Value: []byte(strconv.Itoa(n))})
				if err == nil {
					l.writes.set(key, n)
				}
				return err
			})
		}
	}
	l.states = l.pair[0].Client().State("")
	l.before = running(t, l.pair...)
	return l
}

// report prints the line of a fault.
func (l *redisLoad) report(what string, said func() string) {
	l.t.Helper()
	lost := l.writes.lost(l.t, func(key string) (string, error) {
		item, err := l.states.Get(l.t.Context(), key)
		return string(item.Value), err
	})
	l.came("redis "+what, said, lost, l.before, l.pair...)
}

// TestRedisManyCallers share few connections, and what they ask goes together.
func TestRedisManyCallers(t *testing.T) {
	s := servers.Run(t, "redis")
	api := harness.Start(t, harness.Options{App: "app", Config: redisConfig(redisSingle(s))}).Client()
	admin, err := s.Redis(t.Context(), s.Nodes[0])
	check(t, err)
	defer admin.Close()
	info := func(name string) float64 {
		text, err := admin.Do("INFO", "everything")
		check(t, err)
		_, rest, _ := strings.Cut(text, "\n"+name+":")
		n, err := strconv.ParseFloat(strings.TrimSpace(rest[:strings.IndexByte(rest, '\n')]), 64)
		check(t, err)
		return n
	}
	_, err = api.Cache("").Set(t.Context(), "k", client.Item{Value: make([]byte, 1024)})
	check(t, err)
	clients, commands, reads := info("connected_clients"), info("total_commands_processed"), info("total_reads_processed")
	var callers sync.WaitGroup
	var gets atomic.Int64
	began := time.Now()
	for range 64 {
		callers.Go(func() {
			for time.Since(began) < 2*time.Second {
				if _, err := api.Cache("").Get(t.Context(), "k"); err != nil {
					t.Error(err)
					return
				}
				gets.Add(1)
			}
		})
	}
	callers.Wait()
	perRead := (info("total_commands_processed") - commands) / (info("total_reads_processed") - reads)
	more := info("connected_clients") - clients
	fmt.Printf("redis, 64 callers: %d gets | %.0f connections more | %.1f commands per read of the server\n", gets.Load(), more, perRead)
	if more > 4 || perRead < 4 {
		t.Errorf("%.0f connections more, %.1f commands per read; want at most 4, and at least 4", more, perRead)
	}
}

// TestRedisFaults: a Redis is stopped, killed and frozen.
func TestRedisFaults(t *testing.T) {
	t.Parallel()
	s := servers.Run(t, "redis")
	l := newRedisLoad(t, redisSingle(s))
	for _, f := range faults(t, always(s.Nodes[0])) {
		l.answered(500)
		l.report(f.name, l.suffers(f))
	}
	l.end()
}

// TestRedisClusterFaults: one of three primaries without replicas is killed, and one is frozen.
func TestRedisClusterFaults(t *testing.T) {
	t.Parallel()
	s := servers.Run(t, "redis-cluster")
	l := newRedisLoad(t, redisClustered(s))
	for _, f := range []fault{kill(t, always(s.Nodes[0])), freeze(always(s.Nodes[1]))} {
		l.answered(500)
		l.report(f.name+" of one of a cluster's 3", l.suffers(f))
	}
	l.end()
}

// TestRedisFailover: the primary is killed, and frozen, until the sentinels have made a replica the primary.
func TestRedisFailover(t *testing.T) {
	t.Parallel()
	s := servers.Run(t, "redis-sentinel")
	l := newRedisLoad(t, redisSentinels(s))
	l.answered(500)
	for _, what := range []func(func() *servers.Node) fault{
		func(n func() *servers.Node) fault { return kill(t, n) }, freeze,
	} {
		var first *servers.Node
		f := what(func() *servers.Node { first = redisPrimary(t, s); return first })
		l.report(f.name+" of the primary", l.outlives(f))
		if redisPrimary(t, s) == first {
			t.Fatal("it is still the primary")
		}
	}
	l.end()
}

// TestRedisWithoutReplicas acknowledges nothing: what only the primary has would be lost with it.
func TestRedisWithoutReplicas(t *testing.T) {
	t.Parallel()
	s := servers.Run(t, "redis-sentinel")
	withoutReplicas(t, "redis", redisSentinels(s), s.Nodes[1:3])
}

// withoutReplicas has the replicas of an application's state frozen.
func withoutReplicas(t *testing.T, name, options string, replicas []*servers.Node) {
	t.Helper()
	api := harness.Start(t, harness.Options{App: "app", Config: redisConfig(options)}).Client()
	set := func() error {
		_, err := api.State("").Set(t.Context(), "k", client.Item{Value: []byte("v")})
		return err
	}
	harness.Eventually(t, patience, set)
	for _, n := range replicas {
		check(t, n.Freeze())
	}
	began := time.Now()
	err := set()
	took := time.Since(began)
	if !errors.Is(err, client.ErrUnavailable) || client.Reason(err) != "BACKEND_OUTCOME_UNKNOWN" {
		t.Errorf("a write that no replica has: %v", err)
	}
	fmt.Printf("%s without replicas: refused after %.1f s\n", name, took.Seconds())
}

// redisPrimary is the node that the sentinels take for the primary.
func redisPrimary(t *testing.T, s *servers.Server) (primary *servers.Node) {
	t.Helper()
	harness.Eventually(t, patience, func() error {
		c, err := s.Redis(t.Context(), s.Node("sentinel-1"))
		if err != nil {
			return err
		}
		defer c.Close()
		at, err := c.Do("SENTINEL", "get-master-addr-by-name", servers.SentinelPrimary)
		for _, n := range s.Nodes {
			if strings.Contains(at, n.Addr[strings.IndexByte(n.Addr, ':')+1:]) {
				primary = n
				return nil
			}
		}
		return fmt.Errorf("there is no primary: %q, %w", at, err)
	})
	return primary
}
