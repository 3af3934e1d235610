package servers

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/outrigger-mesh/outrigger/integration/install"
)

var (
	rabbitServer = install.Tool{Name: "/usr/lib/rabbitmq/bin/rabbitmq-server", Packages: "rabbitmq-server"}
	epmdServer   = install.Tool{Name: "epmd", Packages: "erlang-base"}
)

var (
	rabbitmq = Kind{Name: "rabbitmq", About: "one RabbitMQ with its management and a port for TLS; the limited user may do nothing", install: needs(rabbitServer, epmdServer),
		start: func(ctx context.Context, s *Server) error { return startRabbit(ctx, s, 1) }}
	rabbitCluster = Kind{Name: "rabbitmq-cluster", About: "three of them, which keep queues and streams together; of a cut the smaller side pauses", install: needs(rabbitServer, epmdServer),
		start: func(ctx context.Context, s *Server) error { return startRabbit(ctx, s, 3) }}
)

// startRabbit starts the port mapper of Erlang first, which the server would start itself otherwise, as a daemon that outlives it.
func startRabbit(ctx context.Context, s *Server, members int) error {
	server, err := rabbitServer.Path()
	if err != nil {
		return err
	}
	at, err := freePorts(1 + 4*members)
	if err != nil {
		return err
	}
	certs, err := s.certificates()
	if err != nil {
		return err
	}
	s.users()
	mapper, err := s.epmd(at[0])
	if err != nil {
		return err
	}
	all, cluster := []*Node{}, []string{}
	for i := range members {
		name := "rabbitmq"
		if members > 1 {
			name = fmt.Sprintf("rabbitmq-%d", i+1)
			if i == 0 { // one that is frozen, and wakes up alone, joins the others again
				cluster = append(cluster, "cluster_partition_handling = pause_minority")
			}
			cluster = append(cluster, fmt.Sprintf("cluster_formation.classic_config.nodes.%d = %s", i+1, erlangName(name)))
		}
		own := at[1+4*i:]
		n, err := s.node(name, own[0], program{product: "rabbitmq", limit: 5 * time.Minute, args: []string{server}})
		if err != nil {
			return err
		}
		n.Ports = map[string]int{"epmd": at[0], "distribution": own[1], "management": own[2], "tls": own[3]}
		n.ask = func(ctx context.Context) (string, int, error) { return s.askRabbit(ctx, n, members) }
		all = append(all, n)
	}
	cookie := []byte(rand.Text()) // by which they let each other in
	for _, n := range all {
		if err := os.WriteFile(filepath.Join(n.Dir, ".erlang.cookie"), cookie, 0o400); err != nil {
			return err
		}
		if n.env, err = s.rabbitEnv(n, certs, cluster); err != nil {
			return err
		}
	}
	if err := s.boot(ctx, mapper); err != nil {
		return err
	}
	if err := s.boot(ctx, all...); err != nil {
		return err
	}
	s.Nodes = append(all, mapper)
	return s.rabbitAPI(ctx, all[0], http.MethodPut, "/api/users/"+s.Limited, fmt.Sprintf(`{"password": %q, "tags": ""}`, s.LimitedPassword), nil)
}

func (s *Server) epmd(port int) (*Node, error) {
	path, err := epmdServer.Path()
	if err != nil {
		return nil, err
	}
	n, err := s.node("epmd", port, program{product: "epmd", role: "epmd", silent: true, limit: 20 * time.Second, args: []string{path, "-address", "127.0.0.1", "-port", strconv.Itoa(port)}})
	if err != nil {
		return nil, err
	}
	n.ask = func(ctx context.Context) (string, int, error) {
		conn, err := dial(ctx, n.Addr)
		if err != nil {
			return "", 0, err
		}
		return "", 0, conn.Close()
	}
	return n, nil
}

// erlangName is by which nodes of a cluster know each other.
func erlangName(node string) string { return node + "@localhost" }

