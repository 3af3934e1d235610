//go:build servers

package kafka_test

import (
	"context"
	"log/slog"
	"os"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/outrigger-mesh/outrigger/components"
	"github.com/outrigger-mesh/outrigger/components/pubsub"
	"github.com/outrigger-mesh/outrigger/components/pubsub/kafka"
	"github.com/outrigger-mesh/outrigger/components/pubsub/pubsubtest"
)

func TestMain(m *testing.M) {
	goleak.VerifyTestMain(m, goleak.IgnoreTopFunction("github.com/rcrowley/go-metrics.(*meterArbiter).tick"))
}

// at is where a server is that was started for these tests: one of those names, as `integration/servers` has them.
func at(t *testing.T, names ...string) []string {
	t.Helper()
	for _, name := range names {
		if value := os.Getenv("OUTRIGGER_" + name); value != "" {
			return strings.Split(value, ",")
		}
	}
	t.Fatalf("there is no OUTRIGGER_%s: go run ./integration/servers/cmd kafka -- go test -tags servers ./components/pubsub/kafka", names[0])
	return nil
}

func options(t *testing.T) kafka.Options {
	o, _ := pubsub.Drivers.Defaults("kafka")
	options := o.(kafka.Options)
	options.Addresses = at(t, "KAFKA", "KAFKA_CLUSTER")
	options.Heartbeat, options.SessionTimeout = 100*time.Millisecond, 3*time.Second
	return options
}

func env(t *testing.T) components.Env {
	return components.Env{ID: components.ID{Capability: "pubsub", Name: "default", Driver: "kafka"}, Logger: slog.New(slog.NewTextHandler(t.Output(), nil))}
}

func open(t *testing.T, o kafka.Options) pubsub.Driver {
	t.Helper()
	d, err := kafka.Open(context.WithoutCancel(t.Context()), env(t), o)
	if err != nil {
		t.Fatal(err)
	}
	return d
}

func TestConformance(t *testing.T) {
	pubsubtest.Run(t, func(t *testing.T) pubsubtest.Opener {
		return func(t *testing.T, p pubsub.Policy) pubsub.Driver {
			t.Helper()
			o := options(t)
			o.Delivery = p
			return open(t, o)
		}
	})
}
