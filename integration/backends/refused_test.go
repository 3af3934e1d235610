package backends_test

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/outrigger-mesh/outrigger/integration/harness"
	"github.com/outrigger-mesh/outrigger/integration/servers"
	client "github.com/outrigger-mesh/outrigger/sdk/go"
)

// canary is a password that no server knows, and nobody may be shown.
const canary = "canary-5d1f90c2-07"

// refusal is of a sidecar that a server, or its certificate, does not suit.
type refusal struct {
	what    string
	at      string // where the server is
	options string // with the secret
	secret  string
	says    string // the cause, from whoever knows it
}

// asks are calls that need the server, by capability.
var asks = map[string]func(context.Context, *client.Client) error{
	"cache": func(ctx context.Context, c *client.Client) error { _, err := c.Cache("").Get(ctx, "k"); return err },
	"state": func(ctx context.Context, c *client.Client) error { _, err := c.State("").Get(ctx, "k"); return err },
	"lock": func(ctx context.Context, c *client.Client) error {
		_, err := c.Lock("").TryLock(ctx, client.LockRequest{Name: "l"})
		return err
	},
	"sequence": func(ctx context.Context, c *client.Client) error {
		_, err := c.Sequence("").Next(ctx, "k", 1)
		return err
	},
	"pubsub": func(ctx context.Context, c *client.Client) error {
		_, err := c.PubSub("").Publish(ctx, "asked", client.Event{}) // no other test may get it
		return err
	},
	"config": func(ctx context.Context, c *client.Client) error { _, err := c.Config("").Get(ctx, "k"); return err },
	"registry": func(ctx context.Context, c *client.Client) error {
		_, err := c.Registry().Resolve(ctx, client.Service{Name: "echo"})
		return err
	},
}

// refused starts a sidecar for each, in a data folder of its own or in dir, with all the drivers of one kind of server: config is that, with OPTIONS where
// those of the refusal belong. Each component says within 5 s that it is not served, where the server is, and why. The secret is in
// nothing that anybody is shown, and in no file.
func refused(t *testing.T, server, config, dir string, all ...refusal) {
	t.Helper()
	for _, r := range all {
		t.Run(r.what, func(t *testing.T) {
			sidecar := harness.Start(t, harness.Options{App: "app", DataDir: dir, Config: strings.ReplaceAll(config, "OPTIONS", r.options)})
			api, said, began := sidecar.Client(), []string{}, time.Now()
			for capability, ask := range asks {
				if strings.Contains("\n"+config, "\n"+capability+": ") {
					said = append(said, r.told(t, capability, began, func(ctx context.Context) error { return ask(ctx, api) }))
				}
			}
			took := time.Since(began)
			for _, text := range append(said, shown(t, sidecar), kept(t, sidecar.DataDir)) {
				if strings.Contains(text, r.secret) {
					t.Errorf("the secret is shown: %s", text)
				}
			}
			if !strings.Contains(shown(t, sidecar), r.says) {
				t.Error("the sidecar does not show the cause")
			}
			sidecar.Stop()
			slices.Sort(said)
			fmt.Printf("%s %s: said by %d components after %.1f s: %.200s\n", server, r.what, len(said), took.Seconds(), said[0])
		})
	}
}

const soon = 5 * time.Second // within which whoever is refused is told why

// told asks a component until it says what is wrong, and answers that.
func (r refusal) told(t *testing.T, capability string, began time.Time, ask func(context.Context) error) string {
	t.Helper()
	var err error
	harness.Eventually(t, soon-time.Since(began), func() error {
		ctx, cancel := context.WithTimeout(t.Context(), soon)
		defer cancel()
		if err = ask(ctx); !errors.Is(err, client.ErrUnavailable) {
			return fmt.Errorf("%s answers %w", capability, err)
		}
		for _, want := range []string{capability + ` "default"`, r.at, r.says} {
			if !strings.Contains(err.Error(), want) {
				return fmt.Errorf("no %q in %w", want, err)
			}
		}
		return nil
	})
	return err.Error()
}

// kept is all that is in the files of a folder.
func kept(t *testing.T, dir string) string {
	t.Helper()
	var all strings.Builder
	check(t, filepath.WalkDir(dir, func(path string, entry os.DirEntry, err error) error {
		if err != nil && path != dir || err == nil && !entry.Type().IsRegular() {
			return nil // it may have gone
		}
		if err != nil {
			return err
		}
		text, err := os.ReadFile(path)
		if errors.Is(err, os.ErrNotExist) {
			err = nil
		}
		all.Write(text)
		return err
	}))
	return all.String()
}

