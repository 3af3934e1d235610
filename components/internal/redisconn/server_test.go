//go:build servers

package redisconn_test

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

	"github.com/redis/go-redis/v9"

	"github.com/outrigger-mesh/outrigger/components"
	"github.com/outrigger-mesh/outrigger/components/componenttest"
	"github.com/outrigger-mesh/outrigger/components/internal/backend"
	"github.com/outrigger-mesh/outrigger/components/internal/redisconn"
	"github.com/outrigger-mesh/outrigger/components/internal/redisconn/redistest"
)

// crowd has 64 callers at once ask so many times each.
func crowd(t *testing.T, times int, ask func(i int) error) {
	t.Helper()
	var all sync.WaitGroup
	for caller := range 64 {
		all.Go(func() {
			for i := range times {
				if err := ask(caller*times + i); err != nil {
					t.Error(err)
					return
				}
			}
		})
	}
	all.Wait()
}

func TestManyCallersShareFewConnections(t *testing.T) {
	const times = 500
	looking, c := redistest.Open(t, redistest.Options(t, "redis")), redistest.Open(t, redistest.Options(t, "redis"))
	count := func(name string) int64 {
		n, err := strconv.ParseInt(redistest.Info(t, looking, name), 10, 64)
		if err != nil {
			t.Fatal(err)
		}
		return n
	}
	clients, reads, commands := count("connected_clients"), count("total_reads_processed"), count("total_commands_processed")
	began := time.Now()
	crowd(t, times, func(i int) error {
		key, want := fmt.Sprint("crowd:", i), strconv.Itoa(i)
		if err := c.Do(t.Context(), redisconn.Write, key, redis.NewStatusCmd(t.Context(), "set", key, want, "ex", 60)); err != nil {
			return err
		}
		get := redis.NewStringCmd(t.Context(), "get", key)
		if err := c.Do(t.Context(), redisconn.Read, key, get); err != nil || get.Val() != want {
			return fmt.Errorf("%s is %q: %w", key, get.Val(), err)
		}
		return nil
	})
	took := time.Since(began)
	perRead := float64(count("total_commands_processed")-commands) / float64(count("total_reads_processed")-reads)
	more := count("connected_clients") - clients
	t.Logf("64 callers: %d connections more, %.1f commands per read, %.0f commands/s", more, perRead, 2*64*times/took.Seconds())
	if more > 4 || perRead < 4 {
		t.Errorf("%d connections more, %.1f commands per read; want at most 4, and at least 4", more, perRead)
	}
}

func TestSlowCommandsDoNotStallTheRest(t *testing.T) {
	c := redistest.Open(t, redistest.Options(t, "redis"))
	slow := make(chan error, 1)
	go func() {
		slow <- c.Do(t.Context(), redisconn.Read, "slow", redis.NewSliceCmd(t.Context(), "blpop", "slow:none", 1.5))
	}()
	var during atomic.Int64
	blocked(t, c.Redis()) // those that go along with it have to wait
	for len(slow) == 0 {
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		err := c.Do(ctx, redisconn.Read, "fast", redis.NewStatusCmd(ctx, "ping"))
		cancel()
		if err != nil {
			t.Fatal(err)
		}
		during.Add(1)
	}
	if err := <-slow; !errors.Is(err, redis.Nil) || during.Load() < 100 {
		t.Errorf("%d commands beside a slow one, which answered %v", during.Load(), err)
	}
}

func TestCallersLeaveWhenTheirTimeIsUp(t *testing.T) {
	c := redistest.Open(t, redistest.Options(t, "redis"))
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	began := time.Now()
	err := c.Do(ctx, redisconn.Write, "slow", redis.NewSliceCmd(t.Context(), "blpop", "slow:none", 2))
	if !errors.Is(err, context.DeadlineExceeded) || time.Since(began) > time.Second {
		t.Errorf("%v after %s", err, time.Since(began))
	}
}

func TestEveryModeHasScriptsAndMany(t *testing.T) {
	script := redisconn.NewScript(`redis.call("SET", KEYS[1], ARGV[1], "EX", 60); return redis.call("GET", KEYS[1]) -- ` + time.Now().String()) // no server knows it
	for _, kind := range redistest.All {
		t.Run(kind, func(t *testing.T) {
			c := redistest.Open(t, redistest.Options(t, kind))
			crowd(t, 10, func(i int) error {
				got, err := c.Eval(t.Context(), redisconn.Kept, script, []string{fmt.Sprint("script:", i)}, i)
				if err != nil || got != strconv.Itoa(i) {
					return fmt.Errorf("script %d: %v, %w", i, got, err)
				}
				return nil
			})
			keys, cmds := []string{}, []redis.Cmder{}
			for i := range 100 {
				keys = append(keys, fmt.Sprint("script:", i))
				cmds = append(cmds, redis.NewStringCmd(t.Context(), "get", keys[i]))
			}
			for i, err := range c.Many(t.Context(), redisconn.Read, keys, cmds) {
				if got := cmds[i].(*redis.StringCmd).Val(); err != nil || got != strconv.Itoa(i) {
					t.Errorf("%s: %q, %v", keys[i], got, err)
				}
			}
		})
	}
}

