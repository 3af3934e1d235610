//go:build servers

package zookeeper_test

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"slices"
	"strings"
	"sync"
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
		outside := open(t, o)
		return registrytest.Backend{
			Open: func() registry.Driver { return open(t, o) },
			Put: func(r registry.Record) {
				if err := outside.Register(t.Context(), r); err != nil {
					t.Error(err)
				}
			},
			Remove: func(s registry.Service, address string) {
				if err := outside.Deregister(t.Context(), s, address); err != nil {
					t.Error(err)
				}
			}}
	})
}

var stock = registry.Service{Namespace: "shop", Group: "main", Name: "stock"}

// latest is the list that a watch was told last.
func latest(t *testing.T, d registry.Driver) func() []registry.Record {
	t.Helper()
	var mu sync.Mutex
	var list []registry.Record
	ctx, stop := context.WithCancel(context.WithoutCancel(t.Context()))
	ended := make(chan error, 1)
	go func() {
		ended <- d.Watch(ctx, stock, func(all []registry.Record) error {
			mu.Lock()
			defer mu.Unlock()
			list = all
			return nil
		})
	}()
	t.Cleanup(func() {
		stop()
		if err := <-ended; !errors.Is(err, context.Canceled) {
			t.Errorf("the watch has ended: %v", err)
		}
	})
	return func() []registry.Record { mu.Lock(); defer mu.Unlock(); return list }
}

func want(t *testing.T, now func() []registry.Record, weights ...int) {
	t.Helper()
	componenttest.Eventually(t, 20*time.Second, func() error {
		got := []int{}
		for _, r := range now() {
			got = append(got, r.Weight)
		}
		if !slices.Equal(got, weights) {
			return fmt.Errorf("weights %v, want %v", got, weights)
		}
		return nil
	})
}

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
			there, here := latest(t, far), latest(t, near)
			register(t, near, "10.0.0.1:1", 1)
			register(t, near, "10.0.0.2:1", 2)
			register(t, near, "10.0.0.3:1", 3)
			register(t, far, "10.0.0.2:1", 20)
			want(t, there, 1, 20, 3)
			want(t, here, 1, 20, 3)
			wire.Set(mode)
			want(t, there, 20)
			if err := near.Deregister(t.Context(), stock, "10.0.0.3:1"); !errors.Is(err, components.ErrUnavailable) {
				t.Errorf("deregister while zookeeper is away: %v", err)
			}
			wire.Set(wiretest.Whole)
			want(t, there, 1, 20)
			want(t, here, 1, 20)
			if err := far.Deregister(t.Context(), stock, "10.0.0.2:1"); err != nil {
				t.Fatal(err)
			}
			want(t, there, 1, 2)
			want(t, here, 1, 2)
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
	there, here := latest(t, far), latest(t, near)
	for weight := range 4 {
		want(t, here, 1)
		want(t, there, 1)
		wire.Set(wiretest.Cut)
		register(t, far, "10.0.0.2:1", weight)
		want(t, there, 1, weight)
		wire.Set(wiretest.Whole)
		want(t, here, 1, weight)
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
	there := latest(t, far)
	for weight := 1; weight < 6; weight++ {
		register(t, near, "10.0.0.1:1", 100)
		want(t, there, 100)
		wire.Set(wiretest.Deaf)
		ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
		if err := near.Register(ctx, registry.Record{Service: stock, Address: "10.0.0.1:1", Weight: weight}); err == nil {
			t.Error("no answer is taken for a success")
		}
		cancel()
		wire.Set(wiretest.Whole)
		componenttest.Eventually(t, 10*time.Second, func() error { return near.Deregister(t.Context(), stock, "10.0.0.1:1") })
		want(t, there)
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
