package servers

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"time"
)

var (
	etcdSingle  = Kind{Name: "etcd", About: "one etcd, with a port for TLS", install: installEtcd, start: func(ctx context.Context, s *Server) error { return startEtcd(ctx, s, 1) }}
	etcdCluster = Kind{Name: "etcd-cluster", About: "three etcd members, each with a port for TLS", install: installEtcd, start: func(ctx context.Context, s *Server) error { return startEtcd(ctx, s, 3) }}
)

func etcdBinary(ctx context.Context) (string, error) {
	return goBinary(ctx, "etcd", "go.etcd.io/etcd/server/v3", "")
}

func installEtcd(ctx context.Context) error { _, err := etcdBinary(ctx); return err }

func startEtcd(ctx context.Context, s *Server, members int) error {
	binary, err := etcdBinary(ctx)
	if err != nil {
		return err
	}
	at, err := freePorts(3 * members)
	if err != nil {
		return err
	}
	certs, err := s.certificates()
	if err != nil {
		return err
	}
	name := func(i int) string { return fmt.Sprintf("etcd-%d", i+1) }
	cluster := []string{}
	for i := range members {
		cluster = append(cluster, name(i)+"=http://"+local(at[members+i]))
	}
	all := []*Node{}
	for i := range members {
		clients, peers := "http://"+local(at[i]), "http://"+local(at[members+i])
		n, err := s.node(name(i), at[i], program{product: "etcd", limit: time.Minute})
		if err != nil {
			return err
		}
		n.Ports["peer"], n.Ports["tls"] = at[members+i], at[2*members+i]
		n.args = append([]string{binary, "--name", n.Name, "--data-dir", n.Dir, "--listen-client-urls", clients + ",https://" + local(n.Ports["tls"]), "--advertise-client-urls", clients,
			"--cert-file", certs.cert, "--key-file", certs.key,
			"--listen-peer-urls", peers, "--initial-advertise-peer-urls", peers, "--initial-cluster", strings.Join(cluster, ","),
			"--initial-cluster-token", s.Dir, "--log-level", "warn"}, s.settings...)
		n.ask = func(ctx context.Context) (string, int, error) { return askEtcd(ctx, clients) }
		all = append(all, n)
	}
	return s.boot(ctx, all...)
}

// askEtcd: a member is healthy once there is a leader and what it writes is committed.
func askEtcd(ctx context.Context, url string) (string, int, error) {
	health := struct{ Health, Reason string }{}
	if err := getJSON(ctx, url+"/health", &health); err != nil {
		return "", 0, err
	}
	if health.Health != "true" {
		return "", 0, errors.New("not healthy: " + health.Reason)
	}
	version := struct{ Etcdserver string }{}
	err := getJSON(ctx, url+"/version", &version)
	return version.Etcdserver, 0, err
}

// web keeps no connections: the servers that it asks come and go.
var web = http.Client{Transport: &http.Transport{DisableKeepAlives: true}}

func get(ctx context.Context, url string) ([]byte, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return nil, err
	}
	return do(req)
}

// do answers the body of an answer that is a success.
func do(req *http.Request) ([]byte, error) {
	res, err := web.Do(req)
	if err != nil {
		return nil, err
	}
	defer res.Body.Close()
	body, err := io.ReadAll(res.Body)
	if err == nil && res.StatusCode >= 300 {
		err = fmt.Errorf("%s %s: %s: %s", req.Method, req.URL, res.Status, body)
	}
	return body, err
}

func getJSON(ctx context.Context, url string, out any) error {
	body, err := get(ctx, url)
	if err != nil {
		return err
	}
	if err := json.Unmarshal(body, out); err != nil {
		return fmt.Errorf("%s: %w in %s", url, err, body)
	}
	return nil
}