func TestWhoIsRefusedIsTold(t *testing.T) {
	for name, change := range map[string]func(*redisconn.Options){
		"wrong password": func(o *redisconn.Options) { o.Password = "canary-8f2e" },
		"no password":    func(o *redisconn.Options) { o.User, o.Password = "", "" },
		"wrong CA":       func(o *redisconn.Options) { o.TLS.CA = "" },
	} {
		t.Run(name, func(t *testing.T) {
			o := redistest.Options(t, "redis-tls")
			change(&o)
			began := time.Now()
			_, _, err := redisconn.Open(t.Context(), redistest.Env(t), o)
			if err == nil || !errors.Is(err, components.ErrUnavailable) || time.Since(began) > 5*time.Second {
				t.Fatalf("%v after %s", err, time.Since(began))
			}
			if text := err.Error(); strings.Contains(text, "canary") || !strings.Contains(text, o.Addresses[0]) {
				t.Error(text)
			}
			t.Log(err)
		})
	}
	for name, want := range map[string]string{"sentinel": "know no primary", "single": "mode: cluster", "cluster": "cluster support disabled"} {
		o := redistest.Options(t, "redis-sentinel")
		switch name {
		case "sentinel":
			o.Master = "unknown"
		case "single":
			o = redistest.Options(t, "redis-cluster")
			o.Mode, o.Addresses = redisconn.Single, o.Addresses[:1]
		case "cluster":
			o = redistest.Options(t, "redis")
			o.Mode = redisconn.Cluster
		}
		_, err := redisconn.Join(t.Context(), redistest.Env(t), o, "cache")
		if !errors.Is(err, components.ErrUnavailable) || errors.Is(err, redis.Nil) || !strings.Contains(err.Error(), want) || !strings.Contains(err.Error(), o.Addresses[0]) {
			t.Errorf("mode %s: %v", name, err)
		}
	}
	c := redistest.Open(t, redistest.Limited(t, "redis-tls"))
	err := c.Do(t.Context(), redisconn.Write, "other", redis.NewStatusCmd(t.Context(), "set", "other", "x"))
	var d *components.Detail
	if !errors.As(err, &d) || d.Reason != backend.ReasonRefused {
		t.Errorf("without permission: %v", err)
	}
}

// TestAConnectionThatIsTurnedAwayIsAnError of each command, and not taken for their success.
func TestAConnectionThatIsTurnedAwayIsAnError(t *testing.T) {
	o := redistest.Options(t, "redis-tls")
	admin := redistest.Open(t, o).Redis()
	user := func(password string) {
		t.Helper()
		if err := admin.Do(t.Context(), "acl", "setuser", "turned", "reset", "on", ">"+password, "~*", "+@all").Err(); err != nil {
			t.Fatal(err)
		}
	}
	user("before")
	defer admin.Do(context.WithoutCancel(t.Context()), "acl", "deluser", "turned")
	o.User, o.Password = "turned", "before"
	c := redistest.Open(t, o)
	set := func() error {
		return c.Do(t.Context(), redisconn.Write, "turned", redis.NewStatusCmd(t.Context(), "set", "turned", "x", "ex", 60))
	}
	if err := set(); err != nil {
		t.Fatal(err)
	}
	user("after")
	if err := admin.Do(t.Context(), "client", "kill", "user", "turned").Err(); err != nil {
		t.Fatal(err)
	}
	for range 3 {
		var d *components.Detail
		if err := set(); !errors.As(err, &d) || d.Reason != backend.ReasonRefused && d.Reason != backend.ReasonOutcomeUnknown {
			t.Errorf("a write: %v", err)
		}
	}
}

