package runtime_test

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	configv1 "github.com/outrigger-mesh/outrigger/proto/outrigger/config/v1"
	registryv1 "github.com/outrigger-mesh/outrigger/proto/outrigger/registry/v1"
	"github.com/outrigger-mesh/outrigger/runtime"
)

func TestDataDir(t *testing.T) {
	top := t.TempDir()
	t.Setenv("OUTRIGGER_DATA_DIR", filepath.Join(top, "env"))
	for configured, want := range map[string]string{filepath.Join(top, "a", "b"): filepath.Join(top, "a", "b"), "": filepath.Join(top, "env")} {
		dir, err := runtime.DataDir(configured)
		if err != nil || dir != want {
			t.Errorf("%q is %q, %v", configured, dir, err)
		}
		if info, err := os.Stat(want); err != nil || info.Mode().Perm() != 0o700 {
			t.Errorf("%s: %v, %v", want, info, err)
		}
	}
	file := filepath.Join(top, "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := runtime.DataDir(filepath.Join(file, "x")); err == nil || !strings.Contains(err.Error(), "-data-dir") {
		t.Errorf("a folder that cannot be: %v", err)
	}
}

// What could never be announced, or never be called, is not taken for published.
func TestPublicationsThatAreRefused(t *testing.T) {
	for _, c := range []struct {
		config, protocol string
		code             codes.Code
		why              string
	}{
		{"cache: {default: {driver: memory}}\n", "", codes.NotFound, "COMPONENT_NOT_FOUND"},
		{"registry: {default: {driver: file}}\nmesh: {registry: default}\n", "bolt", codes.OK, ""},
		{"registry: {default: {driver: file}}\nmesh: {registry: default}\n", "dubbo", codes.OK, ""},
		{"registry: {default: {driver: file}}\nmesh: {registry: default}\n", "http", codes.OK, ""},
	} {
		s := start(t, c.config+"drain: {propagation: 10ms}\n")
		conn := dial(t, s.grpc)
		_, err := registryv1.NewRegistryClient(conn).Publish(within(t, 10*time.Second), &registryv1.PublishRequest{Port: 1,
			Service: &registryv1.Service{Name: "prices", Protocol: c.protocol}})
		if said := fmt.Sprint(err, status.Convert(err).Details()); status.Code(err) != c.code || !strings.Contains(said, c.why) {
			t.Errorf("protocol %q: %s, want %s with %q", c.protocol, said, c.code, c.why)
		}
		conn.Close()
	}
}

// TestRegistryAPI publishes through the API and sees what callers would.
func TestRegistryAPI(t *testing.T) {
	app := startApplication(t)
	s := start(t, "registry: {default: {driver: file}}\nmesh: {registry: default}\ndrain: {propagation: 10ms}\n")
	conn := dial(t, s.grpc)
	c := registryv1.NewRegistryClient(conn)
	publish := func(namespace string, port int) (*registryv1.PublishResponse, error) {
		return c.Publish(within(t, 10*time.Second), &registryv1.PublishRequest{Service: &registryv1.Service{Namespace: namespace, Name: "prices"}, Port: int32(port)})
	}
	if _, err := publish("other", app.port); status.Code(err) != codes.PermissionDenied {
		t.Errorf("a service of another namespace: %v", err)
	}
	if _, err := publish("", 0); status.Code(err) != codes.InvalidArgument {
		t.Errorf("port 0: %v", err)
	}
	if _, err := c.Resolve(within(t, 10*time.Second), &registryv1.ResolveRequest{}); status.Code(err) != codes.InvalidArgument {
		t.Errorf("no name: %v", err)
	}
	if _, err := c.Resolve(within(t, 10*time.Second), &registryv1.ResolveRequest{Service: &registryv1.Service{Name: "prices"}}); status.Code(err) != codes.NotFound {
		t.Errorf("not published: %v", err)
	}
	if _, err := publish("", app.port); err != nil {
		t.Fatal(err)
	}
	eventually(t, func() error {
		out, err := c.Resolve(within(t, 10*time.Second), &registryv1.ResolveRequest{Service: &registryv1.Service{Name: "prices"}})
		if err == nil && (len(out.GetInstances()) != 1 || out.GetInstances()[0].GetAddress() != s.inbound || out.GetAddress() != s.outbound) {
			err = errors.New(out.String())
		}
		return err
	})
	if _, err := c.Unpublish(within(t, 10*time.Second), &registryv1.UnpublishRequest{Service: &registryv1.Service{Namespace: "other", Name: "prices"}}); status.Code(err) != codes.PermissionDenied {
		t.Errorf("a service of another namespace: %v", err)
	}
	if _, metrics := s.get("/metrics"); !strings.Contains(metrics, `outrigger_relay_connections{direction="downstream",side="api"} 1`) || !strings.Contains(metrics, `outrigger_relay_streams{side="inbound"} 0`) {
		t.Errorf("metrics of the relays:\n%s", metrics)
	}
	if _, info := s.get("/info"); !strings.Contains(info, "default/prices") || !strings.Contains(info, fmt.Sprintf("%q", s.inbound)) {
		t.Errorf("info: %s", info)
	}
	conn.Close()
}

