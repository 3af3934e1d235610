package servers

import (
	"context"
	_ "embed"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"time"
)

var (
	zookeeper = Kind{Name: "zookeeper", About: "one ZooKeeper, with ticks of half a second and a port for TLS", install: installZookeeper,
		start: func(ctx context.Context, s *Server) error { return startZookeeper(ctx, s, 1) }}
	zookeeperEnsemble = Kind{Name: "zookeeper-ensemble", About: "three of them, which elect a leader", install: installZookeeper,
		start: func(ctx context.Context, s *Server) error { return startZookeeper(ctx, s, 3) }}
)

//go:embed java/zookeeper.xml
var zookeeperPOM string

func zookeeperJars(ctx context.Context) (string, error) {
	return jars(ctx, "zookeeper", zookeeperPOM, nil)
}

func installZookeeper(ctx context.Context) error { _, err := zookeeperJars(ctx); return err }

func startZookeeper(ctx context.Context, s *Server, members int) error {
	dir, err := zookeeperJars(ctx)
	if err != nil {
		return err
	}
	at, err := freePorts(4 * members)
	if err != nil {
		return err
	}
	if err := s.keystore(); err != nil {
		return err
	}
	ensemble := []string{}
	for i := range members {
		ensemble = append(ensemble, fmt.Sprintf("server.%d=127.0.0.1:%d:%d", i+1, at[2*members+i], at[3*members+i]))
	}
	if members == 1 {
		ensemble = nil
	}
	all := []*Node{}
	for i := range members {
		name := "zookeeper"
		if members > 1 {
			name = fmt.Sprintf("zookeeper-%d", i+1)
		}
		n, err := s.zookeeperNode(name, at[i], at[members+i], ensemble)
		if err != nil {
			return err
		}
		if err := os.WriteFile(filepath.Join(n.Dir, "myid"), []byte(strconv.Itoa(i+1)), 0o600); err != nil {
			return err
		}
		n.args = append(java(n.Dir, "-Dorg.slf4j.simpleLogger.defaultLogLevel=warn"),
			"-cp", filepath.Join(dir, "lib", "*"), "org.apache.zookeeper.server.quorum.QuorumPeerMain", filepath.Join(s.Dir, name+".cfg"))
		all = append(all, n)
	}
	return s.boot(ctx, all...)
}

// zookeeperNode is one with its configuration. A leader that is frozen is left by those who follow it after syncLimit ticks.
func (s *Server) zookeeperNode(name string, port, tls int, ensemble []string) (*Node, error) {
	n, err := s.node(name, port, program{product: "zookeeper", limit: time.Minute})
	if err != nil {
		return nil, err
	}
	n.Ports["tls"] = tls
	n.ask = func(ctx context.Context) (string, int, error) { return askZookeeper(ctx, n.Addr) }
	lines := append([]string{
		"tickTime=500", "initLimit=20", "syncLimit=5", "dataDir=" + n.Dir, fmt.Sprintf("clientPort=%d", port), "clientPortAddress=127.0.0.1",
		fmt.Sprintf("secureClientPort=%d", tls), "secureClientPortAddress=127.0.0.1", "ssl.clientAuth=none",
		"ssl.keyStore.type=PEM", "ssl.keyStore.location=" + filepath.Join(s.Dir, "tls", "keystore.pem"), "serverCnxnFactory=org.apache.zookeeper.server.NettyServerCnxnFactory", "admin.enableServer=false",
		"4lw.commands.whitelist=*",
	}, append(ensemble, s.settings...)...)
	_, err = s.file(name+".cfg", strings.Join(lines, "\n")+"\n")
	return n, err
}

var zookeeperVersion = regexp.MustCompile(`(?m)^Zookeeper version: ([0-9.]+)`)

// askZookeeper sends one of the words of four letters that it answers in plain text before it hangs up.
func askZookeeper(ctx context.Context, addr string) (string, int, error) {
	conn, err := dial(ctx, addr)
	if err != nil {
		return "", 0, err
	}
	defer conn.Close()
	if _, err := io.WriteString(conn, "srvr"); err != nil {
		return "", 0, err
	}
	text, err := io.ReadAll(conn)
	if err != nil {
		return "", 0, err
	}
	m := zookeeperVersion.FindSubmatch(text)
	if m == nil {
		return "", 0, fmt.Errorf("no version in %q", text)
	}
	return string(m[1]), 0, nil
}