// components are drivers of one name with the same options, for each of the capabilities.
func components(driver, options string, capabilities ...string) string {
	config := ""
	for _, capability := range capabilities {
		config += fmt.Sprintf("%s: {default: {driver: %s, options: %s}}\n", capability, driver, options)
	}
	return config
}

// atPort is where another port of the server's first node is.
func atPort(s *servers.Server, name string) string {
	return fmt.Sprintf("127.0.0.1:%d", s.Nodes[0].Ports[name])
}

func TestRedisRefuses(t *testing.T) {
	t.Parallel()
	config := redisConfig("OPTIONS")
	secure := servers.Run(t, "redis-tls")
	options := func(user, password, ca string) string {
		return fmt.Sprintf(`{addresses: %s, user: %s, password: %s, tls: {enabled: true, ca: "%s"}}`, addresses(secure.Addrs()), user, password, ca)
	}
	refused(t, "redis", config, "",
		refusal{"wrong password", secure.Addr(), options(secure.User, canary, secure.CA), canary, "WRONGPASS"},
		refusal{"wrong CA", secure.Addr(), options(secure.User, secure.Password, ""), secure.Password, "certificate"},
		refusal{"no permission", secure.Addr(), options(secure.Limited, secure.LimitedPassword, secure.CA), secure.LimitedPassword, "NOPERM"})
	s := servers.Run(t, "redis-sentinel")
	sentinel := s.Addrs("sentinel")[:1]
	refused(t, "redis", config, "", refusal{"wrong password of the sentinels", sentinel[0],
		fmt.Sprintf(`{mode: sentinel, master: %s, addresses: %s, user: %s, password: %s, sentinel_user: %s, sentinel_password: %s}`, servers.SentinelPrimary, addresses(sentinel), s.User, s.Password, s.User, canary),
		canary, "WRONGPASS"})
}

func TestPostgresRefuses(t *testing.T) {
	t.Parallel()
	s := servers.Run(t, "postgres")
	config := components("postgres", "{postgres: {OPTIONS}}", "state", "lock", "sequence")
	refused(t, "postgres", config, "",
		refusal{"wrong password", s.Addr(), postgresOptions(s, s.User, canary), canary, "password authentication failed"},
		refusal{"no permission", s.Addr(), postgresOptions(s, s.Limited, s.LimitedPassword), s.LimitedPassword, "permission denied"})
	cause := "certificate"
	if s.CA == "" { // the compose file's has no TLS
		cause = "TLS"
	}
	refused(t, "postgres", config, "", refusal{"wrong CA", s.Addr(), postgresOptions(s, s.User, s.Password) + ", tls: {enabled: true}", s.Password, cause})
}

func TestEtcdRefuses(t *testing.T) {
	t.Parallel()
	const password = "canary-right-77ab"
	s := servers.RunHere(t, "etcd")
	for _, step := range [][2]string{
		{"/v3/auth/user/add", `{"name": "root", "password": "` + password + `"}`}, {"/v3/auth/user/add", `{"name": "weak", "password": "` + password + `"}`},
		{"/v3/auth/user/grant", `{"user": "root", "role": "root"}`}, {"/v3/auth/enable", `{}`},
	} {
		if err := etcdAsk(s.Addr(), step[0], step[1], callTime, nil); err != nil && !strings.Contains(err.Error(), "role name already exists") {
			t.Fatal(step, err)
		}
	}
	options := func(at, user, password, tls string) string {
		return fmt.Sprintf(`{addresses: ["%s"], user: %s, password: "%s", tls: %s}`, at, user, password, tls)
	}
	tls := atPort(s, "tls")
	config := "mesh: {registry: default}\n" + components("etcd", "{etcd: OPTIONS}", "registry", "config", "lock", "sequence")
	refused(t, "etcd", config, "",
		refusal{"wrong password", s.Addr(), options(s.Addr(), "root", canary, "{}"), canary, "authentication failed"},
		refusal{"no permission", s.Addr(), options(s.Addr(), "weak", password, "{}"), password, "permission denied"},
		refusal{"wrong CA", tls, options(tls, "root", password, "{enabled: true}"), password, "certificate"})
	works(t, strings.ReplaceAll(config, "OPTIONS", options(tls, "root", password, fmt.Sprintf(`{enabled: true, ca: "%s"}`, s.CA))), "lock")
}

