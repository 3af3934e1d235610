package main

import (
	"bytes"
	"context"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/outrigger-mesh/outrigger/runtime/telemetry/admin"

	"google.golang.org/grpc"
	"google.golang.org/grpc/health"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/metadata"
)

// pages are the admin pages of a sidecar that is draining.
func pages(t *testing.T, network, address string) net.Addr {
	ln, err := net.Listen(network, address)
	if err != nil {
		t.Fatal(err)
	}
	mux := http.NewServeMux()
	mux.HandleFunc("/info", func(w http.ResponseWriter, _ *http.Request) {
		fmt.Fprint(w, `{"app":"orders","tls":"strict","tls_error":"no certificate: it is gone","ports":{"grpc":7170,"outbound":7190},"components":[{"name":"c","capability":"cache","driver":"memory","state":"ready"}],"offers":[
			{"name":"default/orders","port":26193,"announced":false,"error":"the port does not answer"},{"name":"default/bills grpc","port":26194,"announced":true}]}`)
	})
	mux.HandleFunc("/readyz", func(w http.ResponseWriter, _ *http.Request) { http.Error(w, "draining", http.StatusServiceUnavailable) })
	s := &httptest.Server{Listener: ln, Config: &http.Server{Handler: mux}}
	s.Start()
	t.Cleanup(s.Close)
	return ln.Addr()
}

// A sidecar whose API has closed already is asked beside its socket; that of another application is not.
func TestStatusFindsTheOneThatIsMeant(t *testing.T) {
	data := t.TempDir()
	run := filepath.Join(data, "run", "default")
	if err := os.MkdirAll(run, 0o700); err != nil {
		t.Fatal(err)
	}
	pages(t, "unix", filepath.Join(run, "orders.admin.sock"))
	for _, c := range []struct {
		args, want string
		code       int
	}{
		{"-app-id orders", "orders: draining", 1},
		{"-app-id orders", "ready\n", 1}, // no blanks behind the state
		{"-app-id orders", "mutual TLS strict: no certificate: it is gone\n", 1},
		{"-app-id orders", "offers  default/orders      port 26193: not announced: the port does not answer\n", 1},
		{"-app-id orders", "offers  default/bills grpc  port 26194: announced\n", 1},
		{"-app-id stock", "stock.sock", 2},
		{"-socket " + filepath.Join(run, "orders.sock"), "orders: draining", 1},
	} {
		var out bytes.Buffer
		if code := statusCommand(append(strings.Fields(c.args), "-data-dir", data), &out, &out); code != c.code || !strings.Contains(out.String(), c.want) {
			t.Errorf("%s: code %d, want %d; it must say %q:\n%s", c.args, code, c.code, c.want, out.String())
		}
	}
}

// telling is the health service of a sidecar that says where its admin pages are.
type telling struct {
	*health.Server
	admin string
}

func (s telling) Check(ctx context.Context, in *healthpb.HealthCheckRequest) (*healthpb.HealthCheckResponse, error) {
	if err := grpc.SetHeader(ctx, metadata.Pairs("outrigger-admin", s.admin)); err != nil {
		return nil, err
	}
	return s.Server.Check(ctx, in)
}

// A sidecar whose API answers says itself where its pages are.
func TestFindAdminAsksTheAPI(t *testing.T) {
	for _, c := range []struct{ tells, want string }{{"127.0.0.1:7172", ""}, {"", "give -admin-port"}} {
		ln, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		s := grpc.NewServer()
		healthpb.RegisterHealthServer(s, telling{health.NewServer(), c.tells})
		go s.Serve(ln)
		defer s.Stop()
		address, port := ln.Addr().String(), ln.Addr().(*net.TCPAddr).Port
		for _, where := range []place{{addr: address}, {port: &port}} {
			at, err := findAdmin(t.Context(), &where, nil)
			if c.want == "" && (err != nil || at != adminAt{"tcp", c.tells, address}) || c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want)) {
				t.Errorf("%+v: %+v, %v; want %q", where, at, err, c.want)
			}
		}
	}
}

func TestAskTellsWhoAnswers(t *testing.T) {
	address := pages(t, "tcp", "127.0.0.1:0").String()
	other := httptest.NewServer(http.NotFoundHandler())
	defer other.Close()
	for _, c := range []struct {
		at   adminAt
		want string // of the error
	}{
		{adminAt{network: "tcp", address: address}, ""},
		{adminAt{"tcp", address, "127.0.0.1:7170"}, ""},
		{adminAt{"tcp", address, "127.0.0.1:7190"}, ""},
		{adminAt{"tcp", address, "127.0.0.1:7270"}, "give -admin-port"},
		{adminAt{"tcp", "127.0.0.1:1", "127.0.0.1:7170"}, "give -admin-port"},
		{adminAt{network: "tcp", address: other.Listener.Addr().String()}, "is not the admin address of a sidecar (HTTP 404)"},
		{adminAt{network: "tcp", address: "127.0.0.1:1"}, "no sidecar answers on 127.0.0.1:1"},
	} {
		var info admin.Info
		_, err := c.at.ask(t.Context(), &info)
		if c.want == "" && (err != nil || info.App != "orders") || c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want)) {
			t.Errorf("%+v: %+v, %v; want %q", c.at, info, err, c.want)
		}
	}
}

// Only when no sidecar is meant in particular, any may answer.
func TestNamed(t *testing.T) {
	for _, name := range []string{"OUTRIGGER_SOCKET", "OUTRIGGER_GRPC_ADDR", "OUTRIGGER_APP_ID"} {
		t.Setenv(name, "")
	}
	port := 7170
	for _, c := range []struct {
		where place
		want  bool
	}{
		{place{}, false}, {place{dataDir: "/tmp"}, false}, {place{namespace: "shop"}, false},
		{place{app: "a"}, true}, {place{addr: "127.0.0.1:1"}, true}, {place{socket: "s"}, true}, {place{port: &port}, true},
	} {
		if c.where.named() != c.want {
			t.Errorf("%+v: %v", c.where, !c.want)
		}
	}
	t.Setenv("OUTRIGGER_APP_ID", "a")
	if !(&place{}).named() {
		t.Error("OUTRIGGER_APP_ID was not looked at")
	}
}
