//go:build servers

package zookeeper_test

import (
	"context"
	"crypto/rand"
	"errors"
	"log/slog"
	"os"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/outrigger-mesh/outrigger/components"
	"github.com/outrigger-mesh/outrigger/components/componenttest"
	"github.com/outrigger-mesh/outrigger/components/internal/backend"
	"github.com/outrigger-mesh/outrigger/components/internal/backend/wiretest"
	"github.com/outrigger-mesh/outrigger/components/registry"
	"github.com/outrigger-mesh/outrigger/components/registry/registrytest"
	"github.com/outrigger-mesh/outrigger/components/registry/zookeeper"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func options(t *testing.T) zookeeper.Options {
	t.Helper()
	addresses := os.Getenv("OUTRIGGER_ZOOKEEPER")
	if addresses == "" {
		t.Fatal("OUTRIGGER_ZOOKEEPER is not set")
	}
	return zookeeper.Options{Addresses: strings.Split(addresses, ","), Prefix: "/test/" + rand.Text(), Session: 2 * time.Second, Timeout: 5 * time.Second}
}

func open(t *testing.T, o zookeeper.Options) registry.Driver {
	t.Helper()
	d, err := zookeeper.Open(t.Context(), components.Env{Logger: slog.New(slog.DiscardHandler)}, o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { componenttest.Close(t, d) })
	return d
}

func TestConformance(t *testing.T) {
	registrytest.Run(t, func(t *testing.T) registrytest.Backend {
		o := options(t)
		return registrytest.Through(t, func() registry.Driver { return open(t, o) })
	})
}

var stock = registry.Service{Namespace: "shop", Group: "main", Name: "stock"}

func register(t *testing.T, d registry.Driver, address string, weight int) {
	t.Helper()
	if err := d.Register(t.Context(), registry.Record{Service: stock, Address: address, Weight: weight}); err != nil {
		t.Fatal(err)
	}
}

// TestRecordsComeBack when a sidecar reaches ZooKeeper again after its session has ended, be it that nobody answered meanwhile; what
// another one has registered for the same address since goes on to count, and what was taken back meanwhile stays away.
func TestRecordsComeBack(t *testing.T) {
	for name, mode := range map[string]wiretest.Mode{"cut": wiretest.Cut, "frozen": wiretest.Stalled} {
		t.Run(name, func(t *testing.T) {
			o := options(t)
			wire := wiretest.New(t, o.Addresses[0])
			far := open(t, o)
			o.Addresses = []string{wire.Addr()}
			near := open(t, o)
			there, here := registrytest.Latest(t, far, stock), registrytest.Latest(t, near, stock)
			register(t, near, "10.0.0.1:1", 1)
			register(t, near, "10.0.0.2:1", 2)
			register(t, near, "10.0.0.3:1", 3)
			register(t, far, "10.0.0.2:1", 20)
			registrytest.Weights(t, there, 1, 20, 3)
			registrytest.Weights(t, here, 1, 20, 3)
			wire.Set(mode)
			registrytest.Weights(t, there, 20)
			if err := near.Deregister(t.Context(), stock, "10.0.0.3:1"); !errors.Is(err, components.ErrUnavailable) {
				t.Errorf("deregister while zookeeper is away: %v", err)
			}
			wire.Set(wiretest.Whole)
			registrytest.Weights(t, there, 1, 20)
			registrytest.Weights(t, here, 1, 20)
			if err := far.Deregister(t.Context(), stock, "10.0.0.2:1"); err != nil {
				t.Fatal(err)
			}
			registrytest.Weights(t, there, 1, 2)
			registrytest.Weights(t, here, 1, 2)
		})
	}
}

// TestAFrozenServerIsLeft for another one, at the start and later.
func TestAFrozenServerIsLeft(t *testing.T) {
	o := options(t)
	one, two := wiretest.New(t, o.Addresses[0]), wiretest.New(t, o.Addresses[0])
	o.Addresses, o.Session = []string{one.Addr(), two.Addr()}, 10*time.Second
	for i := range 4 {
		one.Set(wiretest.Stalled)
		d := open(t, o)
		one.Set(wiretest.Whole)
		two.Set(wiretest.Cut) // the one that is used
		began := time.Now()
		componenttest.Eventually(t, 10*time.Second, func() error {
			return d.Register(t.Context(), registry.Record{Service: stock, Address: "10.0.0.1:1", Weight: i})
		})
		if took := time.Since(began); took > 5*time.Second {
			t.Errorf("it took %s to use the other server", took)
		}
		two.Set(wiretest.Whole)
	}
}

// TestALostConnectionIsNotALostSession: the records stay, and a watch misses nothing of what happens meanwhile.
func TestALostConnectionIsNotALostSession(t *testing.T) {
	o := options(t)
	o.Session = 10 * time.Second
	wire := wiretest.New(t, o.Addresses[0])
	far := open(t, o)
	o.Addresses = []string{wire.Addr()}
	near := open(t, o)
	register(t, near, "10.0.0.1:1", 1)
	there, here := registrytest.Latest(t, far, stock), registrytest.Latest(t, near, stock)
	for weight := range 4 {
		registrytest.Weights(t, here, 1)
		registrytest.Weights(t, there, 1)
		wire.Set(wiretest.Cut)
		register(t, far, "10.0.0.2:1", weight)
		registrytest.Weights(t, there, 1, weight)
		wire.Set(wiretest.Whole)
		registrytest.Weights(t, here, 1, weight)
		if err := far.Deregister(t.Context(), stock, "10.0.0.2:1"); err != nil {
			t.Fatal(err)
		}
	}
}

// TestUnheardWritesAreUndone: what may have been written, though its caller was told of a failure, does not stay when it is replaced or
// taken back.
func TestUnheardWritesAreUndone(t *testing.T) {
	o := options(t)
	o.Session = 10 * time.Second
	wire := wiretest.New(t, o.Addresses[0])
	far := open(t, o)
	o.Addresses = []string{wire.Addr()}
	near := open(t, o)
	there := registrytest.Latest(t, far, stock)
	for weight := 1; weight < 6; weight++ {
		register(t, near, "10.0.0.1:1", 100)
		registrytest.Weights(t, there, 100)
		wire.Set(wiretest.Deaf)
		ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
		if err := near.Register(ctx, registry.Record{Service: stock, Address: "10.0.0.1:1", Weight: weight}); err == nil {
			t.Error("no answer is taken for a success")
		}
		cancel()
		wire.Set(wiretest.Whole)
		componenttest.Eventually(t, 10*time.Second, func() error { return near.Deregister(t.Context(), stock, "10.0.0.1:1") })
		registrytest.Weights(t, there)
	}
}

func TestWhatIsSaid(t *testing.T) {
	env := components.Env{Logger: slog.New(slog.DiscardHandler)}
	o := options(t)
	o.User, o.Password = "app", "canary-right"
	d := open(t, o)
	register(t, d, "10.0.0.1:1", 1)
	reason := func(o zookeeper.Options) (components.Reason, error) {
		began := time.Now()
		_, err := zookeeper.Open(t.Context(), env, o)
		if took := time.Since(began); took > 5*time.Second {
			t.Errorf("%v took %s", err, took)
		}
		var detail *components.Detail
		if !errors.As(err, &detail) || strings.Contains(err.Error(), "canary") || !strings.Contains(err.Error(), o.Addresses[0]) {
			t.Errorf("%v", err)
			return "", err
		}
		return detail.Reason, err
	}
	wrong := o
	wrong.Password = "canary-wrong"
	if got, err := reason(wrong); got != backend.ReasonRefused {
		t.Errorf("wrong password: %v", err)
	}
	wrong.User, wrong.Password = "", ""
	if got, err := reason(wrong); got != backend.ReasonRefused {
		t.Errorf("no user: %v", err)
	}
	addr, ca := wiretest.Secure(t, o.Addresses[0])
	_, another := wiretest.Secure(t, o.Addresses[0])
	o.Addresses, o.TLS = []string{addr}, backend.TLS{Enabled: true, CA: ca}
	register(t, open(t, o), "10.0.0.2:1", 2)
	o.TLS.CA = another
	if got, err := reason(o); got != backend.ReasonUnreachable || !strings.Contains(err.Error(), "x509") {
		t.Errorf("another CA: %v", err)
	}
	o.Addresses, o.TLS = []string{"127.0.0.1:1"}, backend.TLS{}
	if got, err := reason(o); got != backend.ReasonUnreachable {
		t.Errorf("nobody there: %v", err)
	}
}