// works holds that a capability is, with that configuration.
func works(t *testing.T, config, capability string) {
	t.Helper()
	api := harness.Start(t, harness.Options{App: "app", Config: config}).Client()
	harness.Eventually(t, patience, func() error { return asks[capability](t.Context(), api) })
}

func TestZookeeperRefuses(t *testing.T) {
	t.Parallel()
	s := servers.Run(t, "zookeeper")
	const password = "canary-right-31d0"
	options := func(at, password, tls string) string {
		return fmt.Sprintf(`{addresses: ["%s"], user: app, password: %s, tls: %s}`, at, password, tls)
	}
	tls, config := atPort(s, "tls"), "mesh: {registry: default}\n"+components("zookeeper", "OPTIONS", "registry")
	ca := fmt.Sprintf(`{enabled: true, ca: "%s"}`, s.CA)
	app := harness.StartEcho(t, "one") // the first to write says who may
	harness.Start(t, harness.Options{App: "echo", AppPort: app.Port, Config: strings.ReplaceAll(config, "OPTIONS", options(s.Addr(), password, "{}"))})
	api := harness.Start(t, harness.Options{App: "app", Config: strings.ReplaceAll(config, "OPTIONS", options(tls, password, ca))}).Client()
	harness.Eventually(t, patience, func() error {
		r, err := api.Registry().Resolve(t.Context(), client.Service{Name: "echo"})
		if err == nil && len(r.Instances) != 1 {
			err = fmt.Errorf("echo has %v", r.Instances)
		}
		return err
	})
	refused(t, "zookeeper", config, "",
		refusal{"wrong password", s.Addr(), options(s.Addr(), canary, "{}"), canary, "not authenticated"},
		refusal{"wrong CA", tls, options(tls, password, "{enabled: true}"), password, "certificate"})
}

func TestKafkaRefuses(t *testing.T) {
	t.Parallel()
	s := servers.Run(t, "kafka")
	sasl, tls := atPort(s, "sasl"), atPort(s, "tls")
	options := func(mechanism, user, password string) string {
		return fmt.Sprintf(`{addresses: ["%s"], sasl: {mechanism: %s, user: %s, password: %s}}`, sasl, mechanism, user, password)
	}
	config := components("kafka", "OPTIONS", "pubsub")
	refused(t, "kafka", config, "",
		refusal{"wrong password (PLAIN)", sasl, options("PLAIN", s.User, canary), canary, "refuses"},
		refusal{"wrong password (SCRAM)", sasl, options("SCRAM-SHA-256", s.User, canary), canary, "refuses"},
		refusal{"no permission", sasl, options("PLAIN", s.Limited, s.LimitedPassword), s.LimitedPassword, "refuses"},
		refusal{"wrong CA", tls, fmt.Sprintf(`{addresses: ["%s"], tls: {enabled: true}, sasl: {mechanism: PLAIN, user: app, password: %s}}`, tls, canary), canary, "certificate"})
	works(t, strings.ReplaceAll(config, "OPTIONS", options("SCRAM-SHA-256", s.User, s.Password)), "pubsub")
}

func rabbitRefuses(t *testing.T, s *servers.Server) {
	tls := atPort(s, "tls")
	options := func(at, user, password, tls string) string {
		return fmt.Sprintf(`{addresses: ["%s"], user: %q, password: %q, connect_timeout: 1s, tls: %s}`, at, user, password, tls)
	}
	config := components("rabbitmq", "OPTIONS", "pubsub")
	refused(t, "rabbitmq", config, "",
		refusal{"wrong password", s.Addr(), options(s.Addr(), s.User, canary, "{}"), canary, "username or password"},
		refusal{"no permission", s.Addr(), options(s.Addr(), s.Limited, s.LimitedPassword, "{}"), s.LimitedPassword, "vhost"},
		refusal{"wrong CA", tls, options(tls, s.User, s.Password, "{enabled: true}"), s.Password, "certificate"})
	works(t, strings.ReplaceAll(config, "OPTIONS", options(tls, s.User, s.Password, fmt.Sprintf(`{enabled: true, ca: "%s"}`, s.CA))), "pubsub")
}

