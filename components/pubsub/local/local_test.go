package local_test

import (
	"context"
	"log/slog"
	"math"
	"strings"
	"testing"

	"go.uber.org/goleak"

	"github.com/outrigger-mesh/outrigger/components"
	"github.com/outrigger-mesh/outrigger/components/pubsub"
	"github.com/outrigger-mesh/outrigger/components/pubsub/local"
	"github.com/outrigger-mesh/outrigger/components/pubsub/pubsubtest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// backend opens drivers on a folder of its own.
func backend(t *testing.T) pubsubtest.Opener { return opener(t.TempDir()) }

// opener makes drivers on one folder.
func opener(dir string) pubsubtest.Opener {
	shared := components.NewShared()
	return func(t *testing.T, p pubsub.Policy) pubsub.Driver {
		t.Helper()
		o, _ := pubsub.Drivers.Defaults("local")
		options := o.(local.Options)
		options.Delivery, options.Durability = p, "os"
		env := components.Env{ID: components.ID{Capability: "pubsub", Name: "default", Driver: "local"}, Logger: slog.New(slog.NewTextHandler(t.Output(), nil)),
			DataDir: dir, Shared: shared}
		d, err := local.Open(context.WithoutCancel(t.Context()), env, options)
		if err != nil {
			t.Fatal(err)
		}
		return d
	}
}

func TestConformance(t *testing.T) { pubsubtest.Run(t, backend) }

// TestConformanceOfAClient has the store owned by somebody else, who is called over the socket.
func TestConformanceOfAClient(t *testing.T) {
	pubsubtest.Run(t, func(t *testing.T) pubsubtest.Opener {
		dir := t.TempDir()
		owner := opener(dir)(t, pubsub.DefaultPolicy)
		t.Cleanup(func() {
			if err := owner.(components.Closer).Close(context.WithoutCancel(t.Context())); err != nil {
				t.Error(err)
			}
		})
		return opener(dir)
	})
}

// TestOptionsThatAreRefused: a time that no clock can show would be taken for one that is past.
func TestOptionsThatAreRefused(t *testing.T) {
	for name, change := range map[string]func(*local.Options){
		"durability":      func(o *local.Options) { o.Durability = "ram" },
		"retention:":      func(o *local.Options) { o.Retention = math.MaxInt64 },
		"retention_bytes": func(o *local.Options) { o.RetentionBytes = 0 },
		"groups":          func(o *local.Options) { o.Groups = math.MaxInt64 },
		"idempotency":     func(o *local.Options) { o.Idempotency = math.MaxInt64 },
		"max_delay":       func(o *local.Options) { o.Delivery.MaxDelay = math.MaxInt64 },
	} {
		o := options()
		if err := o.Validate(); err != nil {
			t.Fatal(err)
		}
		if change(&o); o.Validate() == nil || !strings.Contains(o.Validate().Error(), name) {
			t.Errorf("%s: %v", name, o.Validate())
		}
	}
}