// Policies of a configuration component hold before the file's; the API's own way writes them.
func TestPoliciesOfAComponent(t *testing.T) {
	for _, driver := range []string{"file", "local"} {
		t.Run(driver, func(t *testing.T) {
			text := fmt.Sprintf("registry: {default: {driver: file}}\nconfig: {central: {driver: %s}}\ndrain: {propagation: 10ms}\n"+
				"mesh: {registry: default, policies_from: {component: central, key: policies}, routes: [{name: own, service: stock}]}\n", driver)
			s := start(t, text)
			conn := dial(t, s.grpc)
			set := func(value string) string {
				version := ""
				eventually(t, func() error { // it may be starting
					out, err := configv1.NewConfigClient(conn).Set(within(t, 10*time.Second), &configv1.SetRequest{Component: "central", Key: "policies", Value: []byte(value)})
					version = out.GetVersion()
					return err
				})
				return version
			}
			s.shows(t, "/explain?service=stock", `"rule":"own"`, `"policies":{}`)
			version := set("routes: [{name: central, service: stock}]")
			s.shows(t, "/explain?service=stock", `"rule":"central"`, `"source":"config central/policies"`, fmt.Sprintf(`"version":%q`, version))
			set("routes: [{name: wrong, service: a b}]")
			s.shows(t, "/info", `"refused": "config central/policies:1:33`, version)
			s.shows(t, "/metrics", "outrigger_mesh_policies_refused 1", `outrigger_mesh_policies_changes_total{outcome="applied"} 1`, `outrigger_mesh_policies_changes_total{outcome="refused"} 1`,
				"outrigger_mesh_instances_held 0", `outrigger_relay_rpc_calls{side="inbound"} 0`)
			s.shows(t, "/explain?service=stock", `"rule":"central"`)
			s.write(t, text+"telemetry: {log: {level: warn}}\n") // a reload leaves them
			s.shows(t, "/info", `"generation": 2`)
			s.shows(t, "/explain?service=stock", `"rule":"central"`)
			conn.Close()
		})
	}
}

// Policies of the file change with it, all that it has at once, and one with a fault changes nothing.
func TestPoliciesOfTheFile(t *testing.T) {
	const base = "registry: {default: {driver: file}}\ndrain: {propagation: 10ms}\nmesh: {registry: default, "
	s := start(t, base+"routes: [{name: one, service: stock}]}\n")
	s.shows(t, "/explain?service=stock", `"rule":"one"`)
	s.write(t, base+"defaults: {timeout: 7s}, routes: [{name: two, service: stock}], migration: [{service: stock, mesh: 10%}]}\n")
	s.shows(t, "/info", `"generation": 2`)
	s.shows(t, "/explain?service=stock", `"rule":"two"`, `"timeout":"7s"`, `"migration"`)
	s.write(t, base+"defaults: {timeout: 8s}, routes: [{name: three, service: a b}]}\n")
	s.shows(t, "/info", `"last_error": "`, "a b")
	s.shows(t, "/explain?service=stock", `"rule":"two"`, `"timeout":"7s"`)
	s.write(t, base+"routes: []}\n")
	s.shows(t, "/info", `"generation": 3`)
	s.shows(t, "/explain?service=stock", `"rule":"default"`)
}