func natsRefuses(t *testing.T, s *servers.Server) {
	options := func(who, tls string) string {
		return fmt.Sprintf(`{addresses: %s, %s, timeout: 1s, replicas: 1, synced: true, tls: %s}`, addresses(s.Addrs()), who, tls)
	}
	user := func(user, password string) string { return fmt.Sprintf("user: %s, password: %s", user, password) }
	config := components("nats", "OPTIONS", "pubsub")
	refused(t, "nats", config, "",
		refusal{"wrong password", s.Addr(), options(user(s.User, canary), "{}"), canary, "Authorization"},
		refusal{"wrong token", s.Addr(), options("token: "+canary, "{}"), canary, "Authorization"},
		refusal{"no permission", s.Addr(), options(user(s.Limited, s.LimitedPassword), "{}"), s.LimitedPassword, "ermissions"},
		refusal{"wrong CA", s.Addr(), options(user(s.User, s.Password), "{enabled: true}"), s.Password, "certificate"})
	works(t, strings.ReplaceAll(config, "OPTIONS", options(user(s.User, s.Password), fmt.Sprintf(`{enabled: true, ca: "%s"}`, s.CA))), "pubsub")
}

// nacosRefuses: what is denied is never taken for an empty answer, nor served from what was read before.
func nacosRefuses(t *testing.T, s *servers.Server) {
	const password = "canary-right-7e02"
	for _, in := range []struct {
		path string
		form url.Values
	}{
		{"/v1/auth/users", url.Values{"username": {"limited"}, "password": {password}}},
		{"/v1/auth/roles", url.Values{"username": {"limited"}, "role": {"limited"}}},
		{"/v1/auth/permissions", url.Values{"role": {"limited"}, "resource": {"elsewhere:*:*"}, "action": {"rw"}}},
	} {
		if said, err := nacosAsk(t, s, "POST", in.path, in.form); err != nil {
			t.Fatalf("%s: %s, %v", in.path, said, err)
		}
	}
	nacosPut(t, s, "k", "v")
	dir := t.TempDir()
	allowed := harness.Start(t, harness.Options{App: "app", DataDir: dir, Config: nacosConfig(s, s.User, s.Password)})
	harness.Eventually(t, patience, func() error { return asks["config"](t.Context(), allowed.Client()) })
	allowed.Stop()
	options := func(user, password string) string {
		return fmt.Sprintf(`{addresses: %s, user: "%s", password: "%s"}`, addresses(s.Addrs()), user, password)
	}
	refused(t, "nacos", "mesh: {registry: default}\n"+components("nacos", "{nacos: OPTIONS}", "registry", "config"), dir,
		refusal{"wrong password", s.Addr(), options(s.User, canary), canary, "login of nacos"},
		refusal{"no login", s.Addr(), options("", ""), canary, "refuses"},
		refusal{"no permission", s.Addr(), options("limited", password), password, "refuses"})
}

// TestNacosTLS: the server is verified, and a connection without TLS is none.
func TestNacosTLS(t *testing.T) {
	t.Parallel()
	s := servers.Run(t, "nacos", "nacos.remote.server.rpc.tls.enableTls=true")
	config := "mesh: {registry: default}\n" + components("nacos", fmt.Sprintf("{nacos: {addresses: %s, tls: OPTIONS}}", addresses(s.Addrs())), "registry", "config")
	refused(t, "nacos", config, "",
		refusal{"wrong CA", "nacos 127.0.0.1:", "{enabled: true}", canary, "certificate signed by unknown authority"},
		refusal{"no TLS", "nacos 127.0.0.1:", "{}", canary, "EOF"})
	api := harness.Start(t, harness.Options{App: "app", Config: strings.ReplaceAll(config, "OPTIONS", fmt.Sprintf(`{enabled: true, ca: "%s"}`, s.CA))}).Client().Config("")
	harness.Eventually(t, patience, func() error {
		_, err := api.Set(t.Context(), client.ConfigItem{Key: "k", Value: []byte("v")})
		return err
	})
	item, err := api.Get(t.Context(), "k")
	if err != nil || string(item.Value) != "v" {
		t.Errorf("%q, %v", item.Value, err)
	}
}
