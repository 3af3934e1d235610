package servers

import (
	"context"
	_ "embed"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

var nacos = Kind{Name: "nacos", About: "one Nacos, standalone, without its console; with nacos.core.auth.enabled=true it lets in nacos by the password nacos, with nacos.remote.server.rpc.tls.enableTls=true gRPC is by TLS", Wild: true, install: installNacos, start: startNacos}

var (
	//go:embed java/nacos.xml
	nacosPOM string
	//go:embed java/Nacos.java
	nacosMain string
	//go:embed java/nacos.sql
	nacosSchema string
	//go:embed java/nacos.properties
	nacosConfig string
)

func nacosJars(ctx context.Context) (string, error) {
	return jars(ctx, "nacos", nacosPOM, map[string]string{"Nacos.java": nacosMain})
}

func installNacos(ctx context.Context) error { _, err := nacosJars(ctx); return err }

// Its other ports lie at fixed distances from the first.
const nacosGRPC, nacosClusterGRPC, nacosRaft = 1000, 1001, -1000

// nacosTLS is the setting that has its gRPC ports take TLS alone, with a certificate of their own.
const (
	nacosTLSPrefix = "nacos.remote.server.rpc.tls."
	nacosTLS       = nacosTLSPrefix + "enableTls=true"
)

func startNacos(ctx context.Context, s *Server) error {
	dir, err := nacosJars(ctx)
	if err != nil {
		return err
	}
	at, err := freePort(nacosGRPC, nacosClusterGRPC, nacosRaft)
	if err != nil {
		return err
	}
	n, err := s.node("nacos", at, program{product: "nacos", limit: 5 * time.Minute})
	if err != nil {
		return err
	}
	if slices.Contains(s.settings, "nacos.core.auth.enabled=true") {
		s.User, s.Password = "nacos", "nacos"
	}
	if slices.Contains(s.settings, nacosTLS) {
		c, err := s.certificates()
		if err != nil {
			return err
		}
		s.settings = append(s.settings, nacosTLSPrefix+"compatibility=false", nacosTLSPrefix+"certChainFile=file:"+c.cert, nacosTLSPrefix+"certPrivateKey=file:"+c.key)
	}
	n.Ports = map[string]int{"grpc": at + nacosGRPC, "cluster-grpc": at + nacosClusterGRPC, "raft": at + nacosRaft}
	conf := filepath.Join(n.Name, "conf")
	if _, err := s.file(filepath.Join(conf, "application.properties"), fmt.Sprintf("server.port=%d\n%s\n%s\n", at, nacosConfig, strings.Join(s.settings, "\n"))); err != nil {
		return err
	}
	if _, err := s.file(filepath.Join(conf, "derby-schema.sql"), nacosSchema); err != nil {
		return err
	}
	if err := os.Mkdir(filepath.Join(n.Dir, "tmp"), 0o700); err != nil {
		return err
	}
	lib := filepath.Join(dir, "lib")
	n.args = append(java(filepath.Join(n.Dir, "tmp"), "-Dnacos.standalone=true", "-Dnacos.home="+n.Dir,
		"-Dnacos.logs.path="+filepath.Join(n.Dir, "logs"), "-DJM.LOG.PATH="+filepath.Join(n.Dir, "logs"), "-Dderby.stream.error.file="+filepath.Join(n.Dir, "derby.log"),
		"-Dspring.config.additional-location=file:"+filepath.Join(s.Dir, conf)+"/"),
		// Two versions of hessian are asked for: the newer one's classes must be found first, and the older one's must be there.
		"-cp", strings.Join([]string{filepath.Join(dir, "classes"), filepath.Join(lib, "hessian-4.0.63.jar"), filepath.Join(lib, "*")}, ":"), "Nacos")
	n.ask = func(ctx context.Context) (string, int, error) { return askNacos(ctx, "http://"+n.Addr+"/nacos") }
	return s.boot(ctx, n)
}

func askNacos(ctx context.Context, url string) (string, int, error) {
	status := struct{ Status string }{}
	if err := getNacos(ctx, url+"/v1/ns/operator/metrics", &status); err != nil {
		return "", 0, err
	}
	if status.Status != "UP" {
		return "", 0, errors.New("its status is " + status.Status)
	}
	self := struct {
		Data struct {
			ExtendInfo struct{ Version string }
		}
	}{}
	if err := getNacos(ctx, url+"/v2/core/cluster/node/self", &self); err != nil {
		return "", 0, err
	}
	if self.Data.ExtendInfo.Version == "" {
		return "", 0, errors.New("it does not say its version")
	}
	return self.Data.ExtendInfo.Version, 0, nil
}

// getNacos asks as servers ask each other, who need no login: see the identity in its configuration.
func getNacos(ctx context.Context, url string, out any) error {
	in, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return err
	}
	in.Header.Set("it", "it")
	body, err := do(in)
	if err != nil {
		return err
	}
	if err := json.Unmarshal(body, out); err != nil {
		return fmt.Errorf("%s: %w in %s", url, err, body)
	}
	return nil
}
