package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/redis/go-redis/v9"
	"google.golang.org/grpc"

	"github.com/outrigger-mesh/outrigger/integration/servers"
	cachev1 "github.com/outrigger-mesh/outrigger/proto/outrigger/cache/v1"
)

const backendsConfig = `cache:
  default: {driver: memory}
  redis: {driver: redis, options: {redis: {addresses: ["%[1]s"]}}}
registry: {default: {driver: file}}
pubsub:
  redis: {driver: redis, options: {redis: {addresses: ["%[1]s"]}}}
  kafka: {driver: kafka, options: {addresses: [%[2]s], partitions: 8, replicas: 3}}
`

// backends compares what goes through the sidecar to real servers with the same by the clients that it uses itself. The servers are
// installed and started for it, so it runs only where peers are asked for.
func backends(o options) ([]row, error) {
	if !o.peers {
		return nil, nil
	}
	ctx := context.Background()
	r, err := servers.Start(ctx, "redis", servers.Options{Output: os.Stdout})
	if err != nil {
		return nil, err
	}
	defer r.Close()
	k, err := servers.Start(ctx, "kafka-cluster", servers.Options{Output: os.Stdout})
	if err != nil {
		return nil, err
	}
	defer k.Close()
	file := filepath.Join(o.dir, "backends.yaml")
	brokers := `"` + strings.Join(k.Addrs(), `", "`) + `"`
	if err := os.WriteFile(file, fmt.Appendf(nil, backendsConfig, r.Addr(), brokers), 0o600); err != nil {
		return nil, err
	}
	admin := redis.NewClient(&redis.Options{Addr: r.Addr()})
	defer admin.Close()
	before, err := info(ctx, admin, "connected_clients")
	if err != nil {
		return nil, err
	}
	s, err := startSidecar(o, "bench-backends", 0, "-config", file)
	if err != nil {
		return nil, err
	}
	defer s.end()
	rows, err := onRedis(ctx, o, s, admin, r.Addr(), before)
	if err != nil {
		return nil, err
	}
	more, err := onBus(o, s, r.Addr(), strings.Join(k.Addrs(), ","))
	return append(rows, more...), err
}

func onRedis(ctx context.Context, o options, s *sidecar, admin *redis.Client, address string, before float64) ([]row, error) {
	rows, err := compare(o, []kind{
		{name: "cache-get", target: s.grpc, call: "get", pids: []int{s.pid()}},
		{name: "redis-get", target: s.grpc, call: "redis-get", pids: []int{s.pid()}, against: "cache-get"},
		{name: "redis-get-direct", target: s.grpc, call: directRedis + address},
	})
	if err != nil {
		return nil, err
	}
	const rate = 5000 // calls a second
	for _, k := range []kind{
		{name: "redis-get-5k", target: s.grpc, call: "redis-get@" + strconv.Itoa(rate), pids: []int{s.pid()}},
		{name: "redis-get-5k-direct", target: s.grpc, call: directRedis + address + "@" + strconv.Itoa(rate)},
	} {
		var all []sample
		for range o.rounds {
			one, err := measure(o, &k, 64)
			if err != nil {
				return nil, err
			}
			all = append(all, one)
		}
		rows = append(rows, summary(k.name, 64, all))
	}
	// By itself, so that what others ask for is not counted.
	reads, commands, err := redisWork(ctx, admin)
	if err != nil {
		return nil, err
	}
	if _, err := measure(o, &kind{target: s.grpc, call: "redis-get"}, 64); err != nil {
		return nil, err
	}
	readsNow, commandsNow, err := redisWork(ctx, admin)
	if err != nil {
		return nil, err
	}
	clients, err := info(ctx, admin, "connected_clients")
	return append(rows,
		row{Name: "redis-clients", Value: clients - before, Unit: "connections of the sidecar after 64 callers, cache and pubsub"},
		row{Name: "redis-commands", Value: (commandsNow - commands) / (readsNow - reads), Unit: "commands for a read of the server's, c=64"},
	), err
}

// redisWork is how often the server has read, and how many commands it has done.
func redisWork(ctx context.Context, c *redis.Client) (reads, commands float64, err error) {
	if reads, err = info(ctx, c, "total_reads_processed"); err != nil {
		return 0, 0, err
	}
	commands, err = info(ctx, c, "total_commands_processed")
	return reads, commands, err
}

// info is a number that a Redis says of itself.
func info(ctx context.Context, c *redis.Client, name string) (float64, error) {
	text, err := c.Info(ctx, "everything").Result()
	if err != nil {
		return 0, err
	}
	for line := range strings.Lines(text) {
		if value, ok := strings.CutPrefix(line, name+":"); ok {
			return strconv.ParseFloat(strings.TrimSpace(value), 64)
		}
	}
	return 0, fmt.Errorf("INFO has no %s", name)
}

// onBus compares publications, acknowledged by all replicas, and what becomes of them, with the clients by themselves.
func onBus(o options, s *sidecar, redisAddr, kafkaAddrs string) ([]row, error) {
	rows, err := compare(o, []kind{
		{name: "kafka-publish", target: s.grpc, call: "publish-kafka", pids: []int{s.pid()}},
		{name: "kafka-publish-direct", target: s.grpc, call: directKafka + kafkaAddrs},
		{name: "redis-publish", target: s.grpc, call: "publish-redis", pids: []int{s.pid()}},
	})
	if err != nil {
		return nil, err
	}
	o.concurrences = []int{1}
	delivered, err := compare(o, []kind{
		{name: "kafka-deliver", target: s.grpc, call: deliverPrefix + "kafka:1", pids: []int{s.pid()}},
		{name: "kafka-deliver-direct", target: s.grpc, call: deliverPrefix + directKafka + kafkaAddrs + ":1"},
		{name: "redis-deliver", target: s.grpc, call: deliverPrefix + "redis:1", pids: []int{s.pid()}},
		{name: "redis-deliver-direct", target: s.grpc, call: deliverPrefix + directRedis + redisAddr + ":1"},
	})
	return append(rows, delivered...), err
}

// backendCaller makes the calls that go to servers; nil if it is none of them.
func backendCaller(conn *grpc.ClientConn, call string, value []byte) (func() error, error) {
	ctx := context.Background()
	name, _, _ := strings.Cut(call, "@")
	if addresses, ok := strings.CutPrefix(name, directKafka); ok {
		return kafkaPublisher(addresses, value)
	}
	if address, ok := strings.CutPrefix(name, directRedis); ok {
		c := redisClient(address)
		return func() error {
			got, err := c.Get(ctx, "direct").Bytes()
			if err == nil && len(got) != payload {
				err = fmt.Errorf("%d bytes", len(got))
			}
			return err
		}, c.Set(ctx, "direct", value, 0).Err()
	}
	if name != "redis-get" {
		return nil, nil
	}
	items := cachev1.NewCacheClient(conn)
	_, err := items.Set(ctx, &cachev1.SetRequest{Component: "redis", Key: "k", Value: value})
	return func() error {
		out, err := items.Get(ctx, &cachev1.GetRequest{Component: "redis", Key: "k"})
		if err == nil && len(out.GetValue()) != payload {
			err = fmt.Errorf("%d bytes", len(out.GetValue()))
		}
		return err
	}, err
}