// TestASlotMoves to another server of the cluster, and commands follow it.
func TestASlotMoves(t *testing.T) {
	o := redistest.Options(t, "redis-cluster")
	c := redistest.Open(t, o)
	nodes, ids := map[string]*redis.Client{}, map[string]string{}
	for _, addr := range o.Addresses {
		node := redis.NewClient(&redis.Options{Addr: addr})
		defer node.Close()
		id, err := node.Do(t.Context(), "cluster", "myid").Text()
		if err != nil {
			t.Fatal(err)
		}
		nodes[addr], ids[addr] = node, id
	}
	all, err := nodes[o.Addresses[0]].ClusterSlots(t.Context()).Result()
	if err != nil {
		t.Fatal(err)
	}
	var key, owner string
	var slot int64
	for n := 0; owner == ""; n++ { // a slot with keys, of which other tests have left some, is not given away like that
		key = fmt.Sprint("moves-", n)
		slot = nodes[o.Addresses[0]].ClusterKeySlot(t.Context(), key).Val()
		for _, s := range all {
			if addr := s.Nodes[0].Addr; int64(s.Start) <= slot && slot <= int64(s.End) && nodes[addr].ClusterCountKeysInSlot(t.Context(), int(slot)).Val() == 0 {
				owner = addr
			}
		}
	}
	set := func() {
		t.Helper()
		if err := c.Do(t.Context(), redisconn.Write, key, redis.NewStatusCmd(t.Context(), "set", key, "x")); err != nil {
			t.Error(err)
		}
	}
	set()
	move := func(to string) {
		t.Helper()
		if err := c.Do(t.Context(), redisconn.Write, key, redis.NewIntCmd(t.Context(), "del", key)); err != nil {
			t.Fatal(err)
		}
		for _, addr := range append([]string{to}, o.Addresses...) {
			if err := nodes[addr].Do(t.Context(), "cluster", "setslot", slot, "node", ids[to]).Err(); err != nil {
				t.Fatal(addr, err)
			}
		}
	}
	for _, addr := range o.Addresses {
		if addr != owner {
			move(addr)
			crowd(t, 1, func(int) error {
				return c.Do(t.Context(), redisconn.Read, key, redis.NewIntCmd(t.Context(), "exists", key))
			})
			set()
		}
	}
	move(owner)
	set()
}

// TestReplicasThatComeLater are waited for, too, once the client was checked: without them nothing was to be lost by a fail-over.
func TestReplicasThatComeLater(t *testing.T) {
	const primaries = 3
	o := redistest.Options(t, "redis-cluster-replicas")
	buses := strings.Split(redistest.Variable(t, "redis-cluster-replicas", "AT_BUS"), ",")
	nodes := make([]*redis.Client, len(o.Addresses))
	for i, addr := range o.Addresses {
		nodes[i] = redis.NewClient(&redis.Options{Addr: addr})
		defer nodes[i].Close()
	}
	do := func(node *redis.Client, args ...any) func() error {
		return func() error { return node.Do(t.Context(), args...).Err() }
	}
	says := func(node *redis.Client, text, section string) func() error {
		return func() error {
			got, err := node.Info(t.Context(), section).Result()
			if err == nil && !strings.Contains(got, text) {
				err = fmt.Errorf("no %q in %s", text, got)
			}
			return err
		}
	}
	eventually := func(ask func() error) { t.Helper(); componenttest.Eventually(t, 20*time.Second, ask) }
	for _, replica := range nodes[primaries:] { // forgets what it has, and all others
		eventually(do(replica, "cluster", "reset", "soft"))
	}
	for _, primary := range nodes[:primaries] {
		eventually(says(primary, "connected_slaves:0", "replication"))
	}
	c := redistest.Open(t, o)
	set := func() error {
		return c.Do(t.Context(), redisconn.Kept, "later", redis.NewStatusCmd(t.Context(), "set", "later", "x", "ex", 60))
	}
	waits := func() (n int) {
		for _, primary := range nodes[:primaries] {
			if says(primary, "cmdstat_wait:", "commandstats")() == nil {
				n++
			}
		}
		return n
	}
	if err := set(); !errors.Is(err, components.ErrUnavailable) || waits() > 0 { // since min-replicas-to-write is 1
		t.Errorf("without replicas: %v, %d primaries have waited for one", err, waits())
	}
	for i, replica := range nodes[primaries:] {
		host, port, _ := strings.Cut(o.Addresses[primaries+i], ":")
		_, bus, _ := strings.Cut(buses[primaries+i], ":")
		eventually(do(nodes[0], "cluster", "meet", host, port, bus))
		primary := nodes[i/2]
		id, err := primary.Do(t.Context(), "cluster", "myid").Text()
		if err != nil {
			t.Fatal(err)
		}
		eventually(do(replica, "cluster", "replicate", id))
		eventually(says(replica, "master_link_status:up", "replication"))
	}
	if err := c.Check(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := set(); err != nil || waits() != 1 {
		t.Errorf("with replicas: %v, %d primaries have waited for one", err, waits())
	}
}

// blocked waits until the server has a command that waits there, such as BLPOP.
func blocked(t *testing.T, c redis.UniversalClient) {
	t.Helper()
	componenttest.Eventually(t, 10*time.Second, func() error {
		text, err := c.Info(t.Context(), "clients").Result()
		if err == nil && strings.Contains(text, "blocked_clients:0\r") {
			err = errors.New("no command waits")
		}
		return err
	})
}
