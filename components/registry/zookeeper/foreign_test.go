//go:build servers

package zookeeper_test

import (
	"crypto/rand"
	"errors"
	"testing"
	"time"

	"github.com/go-zookeeper/zk"

	"github.com/outrigger-mesh/outrigger/components"
	"github.com/outrigger-mesh/outrigger/components/componenttest"
	"github.com/outrigger-mesh/outrigger/components/registry"
)

// foreign is a service that nobody has heard of, in a folder whose parents are not there.
func foreign() registry.Service {
	return registry.Service{Namespace: "dubbo", Name: "peer.Hello", Folder: "/dubbo-" + rand.Text() + "/peer.Hello/providers"}
}

// client is a program that knows nothing of sidecars.
func client(t *testing.T) *zk.Conn {
	t.Helper()
	conn, _, err := zk.Connect(options(t).Addresses, 5*time.Second, zk.WithLogInfo(false))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(conn.Close)
	return conn
}

// follow answers what a watch is told, one list after the other.
func follow(t *testing.T, d registry.Driver, s registry.Service) <-chan []registry.Record {
	lists := make(chan []registry.Record, 100)
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		_ = d.Watch(t.Context(), s, func(all []registry.Record) error { lists <- all; return nil })
	}()
	t.Cleanup(func() { <-ended })
	return lists
}

func next(t *testing.T, lists <-chan []registry.Record) []registry.Record {
	t.Helper()
	select {
	case l := <-lists:
		return l
	case <-time.After(10 * time.Second):
		t.Fatal("told nothing in 10 seconds")
	}
	return nil
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// TestForeignRecordsAreSeenByAll: a node of that name and content, ephemeral; and what others write is read as it is.
func TestForeignRecordsAreSeenByAll(t *testing.T) {
	d, other, s := open(t, options(t)), client(t), foreign()
	lists := follow(t, d, s)
	if first := next(t, lists); len(first) != 0 {
		t.Errorf("first told %v", first)
	}
	if there, _, err := other.Exists(s.Folder); err != nil || there {
		t.Errorf("to watch a folder makes it: %t, %v", there, err)
	}
	r := registry.Record{Service: s, Address: "10.0.0.1:7080", Node: "dubbo%3A%2F%2F10.0.0.1%3A7080%3Fv%3D1", Data: "10.0.0.1"}
	must(t, d.Register(t.Context(), r))
	data, stat, err := other.Get(s.Folder + "/" + r.Node)
	if err != nil || string(data) != r.Data || stat.EphemeralOwner == 0 {
		t.Errorf("written as %q, owner %x, %v", data, stat.EphemeralOwner, err)
	}
	if l := next(t, lists); len(l) != 1 || l[0].Node != r.Node || l[0].Data != r.Data {
		t.Errorf("told %v", l)
	}
	changed := r
	changed.Node += "%26w%3D2"
	must(t, d.Register(t.Context(), changed))
	if l := next(t, lists); len(l) != 1 || l[0].Node != changed.Node { // in one step
		t.Errorf("told %v", l)
	}
	_, err = other.Create(s.Folder+"/theirs", []byte("x"), zk.FlagEphemeral, zk.WorldACL(zk.PermAll))
	must(t, err)
	if l := next(t, lists); len(l) != 2 {
		t.Errorf("told %v", l)
	}
	must(t, d.Deregister(t.Context(), s, r.Address))
	if l := next(t, lists); len(l) != 1 || l[0].Node != "theirs" || l[0].Data != "x" {
		t.Errorf("told %v", l)
	}
}

// TestForeignRecordsThatChange are told as they become, also when another takes the place of one: Spring Cloud says so that an instance is
// out of service, and what it weighs.
func TestForeignRecordsThatChange(t *testing.T) {
	d, other, s := open(t, options(t)), client(t), foreign()
	lists := follow(t, d, s)
	next(t, lists)
	node := s.Folder + "/3f1c"
	must(t, d.Register(t.Context(), registry.Record{Service: s, Address: "10.0.0.1:7080", Node: "ours", Data: "1"}))
	next(t, lists)
	_, err := other.Create(node, []byte("0"), zk.FlagEphemeral, zk.WorldACL(zk.PermAll))
	must(t, err)
	told := func(want string) {
		t.Helper()
		for {
			for _, r := range next(t, lists) {
				if r.Node == "3f1c" && r.Data == want {
					return
				}
			}
		}
	}
	told("0")
	for _, data := range []string{"1", "2"} {
		_, err = other.Set(node, []byte(data), -1)
		must(t, err)
		told(data)
	}
	_, err = other.Multi(&zk.DeleteRequest{Path: node, Version: -1},
		&zk.CreateRequest{Path: node, Data: []byte("3"), Acl: zk.WorldACL(zk.PermAll), Flags: zk.FlagEphemeral})
	must(t, err)
	told("3")
}

// TestForeignRecordOfWhoCameBefore: a sidecar that is started anew takes the place of the node that is left, which does not go with the
// session before, nor by what its driver still does.
func TestForeignRecordOfWhoCameBefore(t *testing.T) {
	o, s, other := options(t), foreign(), client(t)
	before, after := open(t, o), open(t, o)
	lists := follow(t, after, s)
	next(t, lists)
	r := registry.Record{Service: s, Address: "10.0.0.1:7080", Node: "same", Data: "1"}
	must(t, before.Register(t.Context(), r))
	next(t, lists)
	must(t, after.Register(t.Context(), r))
	must(t, before.Deregister(t.Context(), s, r.Address))
	componenttest.Close(t, before)
	there, stat, err := other.Exists(s.Folder + "/same")
	if err != nil || !there {
		t.Fatalf("the node is there: %t, %v", there, err)
	}
	must(t, after.Deregister(t.Context(), s, r.Address))
	if there, _, _ := other.Exists(s.Folder + "/same"); there {
		t.Errorf("the node of %x is still there", stat.EphemeralOwner)
	}
	for len(next(t, lists)) != 0 {
	}
}

// TestForeignServicesLieElsewhere than ours.
func TestForeignServicesLieElsewhere(t *testing.T) {
	o := options(t)
	d := open(t, o).(registry.Foreigners)
	for _, folder := range []string{"", o.Prefix, o.Prefix + "/x"} {
		if err := d.CheckForeign(registry.Service{Namespace: "a", Name: "b", Folder: folder}); !errors.Is(err, components.ErrInvalid) {
			t.Errorf("%q: %v", folder, err)
		}
	}
	must(t, d.CheckForeign(foreign()))
}
