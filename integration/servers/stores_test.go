package servers

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/outrigger-mesh/outrigger/integration/install"
)

// A store writes and reads by the plainest means that a server has.
type store struct {
	put func(ctx context.Context, key, value string) error
	get func(ctx context.Context, key string) (string, error)
}

// settleTime is what a server, or a client, has to find its way after a fault.
const settleTime = time.Minute

// put repeats what fails: a cluster may be choosing a leader.
func put(t *testing.T, s store, key, value string) {
	t.Helper()
	err := until(t.Context(), settleTime, func(ctx context.Context) error {
		ctx, cancel := context.WithTimeout(ctx, 20*time.Second)
		defer cancel()
		return s.put(ctx, key, value)
	})
	if err != nil {
		t.Fatalf("put: %v", err)
	}
}

func see(t *testing.T, s store, key, want string) {
	t.Helper()
	err := until(t.Context(), settleTime, func(ctx context.Context) error {
		ctx, cancel := context.WithTimeout(ctx, 20*time.Second)
		defer cancel()
		got, err := s.get(ctx, key)
		if err == nil && got != want {
			err = fmt.Errorf("%q is %q, not %q", key, got, want)
		}
		return err
	})
	if err != nil {
		t.Fatalf("get: %v", err)
	}
}

var stores = map[string]func(*testing.T, *Server) store{
	"redis": redisStore, "redis-tls": redisTLSStore, "redis-sentinel": sentinelStore, "redis-cluster": redisStore, "redis-cluster-replicas": redisStore, "etcd": etcdStore, "etcd-cluster": etcdStore,
	"postgres": postgresStore, "mariadb": mariadbStore, "kafka": kafkaStore, "kafka-cluster": kafkaStore, "nacos": nacosStore, "nats": natsStore, "nats-cluster": natsStore, "rabbitmq": rabbitStore, "rabbitmq-cluster": rabbitStore,
	"zookeeper": zookeeperStore, "zookeeper-ensemble": zookeeperStore, "dtm": dtmStore, "dtm-postgres": dtmStore,
}

// redisDo asks each node in turn, until one does not say that another has the key.
func redisDo(ctx context.Context, s *Server, command ...string) (answer string, err error) {
	for _, n := range s.Nodes {
		c, e := s.Redis(ctx, n)
		if e != nil {
			return "", e
		}
		answer, err = c.Do(command...)
		c.Close()
		if err == nil || !strings.HasPrefix(err.Error(), "MOVED") {
			return answer, err
		}
	}
	return answer, err
}

func redisStore(_ *testing.T, s *Server) store {
	return store{
		put: func(ctx context.Context, key, value string) error {
			_, err := redisDo(ctx, s, "SET", key, value)
			return err
		},
		get: func(ctx context.Context, key string) (string, error) { return redisDo(ctx, s, "GET", key) },
	}
}

// redisTLSStore makes sure first that those who should be are turned away.
func redisTLSStore(t *testing.T, s *Server) store {
	n := s.Nodes[0]
	_, err := s.RedisAs(t.Context(), n, s.User, "wrong")
	refused(t, err, "WRONGPASS")
	nobody, err := s.RedisAs(t.Context(), n, "", "")
	if err != nil {
		t.Fatal(err)
	}
	defer nobody.Close()
	_, err = nobody.Do("GET", "app:a")
	refused(t, err, "NOAUTH")
	limited, err := s.RedisAs(t.Context(), n, s.Limited, s.LimitedPassword)
	if err != nil {
		t.Fatal(err)
	}
	defer limited.Close()
	if _, err := limited.Do("SET", "app:a", "b"); err != nil {
		t.Error(err)
	}
	_, err = limited.Do("GET", "other")
	refused(t, err, "NOPERM")
	return redisStore(t, s)
}

func refused(t *testing.T, err error, why string) {
	t.Helper()
	if err == nil || !strings.Contains(err.Error(), why) {
		t.Errorf("not refused by %s: %v", why, err)
	}
}

