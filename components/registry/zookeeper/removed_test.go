//go:build servers

package zookeeper_test

import (
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/go-zookeeper/zk"

	"github.com/outrigger-mesh/outrigger/components/componenttest"
	"github.com/outrigger-mesh/outrigger/components/registry"
	"github.com/outrigger-mesh/outrigger/components/registry/registrytest"
)

// deleteAll is zkCli's deleteall.
func deleteAll(t *testing.T, conn *zk.Conn, node string) {
	t.Helper()
	for {
		names, _, err := conn.Children(node)
		if errors.Is(err, zk.ErrNoNode) {
			return
		}
		must(t, err)
		for _, name := range names {
			deleteAll(t, conn, node+"/"+name)
		}
		if err = conn.Delete(node, -1); err == nil || errors.Is(err, zk.ErrNoNode) {
			return
		}
		if !errors.Is(err, zk.ErrNotEmpty) {
			t.Fatal(err)
		}
	}
}

// TestWhatIsRemovedComesBack: records that somebody else has removed, with all that is above them, as when a ZooKeeper has lost its data; and who
// watches is told of what comes after.
func TestWhatIsRemovedComesBack(t *testing.T) {
	o, s := options(t), foreign()
	d, other := open(t, o), client(t)
	theirs := func(node, address string) registry.Record {
		return registry.Record{Service: s, Address: address, Node: node, Data: "x"}
	}
	register(t, d, "10.0.0.1:1", 1)
	must(t, d.Register(t.Context(), theirs("a", "10.0.0.1:1")))
	here, there := registrytest.Latest(t, d, stock), registrytest.Latest(t, d, s)
	nodes := func(want int) {
		t.Helper()
		componenttest.Eventually(t, 20*time.Second, func() error {
			if got := there(); len(got) != want {
				return fmt.Errorf("told %v", got)
			}
			return nil
		})
	}
	for range 2 {
		registrytest.Weights(t, here, 1)
		nodes(1)
		deleteAll(t, other, o.Prefix)
		deleteAll(t, other, s.Folder)
		for _, folder := range []string{o.Prefix, s.Folder} {
			componenttest.Eventually(t, 20*time.Second, func() error {
				names, _, err := other.Children(folder)
				if err == nil && len(names) == 0 {
					err = errors.New("nothing is written anew")
				}
				return err
			})
		}
		register(t, d, "10.0.0.3:1", 3)
		must(t, d.Register(t.Context(), theirs("b", "10.0.0.3:1")))
		registrytest.Weights(t, here, 1, 3)
		nodes(2)
		must(t, d.Deregister(t.Context(), stock, "10.0.0.3:1"))
		must(t, d.Deregister(t.Context(), s, "10.0.0.3:1"))
	}
}
