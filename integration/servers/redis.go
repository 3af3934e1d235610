package servers

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/outrigger-mesh/outrigger/integration/install"
)

var redisServer = install.Tool{Name: "redis-server", Packages: "redis-server"}

var (
	redisSingle   = Kind{Name: "redis", About: "one Redis that loses nothing it has acknowledged", install: needs(redisServer), start: startRedis}
	redisTLS      = Kind{Name: "redis-tls", About: "one Redis with TLS and users; the limited one may do nothing outside app:*", install: needs(redisServer), start: startRedisTLS}
	redisSentinel = Kind{Name: "redis-sentinel", About: "a Redis primary with two replicas and three sentinels, which know it as primary; users as redis-tls, no TLS",
		install: needs(redisServer), start: startRedisSentinel}
	redisCluster = Kind{Name: "redis-cluster", About: "three Redis primaries with a third of the slots each", install: needs(redisServer),
		start: func(ctx context.Context, s *Server) error { return s.startRedisCluster(ctx, 0) }}
	redisReplicated = Kind{Name: "redis-cluster-replicas", About: "the same with two replicas for each primary, which writes with one of them at least", install: needs(redisServer),
		start: func(ctx context.Context, s *Server) error { return s.startRedisCluster(ctx, 2) }}
)

// SentinelPrimary is the name by which the sentinels of redis-sentinel know the primary.
const SentinelPrimary = "primary"

// A primary sends a new replica what it has at once, without waiting for more of them.
const redisDurable = `
appendonly yes
appendfsync always
repl-diskless-sync-delay 0
`

// redisNode is a Redis of the server's: config is what it has besides its port, its folder and the server's settings, which come last.
func (s *Server) redisNode(name string, port int, config string, tls bool) (*Node, error) {
	file, err := s.file(name+".conf", "")
	if err != nil {
		return nil, err
	}
	n, err := s.node(name, port, program{product: "redis", limit: 20 * time.Second, args: []string{"redis-server", file}})
	if err != nil {
		return nil, err
	}
	at := fmt.Sprintf("port %d\n", port)
	if tls {
		at = fmt.Sprintf("port 0\ntls-port %d\n", port)
	}
	text := at + "bind 127.0.0.1\ndaemonize no\nsave \"\"\ndir " + n.Dir + "\n" + config + strings.Join(s.settings, "\n") + "\n"
	if _, err := s.file(name+".conf", text); err != nil {
		return nil, err
	}
	n.ask = func(ctx context.Context) (string, int, error) { return s.askRedis(ctx, n) }
	return n, nil
}

func (s *Server) askRedis(ctx context.Context, n *Node) (string, int, error) {
	c, err := s.Redis(ctx, n)
	if err != nil {
		return "", 0, err
	}
	defer c.Close()
	if _, err := c.Do("PING"); err != nil { // an error as long as it reads its data
		return "", 0, err
	}
	text, err := c.Do("INFO", "server")
	if err != nil {
		return "", 0, err
	}
	info := fields(text, ":")
	pid, err := strconv.Atoi(info["process_id"])
	return info["redis_version"], pid, err
}

// fields are the lines NAME SEPARATOR VALUE of a text.
func fields(text, separator string) map[string]string {
	all := map[string]string{}
	for line := range strings.Lines(text) {
		if name, value, ok := strings.Cut(line, separator); ok {
			all[strings.TrimSpace(name)] = strings.TrimSpace(value)
		}
	}
	return all
}

func startRedis(ctx context.Context, s *Server) error {
	at, err := freePort()
	if err != nil {
		return err
	}
	n, err := s.redisNode("redis", at, redisDurable, false)
	if err != nil {
		return err
	}
	return s.boot(ctx, n)
}

// redisUsers are the settings for the users of the server: the default one may do nothing.
func (s *Server) redisUsers() string {
	s.users()
	return fmt.Sprintf("user default off\nuser %s on >%s ~* &* +@all\nuser %s on >%s ~app:* resetchannels +ping +hello +client +get +set\n",
		s.User, s.Password, s.Limited, s.LimitedPassword)
}

