package servers

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

	client "github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

var (
	nats = Kind{Name: "nats", About: "one NATS with JetStream, with users and TLS for who wants it; the limited one may publish and subscribe app.> and no more", install: installNATS,
		start: func(ctx context.Context, s *Server) error { return startNATS(ctx, s, 1) }}
	natsCluster = Kind{Name: "nats-cluster", About: "three NATS with JetStream, users and TLS as nats", install: installNATS,
		start: func(ctx context.Context, s *Server) error { return startNATS(ctx, s, 3) }}
)

func natsBinary(ctx context.Context) (string, error) {
	return goBinary(ctx, "nats", "github.com/nats-io/nats-server/v2", "")
}

func installNATS(ctx context.Context) error { _, err := natsBinary(ctx); return err }

func startNATS(ctx context.Context, s *Server, servers int) error {
	binary, err := natsBinary(ctx)
	if err != nil {
		return err
	}
	at, err := freePorts(3 * servers)
	if err != nil {
		return err
	}
	certs, err := s.certificates()
	if err != nil {
		return err
	}
	s.users()
	clients, monitors, peers, routes := at[:servers], at[servers:2*servers], at[2*servers:], []string{}
	for _, port := range peers {
		routes = append(routes, "nats://"+local(port))
	}
	all := []*Node{}
	for i := range servers {
		name := "nats"
		cluster := ""
		if servers > 1 {
			name = fmt.Sprintf("nats-%d", i+1)
			cluster = fmt.Sprintf("cluster { name: outrigger, listen: %q, routes: [%s] }", local(peers[i]), strings.Join(routes, ", "))
		}
		n, err := s.node(name, clients[i], program{product: "nats", limit: 20 * time.Second})
		if err != nil {
			return err
		}
		n.Ports["monitor"] = monitors[i]
		config, err := s.file(name+".conf", fmt.Sprintf(`
server_name: %s
listen: %q
http: %q
max_payload: 8MB
jetstream { store_dir: %q, sync_interval: always }
tls { cert_file: %q, key_file: %q }
allow_non_tls: true
authorization { users: [
  { user: %q, password: %q }
  { user: %q, password: %q, permissions: { publish: "app.>", subscribe: ["app.>", "_INBOX.>"] } }
] }
%s
%s
`, name, local(clients[i]), local(monitors[i]), n.Dir, certs.cert, certs.key, s.User, s.Password, s.Limited, s.LimitedPassword, cluster, strings.Join(s.settings, "\n")))
		if err != nil {
			return err
		}
		n.args = []string{binary, "-c", config}
		n.ask = func(ctx context.Context) (string, int, error) {
			if _, err := get(ctx, "http://"+local(monitors[i])+"/healthz"); err != nil {
				return "", 0, err
			}
			version, err := natsVersion(ctx, n.Addr)
			return version, 0, err
		}
		all = append(all, n)
	}
	if err := s.boot(ctx, all...); err != nil {
		return err
	}
	return until(ctx, 20*time.Second, func(ctx context.Context) error { return natsKeeps(ctx, s, servers) })
}

// natsKeeps tells whether streams of so many copies can be made: the servers of a cluster are up before they know each other.
func natsKeeps(ctx context.Context, s *Server, copies int) error {
	c, err := client.Connect("nats://"+s.Addr(), client.UserInfo(s.User, s.Password), client.NoReconnect())
	if err != nil {
		return err
	}
	defer c.Close()
	js, err := jetstream.New(c)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	if _, err := js.CreateOrUpdateStream(ctx, jetstream.StreamConfig{Name: "ready", Subjects: []string{"ready"}, Replicas: copies}); err != nil {
		return err
	}
	return js.DeleteStream(ctx, "ready")
}

// natsVersion is in the line with which the server greets whoever connects: INFO {...}.
func natsVersion(ctx context.Context, addr string) (string, error) {
	conn, err := dial(ctx, addr)
	if err != nil {
		return "", err
	}
	defer conn.Close()
	line, err := bufio.NewReader(conn).ReadString('\n')
	if err != nil {
		return "", err
	}
	text, ok := strings.CutPrefix(line, "INFO ")
	if !ok {
		return "", errors.New("it greets with " + line)
	}
	info := struct{ Version string }{}
	err = json.Unmarshal([]byte(text), &info)
	return info.Version, err
}

// NATSLeader is the node that leads the stream whose name ends so.
func (s *Server) NATSLeader(ctx context.Context, stream string) (*Node, error) {
	for _, n := range s.Nodes {
		var all struct {
			Accounts []struct {
				Streams []struct {
					Name    string
					Cluster struct{ Leader string }
				} `json:"stream_detail"`
			} `json:"account_details"`
		}
		if err := getJSON(ctx, "http://"+local(n.Ports["monitor"])+"/jsz?streams=true", &all); err != nil {
			return nil, err
		}
		for _, a := range all.Accounts {
			for _, one := range a.Streams {
				if one.Cluster.Leader != "" && strings.HasSuffix(one.Name, stream) {
					return s.Node(one.Cluster.Leader), nil
				}
			}
		}
	}
	return nil, fmt.Errorf("%s: no stream whose name ends with %s has a leader", s.Name, stream)
}
