package servers

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"
)

var nats = Kind{Name: "nats", About: "one NATS with JetStream, with users; the limited one may publish and subscribe app.> and no more", install: installNATS, start: startNATS}

func natsBinary(ctx context.Context) (string, error) {
	return goBinary(ctx, "nats", "github.com/nats-io/nats-server/v2", "")
}

func installNATS(ctx context.Context) error { _, err := natsBinary(ctx); return err }

func startNATS(ctx context.Context, s *Server) error {
	binary, err := natsBinary(ctx)
	if err != nil {
		return err
	}
	at, err := freePorts(2)
	if err != nil {
		return err
	}
	n, err := s.node("nats", at[0], program{product: "nats", limit: 20 * time.Second})
	if err != nil {
		return err
	}
	n.Ports["monitor"] = at[1]
	s.users()
	config, err := s.file("nats.conf", fmt.Sprintf(`
listen: "127.0.0.1:%d"
http: "127.0.0.1:%d"
jetstream { store_dir: %q, sync_interval: always }
authorization { users: [
  { user: %q, password: %q }
  { user: %q, password: %q, permissions: { publish: "app.>", subscribe: ["app.>", "_INBOX.>"] } }
] }
%s
`, at[0], at[1], n.Dir, s.User, s.Password, s.Limited, s.LimitedPassword, strings.Join(s.settings, "\n")))
	if err != nil {
		return err
	}
	n.args = []string{binary, "-c", config}
	n.ask = func(ctx context.Context) (string, int, error) {
		if _, err := get(ctx, "http://"+local(at[1])+"/healthz"); err != nil {
			return "", 0, err
		}
		version, err := natsVersion(ctx, n.Addr)
		return version, 0, err
	}
	return s.boot(ctx, n)
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