func startRedisTLS(ctx context.Context, s *Server) error {
	at, err := freePort()
	if err != nil {
		return err
	}
	certs, err := s.certificates()
	if err != nil {
		return err
	}
	tls := fmt.Sprintf("tls-cert-file %s\ntls-key-file %s\ntls-ca-cert-file %s\ntls-auth-clients no\n", certs.cert, certs.key, certs.ca)
	n, err := s.redisNode("redis", at, redisDurable+s.redisUsers()+tls, true)
	if err != nil {
		return err
	}
	return s.boot(ctx, n)
}

func startRedisSentinel(ctx context.Context, s *Server) error {
	at, err := freePorts(6)
	if err != nil {
		return err
	}
	users := s.redisUsers() + fmt.Sprintf("masteruser %s\nmasterauth %s\nmin-replicas-to-write 1\n", s.User, s.Password)
	data, watchers := []*Node{}, []*Node{}
	for i, port := range at[:3] {
		config := redisDurable + users
		if i > 0 {
			config += fmt.Sprintf("replicaof 127.0.0.1 %d\n", at[0])
		}
		n, err := s.redisNode(fmt.Sprintf("redis-%d", i+1), port, config, false)
		if err != nil {
			return err
		}
		data = append(data, n)
	}
	if err := s.boot(ctx, data...); err != nil {
		return err
	}
	for _, n := range data[1:] { // before the sentinels start, which ask for replicas every 10 seconds only
		if err := s.redisSays(ctx, n, "master_link_status:up", "INFO", "replication"); err != nil {
			return err
		}
	}
	for i, port := range at[3:] {
		n, err := s.sentinel(fmt.Sprintf("sentinel-%d", i+1), port, at[0])
		if err != nil {
			return err
		}
		watchers = append(watchers, n)
	}
	if err := s.boot(ctx, watchers...); err != nil {
		return err
	}
	for _, n := range watchers {
		if err := s.redisSays(ctx, n, "status=ok,address="+local(at[0])+",slaves=2,sentinels=3", "INFO", "sentinel"); err != nil {
			return err
		}
	}
	return nil
}

// sentinel is one whose quorum is two; its clients need no password.
func (s *Server) sentinel(name string, port, primary int) (*Node, error) {
	n, err := s.redisNode(name, port, "", false)
	if err != nil {
		return nil, err
	}
	text := fmt.Sprintf("port %d\nbind 127.0.0.1\nprotected-mode no\ndir %s\n", port, n.Dir)
	for _, line := range []string{
		fmt.Sprintf("monitor %s 127.0.0.1 %d 2", SentinelPrimary, primary),
		"auth-user " + SentinelPrimary + " " + s.User,
		"auth-pass " + SentinelPrimary + " " + s.Password,
		"down-after-milliseconds " + SentinelPrimary + " 1000",
		"failover-timeout " + SentinelPrimary + " 3000",
	} {
		text += "sentinel " + line + "\n"
	}
	if _, err := s.file(name+".conf", text); err != nil {
		return nil, err
	}
	n.product, n.role, n.args = "redis-sentinel", "sentinel", append(n.args, "--sentinel")
	return n, nil
}

// redisPrimaries is how many of a cluster's nodes have slots; the replicas of the first come after them, and so on.
const redisPrimaries = 3

