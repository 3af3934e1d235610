//go:build servers

package etcd_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/goleak"

	"github.com/outrigger-mesh/outrigger/components"
	"github.com/outrigger-mesh/outrigger/components/componenttest"
	"github.com/outrigger-mesh/outrigger/components/internal/backend/wiretest"
	"github.com/outrigger-mesh/outrigger/components/internal/etcdconn/etcdtest"
	"github.com/outrigger-mesh/outrigger/components/registry"
	"github.com/outrigger-mesh/outrigger/components/registry/etcd"
	"github.com/outrigger-mesh/outrigger/components/registry/registrytest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func open(t *testing.T, prefix string, addresses ...string) registry.Driver {
	t.Helper()
	o := etcd.Options{Etcd: etcdtest.Options(t), Prefix: prefix, TTL: 2 * time.Second}
	if len(addresses) > 0 {
		o.Etcd.Addresses = addresses
	}
	d, err := etcd.Open(t.Context(), components.Env{Logger: slog.New(slog.DiscardHandler)}, o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { componenttest.Close(t, d) })
	return d
}

func TestConformance(t *testing.T) {
	registrytest.Run(t, func(t *testing.T) registrytest.Backend {
		prefix := etcdtest.Prefix()
		outside := open(t, prefix)
		return registrytest.Backend{
			Open: func() registry.Driver { return open(t, prefix) },
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

// TestRecordsComeBack when a sidecar reaches etcd again after its lease has ended; what another one has registered for the same address
// since goes on to count, and what was taken back meanwhile stays away.
func TestRecordsComeBack(t *testing.T) {
	prefix, wire := etcdtest.Prefix(), wiretest.New(t, etcdtest.Options(t).Addresses[0])
	far := open(t, prefix)
	near := open(t, prefix, wire.Addr())
	there, here := latest(t, far), latest(t, near)
	register := func(d registry.Driver, address string, weight int) {
		t.Helper()
		if err := d.Register(t.Context(), registry.Record{Service: stock, Address: address, Weight: weight}); err != nil {
			t.Fatal(err)
		}
	}
	register(near, "10.0.0.1:1", 1)
	register(near, "10.0.0.2:1", 2)
	register(near, "10.0.0.3:1", 3)
	register(far, "10.0.0.2:1", 20)
	want(t, there, 1, 20, 3)
	want(t, here, 1, 20, 3)
	wire.Set(wiretest.Cut)
	want(t, there, 20)
	if err := near.Deregister(t.Context(), stock, "10.0.0.3:1"); !errors.Is(err, components.ErrUnavailable) {
		t.Errorf("deregister while etcd is away: %v", err)
	}
	wire.Set(wiretest.Whole)
	want(t, there, 1, 20)
	register(near, "10.0.0.4:1", 4) // when all the others are written
	want(t, there, 1, 20, 4)
	want(t, here, 1, 20, 4)
	if err := far.Deregister(t.Context(), stock, "10.0.0.2:1"); err != nil {
		t.Fatal(err)
	}
	want(t, there, 1, 2, 4)
	want(t, here, 1, 2, 4)
}

// TestRegisterOnALeaseThatHasEnded gets another one first.
func TestRegisterOnALeaseThatHasEnded(t *testing.T) {
	prefix := etcdtest.Prefix()
	d, client := open(t, prefix), etcdtest.Client(t, etcdtest.Options(t))
	for weight := range 3 {
		if err := d.Register(t.Context(), registry.Record{Service: stock, Address: "10.0.0.1:1", Weight: weight}); err != nil {
			t.Fatal(err)
		}
		got, err := client.Get(t.Context(), prefix, clientv3.WithPrefix())
		if err != nil || len(got.Kvs) != 1 {
			t.Fatal(got, err)
		}
		if _, err := client.Revoke(t.Context(), clientv3.LeaseID(got.Kvs[0].Lease)); err != nil {
			t.Fatal(err)
		}
	}
	want(t, latest(t, d), 2)
}

// TestALateRecordDoesNotStay: its lease has ended by then, and the sidecar's records hang on another, without having been away.
func TestALateRecordDoesNotStay(t *testing.T) {
	prefix, wire := etcdtest.Prefix(), wiretest.New(t, etcdtest.Options(t).Addresses[0])
	near, client := open(t, prefix, wire.Addr()), etcdtest.Client(t, etcdtest.Options(t))
	if err := near.Register(t.Context(), registry.Record{Service: stock, Address: "10.0.0.1:1", Weight: 1}); err != nil {
		t.Fatal(err)
	}
	lease := func() clientv3.LeaseID {
		t.Helper()
		got, err := client.Get(t.Context(), prefix, clientv3.WithPrefix())
		if err != nil || len(got.Kvs) == 0 {
			t.Fatal("the record is away", err)
		}
		return clientv3.LeaseID(got.Kvs[0].Lease)
	}
	before := lease()
	wire.Set(wiretest.Deaf)
	ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
	defer cancel()
	if err := near.Register(ctx, registry.Record{Service: stock, Address: "10.0.0.2:1", Weight: 2}); err == nil {
		t.Error("no answer is taken for a success")
	}
	wire.Set(wiretest.Whole)
	componenttest.Eventually(t, 10*time.Second, func() error {
		lease()
		left, err := client.TimeToLive(t.Context(), before)
		if err == nil && left.TTL != -1 {
			err = fmt.Errorf("the lease that a late record would hang on has %d s left", left.TTL)
		}
		return err
	})
	if lease() == before {
		t.Error("the record hangs on a lease that has ended")
	}
	want(t, latest(t, near), 1)
}
