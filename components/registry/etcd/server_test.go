//go:build servers

package etcd_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
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
		return registrytest.Through(t, func() registry.Driver { return open(t, prefix) })
	})
}

var stock = registry.Service{Namespace: "shop", Group: "main", Name: "stock"}

// TestRecordsComeBack when a sidecar reaches etcd again after its lease has ended; what another one has registered for the same address
// since goes on to count, and what was taken back meanwhile stays away.
func TestRecordsComeBack(t *testing.T) {
	prefix, wire := etcdtest.Prefix(), wiretest.New(t, etcdtest.Options(t).Addresses[0])
	far := open(t, prefix)
	near := open(t, prefix, wire.Addr())
	there, here := registrytest.Latest(t, far, stock), registrytest.Latest(t, near, stock)
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
	registrytest.Weights(t, there, 1, 20, 3)
	registrytest.Weights(t, here, 1, 20, 3)
	wire.Set(wiretest.Cut)
	registrytest.Weights(t, there, 20)
	if err := near.Deregister(t.Context(), stock, "10.0.0.3:1"); !errors.Is(err, components.ErrUnavailable) {
		t.Errorf("deregister while etcd is away: %v", err)
	}
	wire.Set(wiretest.Whole)
	registrytest.Weights(t, there, 1, 20)
	register(near, "10.0.0.4:1", 4) // when all the others are written
	registrytest.Weights(t, there, 1, 20, 4)
	registrytest.Weights(t, here, 1, 20, 4)
	if err := far.Deregister(t.Context(), stock, "10.0.0.2:1"); err != nil {
		t.Fatal(err)
	}
	registrytest.Weights(t, there, 1, 2, 4)
	registrytest.Weights(t, here, 1, 2, 4)
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
	registrytest.Weights(t, registrytest.Latest(t, d, stock), 2)
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
	registrytest.Weights(t, registrytest.Latest(t, near, stock), 1)
}

// TestWhatIsRemovedComesBack, and what somebody else has written in its place goes.
func TestWhatIsRemovedComesBack(t *testing.T) {
	prefix := etcdtest.Prefix()
	d, client := open(t, prefix), etcdtest.Client(t, etcdtest.Options(t))
	now := registrytest.Latest(t, d, stock)
	if err := d.Register(t.Context(), registry.Record{Service: stock, Address: "10.0.0.1:1", Weight: 1}); err != nil {
		t.Fatal(err)
	}
	there, err := client.Get(t.Context(), prefix, clientv3.WithPrefix())
	if err != nil || len(there.Kvs) != 1 {
		t.Fatal(there, err)
	}
	key := string(there.Kvs[0].Key)
	for _, spoil := range []clientv3.Op{clientv3.OpDelete(key), clientv3.OpPut(key, `{"weight":7}`), clientv3.OpPut(key, "no record")} {
		spoilt, err := client.Do(t.Context(), spoil)
		if err != nil {
			t.Fatal(err)
		}
		var after int64
		if at := spoilt.Del(); at != nil {
			after = at.Header.Revision
		} else {
			after = spoilt.Put().Header.Revision
		}
		componenttest.Eventually(t, 20*time.Second, func() error {
			got, err := client.Get(t.Context(), key)
			if err == nil && (len(got.Kvs) == 0 || got.Kvs[0].ModRevision <= after) {
				err = errors.New("it is not written anew")
			}
			return err
		})
		registrytest.Weights(t, now, 1)
	}
}
