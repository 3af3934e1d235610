package servers

import (
	"context"
	_ "embed"
	"fmt"
	"io"
	"path/filepath"
	"regexp"
	"strings"
	"time"
)

var zookeeper = Kind{Name: "zookeeper", About: "one ZooKeeper, with ticks of half a second", install: installZookeeper, start: startZookeeper}

//go:embed java/zookeeper.xml
var zookeeperPOM string

func zookeeperJars(ctx context.Context) (string, error) {
	return jars(ctx, "zookeeper", zookeeperPOM, nil)
}

func installZookeeper(ctx context.Context) error { _, err := zookeeperJars(ctx); return err }

func startZookeeper(ctx context.Context, s *Server) error {
	dir, err := zookeeperJars(ctx)
	if err != nil {
		return err
	}
	at, err := freePort()
	if err != nil {
		return err
	}
	n, err := s.node("zookeeper", at, program{product: "zookeeper", limit: time.Minute})
	if err != nil {
		return err
	}
	config, err := s.file("zookeeper.cfg", strings.Join(append([]string{
		"tickTime=500", "dataDir=" + n.Dir, fmt.Sprintf("clientPort=%d", at), "clientPortAddress=127.0.0.1", "admin.enableServer=false",
		"4lw.commands.whitelist=*",
	}, s.settings...), "\n")+"\n")
	if err != nil {
		return err
	}
	n.args = append(java(n.Dir, "-Dorg.slf4j.simpleLogger.defaultLogLevel=warn"),
		"-cp", filepath.Join(dir, "lib", "*"), "org.apache.zookeeper.server.quorum.QuorumPeerMain", config)
	n.ask = func(ctx context.Context) (string, int, error) { return askZookeeper(ctx, n.Addr) }
	return s.boot(ctx, n)
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
