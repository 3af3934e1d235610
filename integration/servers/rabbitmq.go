package servers

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/outrigger-mesh/outrigger/integration/install"
)

var (
	rabbitServer = install.Tool{Name: "/usr/lib/rabbitmq/bin/rabbitmq-server", Packages: "rabbitmq-server"}
	epmdServer   = install.Tool{Name: "epmd", Packages: "erlang-base"}
)

var rabbitmq = Kind{Name: "rabbitmq", About: "one RabbitMQ with its management; the limited user may do nothing", install: needs(rabbitServer, epmdServer), start: startRabbit}

// startRabbit starts the port mapper of Erlang first, which the server would start itself otherwise, as a daemon that outlives it.
func startRabbit(ctx context.Context, s *Server) error {
	server, err := rabbitServer.Path()
	if err != nil {
		return err
	}
	epmd, err := epmdServer.Path()
	if err != nil {
		return err
	}
	at, err := freePorts(4)
	if err != nil {
		return err
	}
	s.users()
	mapper, err := s.node("epmd", at[1], program{product: "epmd", role: "epmd", silent: true, limit: 20 * time.Second, args: []string{epmd, "-address", "127.0.0.1", "-port", strconv.Itoa(at[1])}})
	if err != nil {
		return err
	}
	mapper.ask = func(ctx context.Context) (string, int, error) {
		conn, err := dial(ctx, mapper.Addr)
		if err != nil {
			return "", 0, err
		}
		return "", 0, conn.Close()
	}
	n, err := s.node("rabbitmq", at[0], program{product: "rabbitmq", limit: 5 * time.Minute, args: []string{server}})
	if err != nil {
		return err
	}
	n.Ports = map[string]int{"epmd": at[1], "distribution": at[2], "management": at[3]}
	if n.env, err = s.rabbitEnv(n); err != nil {
		return err
	}
	n.ask = func(ctx context.Context) (string, int, error) { return s.askRabbit(ctx, n) }
	if err := s.boot(ctx, mapper); err != nil {
		return err
	}
	if err := s.boot(ctx, n); err != nil {
		return err
	}
	s.Nodes = []*Node{n, mapper}
	return s.rabbitAPI(ctx, http.MethodPut, "/api/users/"+s.Limited, fmt.Sprintf(`{"password": %q, "tags": ""}`, s.LimitedPassword), nil)
}

func (s *Server) rabbitEnv(n *Node) ([]string, error) {
	config, err := s.file("rabbitmq.conf", strings.Join(append([]string{
		"listeners.tcp.1 = " + n.Addr,
		"management.tcp.ip = 127.0.0.1",
		fmt.Sprintf("management.tcp.port = %d", n.Ports["management"]),
		"default_user = " + s.User,
		"default_pass = " + s.Password,
		"log.console = true",
		"log.console.level = warning",
		"log.file = false",
	}, s.settings...), "\n")+"\n")
	if err != nil {
		return nil, err
	}
	plugins, err := s.file("plugins", "[rabbitmq_management].\n")
	if err != nil {
		return nil, err
	}
	return []string{
		"HOME=" + n.Dir, "RABBITMQ_MNESIA_BASE=" + n.Dir + "/data", "RABBITMQ_LOG_BASE=" + n.Dir, "RABBITMQ_CONFIG_FILE=" + config,
		"RABBITMQ_CONF_ENV_FILE=/dev/null", "RABBITMQ_ENABLED_PLUGINS_FILE=" + plugins, "RABBITMQ_NODENAME=outrigger@localhost",
		"RABBITMQ_PID_FILE=" + n.Dir + "/pid", "ERL_EPMD_ADDRESS=127.0.0.1", fmt.Sprintf("ERL_EPMD_PORT=%d", n.Ports["epmd"]),
		fmt.Sprintf("RABBITMQ_DIST_PORT=%d", n.Ports["distribution"]),
		"RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS=-kernel inet_dist_use_interface {127,0,0,1}",
		"RUNNING_UNDER_SYSTEMD=true", // its script becomes the server, and is no process beside it
	}, nil
}

// askRabbit waits for the management, which is up last, and takes the version from where the protocol has it.
func (s *Server) askRabbit(ctx context.Context, n *Node) (string, int, error) {
	if err := s.rabbitAPI(ctx, http.MethodGet, "/api/overview", "", nil); err != nil {
		return "", 0, err
	}
	version, err := amqpVersion(ctx, n.Addr)
	return version, 0, err
}

// rabbitAPI calls the management as the user who may do all.
func (s *Server) rabbitAPI(ctx context.Context, method, path, body string, out func([]byte) error) error {
	n := s.Node("rabbitmq")
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