func (s *Server) startRedisCluster(ctx context.Context, replicas int) error {
	nodes := redisPrimaries * (1 + replicas)
	at, err := freePorts(2 * nodes)
	if err != nil {
		return err
	}
	all := []*Node{}
	for i := range nodes {
		config := fmt.Sprintf("cluster-enabled yes\ncluster-port %d\ncluster-node-timeout 2000\ncluster-announce-ip 127.0.0.1\nmin-replicas-to-write %d\n", at[nodes+i], min(replicas, 1))
		n, err := s.redisNode(fmt.Sprintf("redis-%d", i+1), at[i], redisDurable+config, false)
		if err != nil {
			return err
		}
		n.Ports["bus"] = at[nodes+i]
		all = append(all, n)
	}
	if err := s.boot(ctx, all...); err != nil {
		return err
	}
	if err := s.giveSlots(ctx, all[:redisPrimaries]); err != nil {
		return err
	}
	for _, n := range all[1:] {
		if err := s.redisSays(ctx, n, "OK", "CLUSTER", "MEET", "127.0.0.1", strconv.Itoa(port(all[0].Addr)), strconv.Itoa(all[0].Ports["bus"])); err != nil {
			return err
		}
	}
	for _, text := range []string{"cluster_state:ok", fmt.Sprintf("cluster_known_nodes:%d\r", nodes)} {
		for _, n := range all {
			if err := s.redisSays(ctx, n, text, "CLUSTER", "INFO"); err != nil {
				return err
			}
		}
	}
	for i, n := range all[redisPrimaries:] {
		if err := s.follow(ctx, n, all[i/replicas]); err != nil {
			return err
		}
	}
	return nil
}

// giveSlots shares the slots out, among nodes that know of no others.
func (s *Server) giveSlots(ctx context.Context, primaries []*Node) error {
	const slots = 16384
	for i, n := range primaries {
		first, last := i*slots/len(primaries), (i+1)*slots/len(primaries)-1
		if err := s.redisSays(ctx, n, "OK", "CLUSTER", "ADDSLOTSRANGE", strconv.Itoa(first), strconv.Itoa(last)); err != nil {
			return err
		}
		if err := s.redisSays(ctx, n, "OK", "CLUSTER", "SET-CONFIG-EPOCH", strconv.Itoa(i+1)); err != nil {
			return err
		}
	}
	return nil
}

// follow makes a node of a cluster a replica, and waits until it has what the primary has.
func (s *Server) follow(ctx context.Context, n, primary *Node) error {
	c, err := s.Redis(ctx, primary)
	if err != nil {
		return err
	}
	defer c.Close()
	id, err := c.Do("CLUSTER", "MYID")
	if err != nil {
		return err
	}
	if err := s.redisSays(ctx, n, "OK", "CLUSTER", "REPLICATE", id); err != nil {
		return err
	}
	return s.redisSays(ctx, n, "master_link_status:up", "INFO", "replication")
}

// redisSays repeats a command until its answer has the text: a sentinel that gives a node its role cuts its connections.
func (s *Server) redisSays(ctx context.Context, n *Node, text string, command ...string) error {
	return until(ctx, 30*time.Second, func(ctx context.Context) error {
		c, err := s.Redis(ctx, n)
		if err != nil {
			return err
		}
		defer c.Close()
		got, err := c.Do(command...)
		if err == nil && !strings.Contains(got, text) {
			err = errors.New(got)
		}
		if err != nil {
			return fmt.Errorf("%s %s: no %q in %w", n.Name, strings.Join(command, " "), text, err)
		}
		return nil
	})
}

// certificate files of a server, in PEM: its certificate is for 127.0.0.1 and localhost.
type certificates struct{ ca, cert, key string }

func (s *Server) certificates() (c certificates, err error) {
	pem, err := newCertificates()
	if err != nil {
		return c, err
	}
	for name, text := range map[string]string{"ca.pem": pem.ca, "server.pem": pem.cert, "server-key.pem": pem.key} {
		if _, err := s.file(filepath.Join("tls", name), text); err != nil {
			return c, err
		}
	}
	dir := filepath.Join(s.Dir, "tls")
	s.CA = filepath.Join(dir, "ca.pem")
	return certificates{ca: s.CA, cert: filepath.Join(dir, "server.pem"), key: filepath.Join(dir, "server-key.pem")}, nil
}