// sentinelStore asks a sentinel, each time, who the primary is. What is put is with all replicas that run: one that is made the primary meanwhile
// takes nothing more from the old one, and what that had told the other replica alone would be gone.
func sentinelStore(_ *testing.T, s *Server) store {
	do := func(ctx context.Context, command ...string) (string, error) {
		c, err := s.Redis(ctx, s.Node("sentinel-2"))
		if err != nil {
			return "", err
		}
		defer c.Close()
		at, err := c.Do("SENTINEL", "GET-MASTER-ADDR-BY-NAME", SentinelPrimary)
		if err != nil {
			return "", err
		}
		p, err := s.Redis(ctx, &Node{Addr: strings.ReplaceAll(at, " ", ":")})
		if err != nil {
			return "", err
		}
		defer p.Close()
		if role, err := p.Do("ROLE"); err != nil || !strings.HasPrefix(role, "master") {
			return "", errors.Join(err, errors.New("it is "+role))
		}
		answer, err := p.Do(command...)
		if err != nil || command[0] != "SET" {
			return answer, err
		}
		replicas := -1
		for _, n := range s.Nodes {
			if n.role == "" && n.runs() {
				replicas++
			}
		}
		have, err := p.Do("WAIT", fmt.Sprint(replicas), "1000") // milliseconds
		if err == nil && have != fmt.Sprint(replicas) {
			err = fmt.Errorf("of %d replicas have it: %s", replicas, have)
		}
		return answer, err
	}
	return store{
		put: func(ctx context.Context, key, value string) error { _, err := do(ctx, "SET", key, value); return err },
		get: func(ctx context.Context, key string) (string, error) { return do(ctx, "GET", key) },
	}
}

func etcdStore(_ *testing.T, s *Server) store {
	call := func(ctx context.Context, method string, in map[string]string, out any) error {
		for k, v := range in {
			in[k] = base64.StdEncoding.EncodeToString([]byte(v))
		}
		body, err := json.Marshal(in)
		if err != nil {
			return err
		}
		return post(ctx, "http://"+s.Addr()+"/v3/kv/"+method, "application/json", string(body), out)
	}
	return store{
		put: func(ctx context.Context, key, value string) error {
			return call(ctx, "put", map[string]string{"key": key, "value": value}, nil)
		},
		get: func(ctx context.Context, key string) (string, error) {
			out := struct{ Kvs []struct{ Value []byte } }{}
			if err := call(ctx, "range", map[string]string{"key": key}, &out); err != nil || len(out.Kvs) != 1 {
				return "", errors.Join(err, fmt.Errorf("%d keys", len(out.Kvs)))
			}
			return string(out.Kvs[0].Value), nil
		},
	}
}

// post sends a body and reads the answer's JSON into out, unless that is nil.
func post(ctx context.Context, url, kind, body string, out any) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, url, strings.NewReader(body))
	if err != nil {
		return err
	}
	req.Header.Set("Content-Type", kind)
	answer, err := do(req)
	if err != nil || out == nil {
		return err
	}
	return json.Unmarshal(answer, out)
}

func postgresStore(t *testing.T, s *Server) store {
	if _, err := s.Psql(t.Context(), "create table items (key text primary key, value text)"); err != nil {
		t.Fatal(err)
	}
	wrong := &Server{Nodes: s.Nodes, User: s.User, Password: "wrong", CA: s.CA}
	_, err := wrong.Psql(t.Context(), "select 1")
	refused(t, err, "password authentication failed")
	limited := &Server{Nodes: s.Nodes, User: s.Limited, Password: s.LimitedPassword, CA: s.CA}
	_, err = limited.Psql(t.Context(), "select * from items")
	refused(t, err, "permission denied")
	return store{
		put: func(ctx context.Context, key, value string) error {
			_, err := s.Psql(ctx, fmt.Sprintf("insert into items values ('%s', '%s')", key, value))
			return err
		},
		get: func(ctx context.Context, key string) (string, error) {
			return s.Psql(ctx, fmt.Sprintf("select value from items where key = '%s'", key))
		},
	}
}

func mariadbStore(t *testing.T, s *Server) store {
	if _, err := s.MariaDB(t.Context(), "create database items; create table items.items (name varchar(64) primary key, value text)"); err != nil {
		t.Fatal(err)
	}
	for _, who := range []*Server{{Nodes: s.Nodes, User: s.User, Password: "wrong"}, {Nodes: s.Nodes, User: "root"}} {
		_, err := who.MariaDB(t.Context(), "select 1")
		refused(t, err, "Access denied")
	}
	return store{
		put: func(ctx context.Context, key, value string) error {
			_, err := s.MariaDB(ctx, fmt.Sprintf("insert into items.items values ('%s', '%s')", key, value))
			return err
		},
		get: func(ctx context.Context, key string) (string, error) {
			return s.MariaDB(ctx, fmt.Sprintf("select value from items.items where name = '%s'", key))
		},
	}
}

