// Package redistest finds the real servers that tests of drivers run on.
package redistest

import (
	"log/slog"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/outrigger-mesh/outrigger/components"
	"github.com/outrigger-mesh/outrigger/components/internal/backend"
	"github.com/outrigger-mesh/outrigger/components/internal/redisconn"
)

// All are the kinds of servers.
var All = []string{"redis", "redis-tls", "redis-sentinel", "redis-cluster"}

// Primary is what the sentinels call theirs.
const Primary = "primary"

// Options are those for a kind of server, which the environment must name.
func Options(t testing.TB, kind string) redisconn.Options {
	t.Helper()
	o := redisconn.Defaults()
	o.Addresses = addresses(t, kind)
	switch kind {
	case "redis-tls":
		o.TLS = backend.TLS{Enabled: true, CA: Variable(t, kind, "CA")}
	case "redis-sentinel":
		o.Mode, o.Master, o.Addresses = redisconn.Sentinel, Primary, addresses(t, kind, "AT_SENTINEL")
	case "redis-cluster", "redis-cluster-replicas":
		o.Mode = redisconn.Cluster
	}
	if kind == "redis-tls" || kind == "redis-sentinel" {
		o.User, o.Password = Variable(t, kind, "USER"), components.Secret(Variable(t, kind, "PASSWORD"))
	}
	return o
}

// Limited are the options of the user that may do little.
func Limited(t testing.TB, kind string) redisconn.Options {
	t.Helper()
	o := Options(t, kind)
	o.User, o.Password = Variable(t, kind, "LIMITED_USER"), components.Secret(Variable(t, kind, "LIMITED_PASSWORD"))
	return o
}

// Variable is one of those that say where a server is.
func Variable(t testing.TB, parts ...string) string {
	t.Helper()
	name := strings.ToUpper(strings.ReplaceAll(strings.Join(append([]string{"outrigger"}, parts...), "_"), "-", "_"))
	value := os.Getenv(name)
	if value == "" {
		t.Fatalf("%s is not set: run with go run ./integration/servers/cmd %s -- go test ...", name, parts[0])
	}
	return value
}

func addresses(t testing.TB, parts ...string) []string {
	t.Helper()
	return strings.Split(Variable(t, parts...), ",")
}

// Env is what instances of a test are lent; no two components have the same name.
func Env(t testing.TB) components.Env {
	return components.Env{ID: components.ID{Name: strings.ToLower(strings.ReplaceAll(t.Name(), "/", "-")) + time.Now().Format("-150405.000000")},
		Logger: slog.New(slog.DiscardHandler), Shared: components.NewShared()}
}

// Open is the client of the options for as long as the test lasts.
func Open(t testing.TB, o redisconn.Options) *redisconn.Client {
	t.Helper()
	c, release, err := redisconn.Open(t.Context(), Env(t), o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(release)
	return c
}

// Info is what a server says of itself.
func Info(t testing.TB, c *redisconn.Client, name string) string {
	t.Helper()
	text, err := c.Redis().(*redis.Client).Info(t.Context(), "everything").Result()
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(text) {
		if value, ok := strings.CutPrefix(line, name+":"); ok {
			return strings.TrimSpace(value)
		}
	}
	t.Fatalf("INFO has no %s", name)
	return ""
}
