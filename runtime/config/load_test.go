package config_test

import (
	"errors"
	"fmt"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/outrigger-mesh/outrigger/components"
	"github.com/outrigger-mesh/outrigger/runtime/config"
)

func must(t *testing.T, w world, text string) *config.Config {
	t.Helper()
	c, err := w.load(text)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// component finds one by CAPABILITY/NAME.
func component(t *testing.T, c *config.Config, name string) config.Component {
	t.Helper()
	for _, component := range c.Components {
		if component.Capability+"/"+component.Name == name {
			return component
		}
	}
	t.Fatalf("no component %s", name)
	return config.Component{}
}

func noSecrets(component, key string) (string, error) {
	return "", fmt.Errorf("%s/%s was asked for", component, key)
}

func TestWithoutFile(t *testing.T) {
	c, err := config.Load("", config.Overrides{}, world{}.environment())
	if err != nil {
		t.Fatal(err)
	}
	var ids []string
	for _, component := range c.Components {
		ids = append(ids, component.Capability+"/"+component.Name+"="+component.Driver)
	}
	want := []string{"cache/default=memory", "registry/default=file", "secret/default=env"}
	if !slices.Equal(ids, want) || c.Mesh.Registry != "default" || c.SourcePath != "" || c.App.ID == "" {
		t.Errorf("got %v, %+v", ids, c)
	}
}

func TestFileHasOnlyWhatItNames(t *testing.T) {
	c := must(t, nil, "app: {id: orders}")
	settings := config.Defaults()
	settings.App.ID = "orders"
	if len(c.Components) != 0 || c.SourcePath != "a.yaml" || !reflect.DeepEqual(c.API, settings.API) || !reflect.DeepEqual(c.Mesh, settings.Mesh) || c.App.Namespace != "default" {
		t.Errorf("got %+v", c)
	}
}

func TestComponent(t *testing.T) {
	c := must(t, nil, `
app: {id: orders}
cache:
  sessions: {driver: memory, required: true, limits: {concurrency: 64}, options: {max_bytes: 1MiB, timeout: 1m30s, labels: {c: d}}}
  carts: {driver: memory}
`)
	s := component(t, c, "cache/sessions")
	if !s.Required || s.Limits != (components.Limits{Concurrency: 64, Queue: 4096}) || s.Position != "a.yaml:4:3" || c.Components[0].Name != "carts" {
		t.Errorf("got %+v", c.Components)
	}
	options, err := s.Resolve(noSecrets)
	want := memoryOptions{MaxBytes: 1 << 20, Shards: 16, Timeout: 90 * time.Second, Mode: "lru", Weights: []int{}, Labels: map[string]string{"a": "b", "c": "d"}}
	if err != nil || !reflect.DeepEqual(options, want) {
		t.Errorf("got %+v, %v, want %+v", options, err, want)
	}
	// The map of the driver's defaults belongs to all components of the driver: none may write into it.
	options, err = component(t, c, "cache/carts").Resolve(noSecrets)
	if err != nil || !reflect.DeepEqual(options.(memoryOptions).Labels, map[string]string{"a": "b"}) {
		t.Errorf("got %+v, %v", options, err)
	}
}

func TestReferences(t *testing.T) {
	w := world{"PORT": "8080", "EMPTY": "", "NULL": "null", "ODD": "${env:PORT}", "/run/secrets/redis": "hunter2\n", "names/host": "localhost:6379"}
	c := must(t, w, `
app: {id: orders, port: "${env:PORT}"}
cache:
  a:
    driver: memory
    options:
      shards: ${env:PORT}
      hosts: ["x-${env:PORT}-${env:EMPTY}", "${env:NULL}", "${env:ODD}", "$${env:PORT}", "$PORT $$", "${env:EMPTY}"]
      lazy: true
  b: {driver: redis, options: {redis: {addr: "${file:names/host}", password: "${file:/run/secrets/redis}"}}}
`)
	if c.App.Port != 8080 {
		t.Errorf("port is %d", c.App.Port)
	}
	options, err := component(t, c, "cache/a").Resolve(noSecrets)
	a := options.(memoryOptions)
	if err != nil || a.Shards != 8080 || !slices.Equal(a.Hosts, []string{"x-8080-", "null", "${env:PORT}", "${env:PORT}", "$PORT $$", ""}) {
		t.Errorf("got %+v, %v", a, err)
	}
	options, err = component(t, c, "cache/b").Resolve(noSecrets)
	if b := options.(redisOptions).Redis; err != nil || b.Password.Reveal() != "hunter2" || b.Addr != "localhost:6379" {
		t.Errorf("got %+v, %v", b, err)
	}
}

// Each of many values from references is tried as a number.
func TestManyReferences(t *testing.T) {
	c := must(t, variables, `
app: {id: orders}
cache:
  a: {driver: memory, options: {weights: [`+strings.Repeat("'${env:PORT}', ", 300)+`]}}
`)
	options, err := component(t, c, "cache/a").Resolve(noSecrets)
	if a := options.(memoryOptions); err != nil || len(a.Weights) != 300 || a.Weights[299] != 8080 {
		t.Errorf("got %+v, %v", a, err)
	}
}

func TestAnchors(t *testing.T) {
	c := must(t, nil, `
app: {id: orders}
cache:
  a: {driver: redis, options: {redis: &redis {addr: "localhost:6379", database: 3}}}
  b: {driver: redis, options: {redis: *redis, timeout: 1s}}
`)
	options, err := component(t, c, "cache/b").Resolve(noSecrets)
	if o := options.(redisOptions); err != nil || o.Redis.Database != 3 || o.Timeout != time.Second {
		t.Errorf("got %+v, %v", o, err)
	}
}

func TestSecrets(t *testing.T) {
	c := must(t, nil, `
app: {id: orders}
cache:
  a: {driver: redis, options: {redis: {addr: "localhost:6379", password: "x${secret:vault/redis}y"}}}
secret:
  a-first: {driver: vault, options: {token: "${secret:env/T}"}}
  vault: {driver: vault, options: {token: "${secret:a-first/vault}"}}
  env: {driver: env}
`)
	if want := []string{"env", "a-first", "vault"}; !slices.Equal(c.SecretsFirst, want) {
		t.Errorf("order is %v, want %v", c.SecretsFirst, want)
	}
	a := component(t, c, "cache/a")
	if !slices.Equal(a.Secrets, []string{"vault"}) {
		t.Errorf("secrets are %v", a.Secrets)
	}
	for _, password := range []string{"first", "second ${env:HOME}"} {
		options, err := a.Resolve(func(component, key string) (string, error) {
			if component != "vault" || key != "redis" {
				t.Errorf("asked for %s/%s", component, key)
			}
			return password, nil
		})
		if err != nil || options.(redisOptions).Redis.Password.Reveal() != "x"+password+"y" {
			t.Errorf("got %+v, %v", options, err)
		}
	}
	gone := errors.New("vault is sealed")
	if _, err := a.Resolve(func(string, string) (string, error) { return "", gone }); !errors.Is(err, gone) || !strings.Contains(err.Error(), "${secret:vault/redis}") {
		t.Errorf("got %v", err)
	}
}

// A secret that the driver refuses is told of without showing it.
func TestRefusedSecret(t *testing.T) {
	c := must(t, nil, `
app: {id: orders}
cache:
  a: {driver: redis, options: {redis: {addr: "${secret:vault/addr}"}}}
secret:
  vault: {driver: vault}
`)
	_, err := component(t, c, "cache/a").Resolve(func(string, string) (string, error) { return "nowhere", nil })
	if !errors.Is(err, components.ErrInvalid) || strings.Contains(err.Error(), "nowhere") || !strings.Contains(err.Error(), "${secret:vault/addr} is not HOST:PORT") {
		t.Errorf("got %v", err)
	}
}

func TestOverrides(t *testing.T) {
	n := func(n int) *int { return &n }
	env := world{"a.yaml": "app: {id: 'orders', port: 1}\napi: {grpc: '127.0.0.2:7070'}\n"}.environment()
	c, err := config.Load("a.yaml", config.Overrides{AppID: "stock", AppPort: n(8081), AppProtocol: "grpc", DataDir: "/tmp/x",
		GRPCPort: n(0), HTTPPort: n(1071), AdminPort: n(1072), InboundPort: n(1080), OutboundPort: n(1090)}, env)
	if err != nil {
		t.Fatal(err)
	}
	if c.App.ID != "stock" || c.App.Port != 8081 || c.App.Protocol != "grpc" || c.DataDir != "/tmp/x" {
		t.Errorf("got %+v", c.App)
	}
	got := []string{c.API.GRPC, c.API.HTTP, c.Admin.Address, c.Mesh.Inbound.Address, c.Mesh.Outbound.Address}
	if want := []string{"127.0.0.2:0", "127.0.0.1:1071", "127.0.0.1:1072", "127.0.0.1:1080", "127.0.0.1:1090"}; !slices.Equal(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
	_, err = config.Load("a.yaml", config.Overrides{AppID: "Stock", GRPCPort: n(70000), HTTPPort: n(7072)}, env)
	want := `flag -app-id: app.id: "Stock" is not a DNS label: a-z, 0-9 and - inside, at most 63
flag -grpc-port: api.grpc: "127.0.0.2:70000" is not an address: the port is a number from 0 to 65535
flag -http-port: api.http: it has the port of admin.address`
	if err == nil || err.Error() != want {
		t.Errorf("got\n%v\nwant\n%s", err, want)
	}
}

func TestUnreadable(t *testing.T) {
	_, err := config.Load("none.yaml", config.Overrides{}, world{}.environment())
	if err == nil || err.Error() != "none.yaml: cannot read the configuration: it does not exist" {
		t.Errorf("got %v", err)
	}
}

func TestLargeFiles(t *testing.T) {
	deep := "x: &a0 {}\n"
	for i := range 70 {
		deep += fmt.Sprintf("x%d: &a%d {a: *a%d}\n", i, i+1, i)
	}
	for name, text := range map[string]string{
		"a.yaml:1:1: the file is larger than 1MiB":                          "app: {id: orders} #" + strings.Repeat("x", 1<<20),
		"the file holds more than 100000 values, with its aliases expanded": "app: {id: orders}\nx: [" + strings.Repeat("1,", 200_000) + "1]",
		"a name of 1 to 256 letters is expected before the colon":           "app: {id: orders}\n" + strings.Repeat("x", 300) + ": 1\n",
		"not YAML: while increasing flow level":                             "app: " + strings.Repeat("[", 5000),
		"values are nested more than 64 deep, with aliases expanded":        deep,
	} {
		_, err := world{}.load(text)
		if err == nil || !strings.Contains(err.Error(), name) || len(err.Error()) > 1<<16 {
			t.Errorf("got %.300v, want %s", err, name)
		}
	}
}

func TestServices(t *testing.T) {
	c := must(t, nil, "app: {id: orders, port: 8080, protocol: grpc, services: [{name: a}, {name: b, port: 1, protocol: http, weight: 5}]}")
	want := []config.Service{{Name: "a", Port: 8080, Protocol: "grpc", Weight: 100}, {Name: "b", Port: 1, Protocol: "http", Weight: 5}}
	if !reflect.DeepEqual(c.App.Services, want) {
		t.Errorf("got %+v", c.App.Services)
	}
}

func TestListenersThatDoNotMeet(t *testing.T) {
	must(t, nil, "app: {id: a}\napi: {grpc: '127.0.0.1:0', http: '127.0.0.1:0'}\nadmin: {address: '127.0.0.2:7090'}\n")
	must(t, nil, "app: {id: a}\nmesh: {inbound: {address: '10.1.2.3:7090'}, tls: {mode: off}}\n")
}