// kafkaStore keeps each key in a topic of its own, by kcat.
func kafkaStore(t *testing.T, s *Server) store {
	if err := (install.Tool{Name: "kcat", Packages: "kcat"}).Need(t.Context()); err != nil {
		t.Fatal(err)
	}
	addrs := strings.Join(s.Addrs(), ",")
	sasl := func(user, password string) []string {
		return []string{"-b", local(s.Nodes[0].Ports["sasl"]), "-X", "security.protocol=sasl_plaintext", "-X", "sasl.mechanism=PLAIN",
			"-X", "sasl.username=" + user, "-X", "sasl.password=" + password}
	}
	put := func(ctx context.Context, where []string, key, value string) error {
		_, err := kcat(ctx, value+"\n", append(where, "-P", "-t", key, "-X", "acks=all", "-X", "message.timeout.ms=8000")...)
		return err
	}
	if err := put(t.Context(), sasl(s.User, s.Password), "sasl", "in"); err != nil {
		t.Error(err)
	}
	refused(t, put(t.Context(), sasl(s.Limited, s.LimitedPassword), "sasl", "in"), "authorization failed")
	refused(t, put(t.Context(), sasl(s.User, "wrong"), "sasl", "in"), "Authentication failed")
	tls := []string{"-b", local(s.Nodes[0].Ports["tls"]), "-X", "security.protocol=ssl", "-X", "ssl.ca.location=" + s.CA}
	if _, err := kcat(t.Context(), "", append(tls, "-L")...); err != nil {
		t.Error(err)
	}
	return store{
		put: func(ctx context.Context, key, value string) error {
			return put(ctx, []string{"-b", addrs}, key, value)
		},
		get: func(ctx context.Context, key string) (string, error) {
			return kcat(ctx, "", "-b", addrs, "-C", "-t", key, "-o", "beginning", "-e", "-q")
		},
	}
}

func kcat(ctx context.Context, in string, args ...string) (string, error) {
	cmd := exec.CommandContext(ctx, "kcat", args...)
	cmd.Stdin = strings.NewReader(in)
	out, err := cmd.Output()
	if exit := (*exec.ExitError)(nil); errors.As(err, &exit) {
		err = fmt.Errorf("kcat: %w: %s", err, exit.Stderr)
	}
	return strings.TrimSpace(string(out)), err
}

func nacosStore(_ *testing.T, s *Server) store {
	at := "http://" + s.Addr() + "/nacos/v1/cs/configs"
	return store{
		put: func(ctx context.Context, key, value string) error {
			form := url.Values{"dataId": {key}, "group": {"g"}, "content": {value}}
			return post(ctx, at, "application/x-www-form-urlencoded", form.Encode(), nil)
		},
		get: func(ctx context.Context, key string) (string, error) {
			text, err := get(ctx, at+"?group=g&dataId="+key)
			return string(text), err
		},
	}
}

// zookeeperStore runs ZooKeeper's own shell. Its last line but for its log is the answer.
func zookeeperStore(_ *testing.T, s *Server) store {
	shell := func(ctx context.Context, words ...string) (string, error) {
		dir, err := zookeeperJars(ctx)
		if err != nil {
			return "", err
		}
		args := append(java(s.Dir, "-Dorg.slf4j.simpleLogger.defaultLogLevel=error"),
			"-cp", filepath.Join(dir, "lib", "*"), "org.apache.zookeeper.ZooKeeperMain", "-server", s.Addr())
		out, err := exec.CommandContext(ctx, args[0], append(args[1:], words...)...).Output()
		if exit := (*exec.ExitError)(nil); errors.As(err, &exit) {
			err = fmt.Errorf("%w: %s", err, exit.Stderr)
		}
		lines := strings.Split(strings.TrimSpace(string(out)), "\n")
		return lines[len(lines)-1], err
	}
	return store{
		put: func(ctx context.Context, key, value string) error {
			_, err := shell(ctx, "create", "/"+key, value)
			return err
		},
		get: func(ctx context.Context, key string) (string, error) { return shell(ctx, "get", "/"+key) },
	}
}
