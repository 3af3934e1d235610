package naming_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"

	"github.com/outrigger-mesh/outrigger/components"
	"github.com/outrigger-mesh/outrigger/components/registry"
	"github.com/outrigger-mesh/outrigger/runtime/mesh"
	"github.com/outrigger-mesh/outrigger/runtime/mesh/naming"
	"github.com/outrigger-mesh/outrigger/runtime/mesh/naming/native"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// board is a registry that a test writes into: lists by folder, "" for those of ours.
type board struct {
	registry.Driver
	lists map[string]chan []registry.Record
}

func (b *board) CheckForeign(registry.Service) error { return nil }

func (b *board) Watch(ctx context.Context, s registry.Service, report func([]registry.Record) error) error {
	for {
		select {
		case all := <-b.lists[s.Folder]:
			for i := range all {
				all[i].Service = s
			}
			if err := report(all); err != nil {
				return err
			}
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

type observer struct{}

func (observer) Observe(context.Context, components.ID, string, time.Time, error) {}

func names(d registry.Driver, driver string) naming.Names {
	c := components.NewComponent[registry.Driver](components.ID{Capability: "registry", Name: "default", Driver: driver}, components.Limits{}, observer{})
	c.Set(d)
	front := registry.New(c)
	return naming.Names{Registry: func() (*registry.Registry, error) { return front, nil }, Native: native.Form{},
		Other: func(protocol string) naming.Form { return forms[protocol] }}
}

func hello(address string, port int) naming.Provider {
	return naming.Provider{Service: service("dubbo", "peer.Hello"), App: "orders", Port: port, Instance: mesh.Instance{Address: address, Weight: 100}}
}

// TestOneInstanceOfEachProcess, whoever has registered it and in how many forms.
func TestOneInstanceOfEachProcess(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := service("dubbo", "peer.Hello")
		at, _ := forms["dubbo"].Place("zookeeper", s)
		b := &board{lists: map[string]chan []registry.Record{"": make(chan []registry.Record), at.Folder: make(chan []registry.Record)}}
		n := names(b, "zookeeper")
		var seen []string
		ctx, stop := context.WithCancel(t.Context())
		ended := make(chan error, 1)
		go func() {
			ended <- n.Watch(ctx, s, func(all []mesh.Instance) error {
				text := ""
				for _, in := range all {
					text += fmt.Sprintf("%s/%t/%d ", in.Address, in.Direct, in.Weight)
				}
				seen = append(seen, strings.TrimSpace(text))
				return nil
			})
		}()
		mine := func(p naming.Provider) registry.Record { return native.Form{}.Record(registry.Service{}, p) }
		theirs := func(p naming.Provider, marked bool) registry.Record {
			r := forms["dubbo"].Record(at, p)
			if !marked {
				r.Node, _, _ = strings.Cut(r.Node, "%26outrigger.")
			}
			return registry.Record{Node: r.Node}
		}
		put := func(where string, all ...registry.Record) {
			b.lists[where] <- all
			synctest.Wait()
		}
		direct := theirs(hello("10.0.0.1:20880", 0), false)
		put("")
		if len(seen) != 0 {
			t.Errorf("told %q before both forms were read", seen)
		}
		put(at.Folder, direct)                                              // no sidecar yet
		put("", mine(hello("10.0.0.1:7080", 20880)))                        // one, and its application registers as before
		put(at.Folder, direct, theirs(hello("10.0.0.1:7080", 20880), true)) // it writes the other form, too
		put(at.Folder, theirs(hello("10.0.0.1:7080", 20880), true))         // the application has ceased to
		put(at.Folder, theirs(hello("10.0.0.1:7080", 0), false))            // it registers the sidecar's address itself
		put("")                                                             // the sidecar has gone, so that is all there is
		put(at.Folder, direct, theirs(hello("10.0.0.2:20880", 0), false))   // two without
		itself := hello("10.0.0.1:7080", 20880)
		itself.Itself = true
		put("", mine(itself)) // one is to register itself by its sidecar's address, and has not yet
		its := theirs(hello("10.0.0.1:7080", 0), false)
		put(at.Folder, its)                                                    // it has
		put(at.Folder, registry.Record{Node: its.Node + "%26weight%3D50"})     // at half of the weight
		put(at.Folder, registry.Record{Node: its.Node + "%26disabled%3Dtrue"}) // and at none
		put(at.Folder, its)
		gone := itself
		gone.Instance.Weight = 0
		put("", mine(gone)) // it does not answer, and has left its own behind
		put(at.Folder)      // it has taken that back, and listens on
		const one, two = "10.0.0.1:20880/true/100", "10.0.0.1:20880/true/100 10.0.0.2:20880/true/100"
		const meshed = "10.0.0.1:7080/false/100"
		want := []string{one, meshed, meshed, meshed, meshed, "10.0.0.1:7080/true/100", two, two, meshed, "10.0.0.1:7080/false/50", "10.0.0.1:7080/false/0", meshed, "10.0.0.1:7080/false/0", ""}
		if !slices.Equal(seen, want) {
			t.Errorf("told %q, want %q", seen, want)
		}
		stop()
		if err := <-ended; !errors.Is(err, context.Canceled) {
			t.Error(err)
		}
	})
}

// TestRecordsOfAProvider: in ours and its ecosystem's form where the registry has that; the latter not if it writes it itself.
func TestRecordsOfAProvider(t *testing.T) {
	for _, c := range []struct {
		driver, protocol string
		itself           bool
		want             string
	}{
		{"zookeeper", "dubbo", false, " /dubbo/peer.Hello/providers"}, {"zookeeper", "dubbo", true, ""}, {"zookeeper", "bolt", false, " /sofa-rpc/peer.Hello/providers"},
		{"zookeeper", "http", false, " /services/peer.Hello"}, {"zookeeper", "grpc", false, ""}, {"local", "dubbo", false, ""},
	} {
		n := names(&board{}, c.driver)
		front, _ := n.Registry()
		p := hello("10.0.0.1:7080", 20880)
		p.Service, p.Itself = service(c.protocol, "peer.Hello"), c.itself
		var got []string
		for _, r := range n.Records(front, p) {
			got = append(got, r.Folder)
		}
		if strings.Join(got, " ") != c.want {
			t.Errorf("%s, %s, %t: in %q, want %q", c.driver, c.protocol, c.itself, got, c.want)
		}
	}
}

// TestSourceOfADirectory: a registry that is not there is told of.
func TestSourceOfADirectory(t *testing.T) {
	n := naming.Names{Registry: func() (*registry.Registry, error) { return nil, components.ErrNotFound }, Native: native.Form{}}
	if err := n.Watch(t.Context(), service("dubbo", "x"), nil); !errors.Is(err, components.ErrNotFound) {
		t.Errorf("without a registry: %v", err)
	}
}

// A thousand changes a second for a while: each holds once it has come, none has to wait for the next, and calls go on.
func TestAThousandChangesASecond(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := service("grpc", "peer.Hello")
		b := &board{lists: map[string]chan []registry.Record{"": make(chan []registry.Record)}}
		d := mesh.NewDirectory(names(b, "local"), slog.New(slog.DiscardHandler))
		defer d.Close()
		e := &mesh.Router{Directory: d, MaxHops: 8}
		entry := d.Find(s)
		var told int // what a watcher knows
		go d.Watch(t.Context(), s, func(now *mesh.Snapshot) error {
			told = now.Endpoints[0].Instance().Weight
			return nil
		})
		for weight := 1; weight <= 3000; weight++ {
			p := hello("10.0.0.1:7080", 20880)
			p.Service, p.Instance.Weight = s, weight
			b.lists[""] <- []registry.Record{native.Form{}.Record(registry.Service{}, p)}
			synctest.Wait()
			now := entry.Snapshot()
			if len(now.Endpoints) != 1 || now.Endpoints[0].Instance().Weight != weight || told != weight {
				t.Fatalf("change %d is not in force; a watcher was told %d", weight, told)
			}
			if _, err := e.Route(&mesh.Request{Protocol: "grpc", Service: s}); err != nil {
				t.Fatal(err)
			}
			time.Sleep(time.Millisecond)
		}
	})
}