// rabbitEnv has the members of a cluster miss one that is frozen after a few seconds, where they would wait for a minute.
func (s *Server) rabbitEnv(n *Node, certs certificates, cluster []string) ([]string, error) {
	config, err := s.file(n.Name+".conf", strings.Join(slices.Concat([]string{
		"listeners.tcp.1 = " + n.Addr,
		"listeners.ssl.1 = " + local(n.Ports["tls"]),
		"ssl_options.cacertfile = " + certs.ca,
		"ssl_options.certfile = " + certs.cert,
		"ssl_options.keyfile = " + certs.key,
		"ssl_options.verify = verify_none",
		"management.tcp.ip = 127.0.0.1",
		fmt.Sprintf("management.tcp.port = %d", n.Ports["management"]),
		"default_user = " + s.User,
		"default_pass = " + s.Password,
		"log.console = true",
		"log.console.level = warning",
		"log.file = false",
	}, cluster, s.settings), "\n")+"\n")
	if err != nil {
		return nil, err
	}
	plugins, err := s.file("plugins", "[rabbitmq_management].\n")
	if err != nil {
		return nil, err
	}
	return []string{
		"HOME=" + n.Dir, "RABBITMQ_MNESIA_BASE=" + n.Dir + "/data", "RABBITMQ_LOG_BASE=" + n.Dir, "RABBITMQ_CONFIG_FILE=" + config,
		"RABBITMQ_CONF_ENV_FILE=/dev/null", "RABBITMQ_ENABLED_PLUGINS_FILE=" + plugins, "RABBITMQ_NODENAME=" + erlangName(n.Name),
		"RABBITMQ_PID_FILE=" + n.Dir + "/pid", "ERL_EPMD_ADDRESS=127.0.0.1", fmt.Sprintf("ERL_EPMD_PORT=%d", n.Ports["epmd"]),
		fmt.Sprintf("RABBITMQ_DIST_PORT=%d", n.Ports["distribution"]),
		"RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS=-kernel inet_dist_use_interface {127,0,0,1} -kernel net_ticktime 4",
		"RUNNING_UNDER_SYSTEMD=true", // its script becomes the server, and is no process beside it
	}, nil
}

// askRabbit waits for the management, which is up last, until it knows of all members that run, and takes the version from where the
// protocol has it.
func (s *Server) askRabbit(ctx context.Context, n *Node, members int) (string, int, error) {
	err := s.rabbitAPI(ctx, n, http.MethodGet, "/api/nodes", "", func(b []byte) error {
		if running := bytes.Count(b, []byte(`"running":true`)); running < members {
			return fmt.Errorf("%d of %d run", running, members)
		}
		return nil
	})
	if err != nil {
		return "", 0, err
	}
	version, err := amqpVersion(ctx, n.Addr)
	return version, 0, err
}

// rabbitAPI calls the management as the user who may do all.
func (s *Server) rabbitAPI(ctx context.Context, n *Node, method, path, body string, out func([]byte) error) error {
	req, err := http.NewRequestWithContext(ctx, method, "http://"+local(n.Ports["management"])+path, strings.NewReader(body))
	if err != nil {
		return err
	}
	req.SetBasicAuth(s.User, s.Password)
	answer, err := do(req)
	if err != nil || out == nil {
		return err
	}
	return out(answer)
}

// RabbitLeader is the node that leads the queue or stream whose name begins so, as one of those says that run.
func (s *Server) RabbitLeader(ctx context.Context, name string) (*Node, error) {
	return s.rabbitNode(ctx, "/api/queues?columns=name,node", func(one map[string]string) bool { return strings.HasPrefix(one["name"], name) })
}

// RabbitConnected is a node that has a client's connection.
func (s *Server) RabbitConnected(ctx context.Context) (*Node, error) {
	return s.rabbitNode(ctx, "/api/connections?columns=node", func(map[string]string) bool { return true })
}

// rabbitNode is that of the last thing in a list that is as wanted.
func (s *Server) rabbitNode(ctx context.Context, path string, wanted func(map[string]string) bool) (found *Node, err error) {
	err = until(ctx, 30*time.Second, func(ctx context.Context) error {
		errs := []error{errors.New("nothing of " + path + " is on a node that is known")}
		for _, n := range s.Nodes {
			if n.role != "" {
				continue
			}
			errs = append(errs, s.rabbitAPI(ctx, n, http.MethodGet, path, "", func(b []byte) error {
				var all []map[string]string
				if err := json.Unmarshal(b, &all); err != nil {
					return err
				}
				for _, one := range all {
					if name, _, ok := strings.Cut(one["node"], "@"); ok && wanted(one) {
						found = s.Node(name)
					}
				}
				return nil
			}))
			if found != nil {
				return nil
			}
		}
		return errors.Join(errs...)
	})
	return found, err
}

// amqpVersion says that the client speaks AMQP 0-9-1, and reads the version from the table of properties in the server's first
// frame: the name, S for a long string, its length, the string.
func amqpVersion(ctx context.Context, addr string) (string, error) {
	conn, err := dial(ctx, addr)
	if err != nil {
		return "", err
	}
	defer conn.Close()
	if _, err := io.WriteString(conn, "AMQP\x00\x00\x09\x01"); err != nil {
		return "", err
	}
	head := make([]byte, 7) // type, channel, size
	if _, err := io.ReadFull(conn, head); err != nil {
		return "", err
	}
	frame := make([]byte, min(binary.BigEndian.Uint32(head[3:]), 1<<16))
	if _, err := io.ReadFull(conn, frame); err != nil {
		return "", err
	}
	_, rest, ok := bytes.Cut(frame, []byte("\x07versionS"))
	if !ok || len(rest) < 4 || uint64(len(rest)-4) < uint64(binary.BigEndian.Uint32(rest)) {
		return "", errors.New("its first frame has no version")
	}
	return string(rest[4 : 4+binary.BigEndian.Uint32(rest)]), nil
}
