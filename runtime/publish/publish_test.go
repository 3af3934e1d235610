package publish_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/outrigger-mesh/outrigger/components"
	"github.com/outrigger-mesh/outrigger/components/registry"
	"github.com/outrigger-mesh/outrigger/runtime/mesh"
	"github.com/outrigger-mesh/outrigger/runtime/mesh/naming"
	"github.com/outrigger-mesh/outrigger/runtime/mesh/naming/native"
	"github.com/outrigger-mesh/outrigger/runtime/publish"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const own = "10.0.0.1:7080"

// central is a registry in the hands of a test.
type central struct {
	mu      sync.Mutex
	down    error
	records map[string]registry.Record // by name and group
	log     []string
}

func (c *central) set(down error) { c.mu.Lock(); c.down = down; c.mu.Unlock() }

func (c *central) Register(_ context.Context, r registry.Record) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.down != nil {
		return c.down
	}
	c.records[r.Name+"|"+r.Group] = r
	c.log = append(c.log, "+"+r.Name)
	return nil
}

func (c *central) Deregister(_ context.Context, s registry.Service, _ string) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.down != nil {
		return c.down
	}
	delete(c.records, s.Name+"|"+s.Group)
	c.log = append(c.log, "-"+s.Name)
	return nil
}

func (c *central) Watch(ctx context.Context, _ registry.Service, _ func([]registry.Record) error) error {
	<-ctx.Done()
	return ctx.Err()
}

// have answers a record once it is there.
func (c *central) have(t *testing.T, id string) (r registry.Record) {
	t.Helper()
	eventually(t, func() error {
		c.mu.Lock()
		defer c.mu.Unlock()
		found, ok := c.records[id]
		if r = found; !ok {
			return fmt.Errorf("%s is not in the registry", id)
		}
		return nil
	})
	return r
}

func (c *central) lack(t *testing.T, id string) {
	t.Helper()
	eventually(t, func() error {
		c.mu.Lock()
		defer c.mu.Unlock()
		if _, ok := c.records[id]; ok {
			return fmt.Errorf("%s is in the registry", id)
		}
		return nil
	})
}

func (c *central) count() int { c.mu.Lock(); defer c.mu.Unlock(); return len(c.log) }

func eventually(t *testing.T, ask func() error) {
	t.Helper()
	var err error
	for end := time.Now().Add(20 * time.Second); ; time.Sleep(2 * time.Millisecond) {
		if err = ask(); err == nil {
			return
		}
		if time.Now().After(end) {
			t.Fatal(err)
		}
	}
}

type observer struct{}

func (observer) Observe(context.Context, components.ID, string, time.Time, error) {}

// bench is a publisher before a registry that a test can break.
type bench struct {
	*publish.Publisher
	central *central
	other   naming.Form
	log     bytes.Buffer
}

func start(t *testing.T, file string) *bench {
	t.Helper()
	return startWith(t, file, func(*publish.Options) {})
}

// startWith is start with other options.
func startWith(t *testing.T, file string, change func(*publish.Options)) *bench {
	t.Helper()
	b := &bench{central: &central{records: map[string]registry.Record{}}}
	c := components.NewComponent[registry.Driver](components.ID{Capability: "registry", Name: "default", Driver: "test"}, components.Limits{}, observer{})
	c.Set(b.central)
	front := registry.New(c)
	o := publish.Options{Announce: own, File: file,
		Names: naming.Names{Registry: func() (*registry.Registry, error) { return front, nil }, Native: native.Form{}, Other: func(string) naming.Form { return b.other }}, App: "orders",
		Probe: 5 * time.Millisecond, Logger: slog.New(slog.NewTextHandler(&b.log, nil))}
	change(&o)
	var err error
	if b.Publisher, err = publish.New(o); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { b.Close(); front.Close() })
	return b
}

// serve is an application's port.
func serve(t *testing.T, port int) (net.Listener, int) {
	t.Helper()
	ln, err := net.Listen("tcp", fmt.Sprint("127.0.0.1:", port))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { ln.Close() })
	return ln, ln.Addr().(*net.TCPAddr).Port
}

func service(name string) mesh.Service { return mesh.Service{Namespace: "shop", Name: name} }

func (b *bench) publish(t *testing.T, pub publish.Publication) {
	t.Helper()
	if got, err := b.Publish(t.Context(), pub); err != nil || got != own {
		t.Fatalf("announced as %q, %v", got, err)
	}
}

func TestAnnouncedWhileThePortAnswers(t *testing.T) {
	b := start(t, "")
	app, port := serve(t, 0)
	app.Close()
	b.publish(t, publish.Publication{Service: service("stock"), Port: port})
	time.Sleep(50 * time.Millisecond)
	b.central.lack(t, "stock|")
	if b.Answers("stock") {
		t.Fatal("a port that nobody listens on answers")
	}
	app, _ = serve(t, port)
	if r := b.central.have(t, "stock|"); r.Address != own || r.Weight != 100 {
		t.Fatalf("announced as %+v", r)
	}
	if !b.Answers("stock") {
		t.Fatal("the port answers, and it is not seen")
	}
	app.Close()
	b.central.lack(t, "stock|")
}

func TestChangeGoesToTheRegistryInOrder(t *testing.T) {
	b := start(t, "")
	_, port := serve(t, 0)
	pub := publish.Publication{Service: service("stock"), Port: port}
	b.publish(t, pub)
	b.central.have(t, "stock|")
	for weight := 1; weight <= 50; weight++ { // each takes the place of the one before, and none takes it out
		pub.Weight = weight
		b.publish(t, pub)
	}
	eventually(t, func() error {
		if r := b.central.have(t, "stock|"); r.Weight != 50 {
			return fmt.Errorf("weight %d", r.Weight)
		}
		return nil
	})
	time.Sleep(50 * time.Millisecond)
	b.central.have(t, "stock|")
	if err := b.Unpublish(t.Context(), service("stock")); err != nil {
		t.Fatal(err)
	}
	b.publish(t, pub)
	time.Sleep(50 * time.Millisecond)
	b.central.have(t, "stock|")
}

func TestPortThatMoves(t *testing.T) {
	b := start(t, "")
	one, first := serve(t, 0)
	b.publish(t, publish.Publication{Service: service("stock"), Port: first})
	b.central.have(t, "stock|")
	two, second := serve(t, 0)
	one.Close()
	b.publish(t, publish.Publication{Service: service("stock"), Port: second})
	if port, ok := b.Port("stock", ""); !ok || port != second {
		t.Fatalf("calls go to port %d", port)
	}
	if b.Uses(first) || !b.Uses(second) {
		t.Errorf("%d is used: %v, and %d: %v", first, b.Uses(first), second, b.Uses(second))
	}
	time.Sleep(50 * time.Millisecond)
	b.central.have(t, "stock|") // it was never taken out
	two.Close()
	b.central.lack(t, "stock|")
}

func TestPublishingAgainDoesNothing(t *testing.T) {
	file := filepath.Join(t.TempDir(), "p.json")
	b := start(t, file)
	_, port := serve(t, 0)
	pub := publish.Publication{Service: service("stock"), Port: port, Labels: map[string]string{"v": "1"}}
	b.publish(t, pub)
	b.central.have(t, "stock|")
	time.Sleep(50 * time.Millisecond) // the registry's front tells a new driver twice
	before := b.central.count()
	if err := os.Chmod(file, 0o400); err != nil { // a mark that a new file would not have
		t.Fatal(err)
	}
	for range 10 {
		b.publish(t, pub)
	}
	if info, err := os.Stat(file); err != nil || info.Mode().Perm() != 0o400 {
		t.Errorf("the file was written again: %v, %v", info, err)
	}
	time.Sleep(50 * time.Millisecond)
	if n := b.central.count(); n != before {
		t.Fatalf("the registry was told %d times more", n-before)
	}
}

func TestAskedGoesBeforeDeclared(t *testing.T) {
	b := start(t, "")
	_, port := serve(t, 0)
	_, other := serve(t, 0)
	b.Declare([]publish.Publication{{Service: service("stock"), Port: port, Weight: 10}})
	b.central.have(t, "stock|")
	b.publish(t, publish.Publication{Service: service("stock"), Port: other, Weight: 20})
	weight := func(want int) {
		t.Helper()
		eventually(t, func() error {
			if r := b.central.have(t, "stock|"); r.Weight != want {
				return fmt.Errorf("weight %d, want %d", r.Weight, want)
			}
			return nil
		})
	}
	weight(20)
	if err := b.Unpublish(t.Context(), service("stock")); err != nil {
		t.Fatal(err)
	}
	weight(10) // what is declared stands again
	if got, _ := b.Port("stock", ""); got != port {
		t.Fatalf("calls go to port %d, want the declared %d", got, port)
	}
	b.Declare(nil)
	b.central.lack(t, "stock|")
}

func TestGroupsAndVersions(t *testing.T) {
	b := start(t, "")
	_, port := serve(t, 0)
	_, other := serve(t, 0)
	pub := publish.Publication{Service: mesh.Service{Namespace: "shop", Name: "stock", Group: "g", Version: "1"}, Port: port}
	b.publish(t, pub)
	plain := publish.Publication{Service: service("stock"), Port: port}
	b.publish(t, plain)
	b.central.have(t, "stock|g")
	b.central.have(t, "stock|")
	plain.Port = other
	if _, err := b.Publish(t.Context(), plain); !errors.Is(err, components.ErrInvalid) || !strings.Contains(err.Error(), fmt.Sprint(port)) {
		t.Fatalf("a second port for another group: %v", err)
	}
	pub.Service.Version = "2"
	b.publish(t, pub)
	before := pub.Service
	before.Version = "1"
	if err := b.Unpublish(t.Context(), before); err != nil { // another has taken its place
		t.Fatal(err)
	}
	eventually(t, func() error {
		if r := b.central.have(t, "stock|g"); r.Metadata["outrigger.version"] != "2" {
			return fmt.Errorf("announced with %v", r.Metadata)
		}
		return nil
	})
	if err := b.Unpublish(t.Context(), service("stock")); err != nil {
		t.Fatal(err)
	}
	b.central.lack(t, "stock|")
	b.central.have(t, "stock|g")
	if got, ok := b.Port("stock", ""); !ok || got != port {
		t.Fatalf("calls of the group that is left go to port %d, %v", got, ok)
	}
}

// Of Dubbo's services the one without a version is one of its own.
func TestUnpublishesOneVersionOfDubbo(t *testing.T) {
	b := start(t, "")
	_, port := serve(t, 0)
	for _, version := range []string{"", "1.0"} {
		s := service("stock")
		s.Protocol, s.Version = "dubbo", version
		b.publish(t, publish.Publication{Service: s, Port: port})
	}
	s := service("stock")
	s.Protocol, s.Version = "dubbo", "0.0.0" // as Dubbo writes that there is none
	if err := b.Unpublish(t.Context(), s); err != nil {
		t.Fatal(err)
	}
	s.Version = "1.0"
	if _, ok := b.Port("stock", "dubbo"); !ok {
		t.Error("it is not found by the protocol that it is published by")
	}
	if port, ok := b.Port("stock", "tcp"); ok {
		t.Errorf("it is found at %d by a protocol that it is not published by", port)
	}
	if _, ok := b.Port("stock", "dubbo"); !ok {
		t.Error("version 1.0 has gone as well")
	}
	if err := b.Unpublish(t.Context(), s); err != nil {
		t.Fatal(err)
	}
	if _, ok := b.Port("stock", "dubbo"); ok {
		t.Error("version 1.0 is still published")
	}
}

func TestRefusesWhatCannotBeAnnounced(t *testing.T) {
	b := start(t, "")
	for _, pub := range []publish.Publication{
		{Service: service("a"), Port: 0}, {Service: service("a"), Port: 65536}, {Service: service("a"), Port: -1},
		{Service: service("a"), Port: 1, Weight: -1}, {Service: service(""), Port: 1}, {Service: service("a\x00"), Port: 1},
	} {
		if _, err := b.Publish(t.Context(), pub); !errors.Is(err, components.ErrInvalid) {
			t.Errorf("%+v: %v", pub, err)
		}
	}
}

func TestWithdrawWaitsForTheRegistry(t *testing.T) {
	b := start(t, "")
	_, port := serve(t, 0)
	b.publish(t, publish.Publication{Service: service("stock"), Port: port})
	b.central.have(t, "stock|")
	b.central.set(fmt.Errorf("%w: connection refused", components.ErrUnavailable))
	short, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if err := b.Withdraw(short); !errors.Is(err, context.DeadlineExceeded) {
		t.Fatalf("the registry has not heard, but Withdraw said %v", err)
	}
	b.central.set(nil)
	limit, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	if err := b.Withdraw(limit); err != nil {
		t.Fatal(err)
	}
	if b.central.mu.Lock(); len(b.central.records) != 0 {
		t.Fatalf("still there: %v", b.central.records)
	}
	b.central.mu.Unlock()
	b.publish(t, publish.Publication{Service: service("late"), Port: port})
	time.Sleep(50 * time.Millisecond)
	b.central.lack(t, "late|")
}

// The registry was away when the port answered, and is back when it no longer does.
func TestNothingIsAnnouncedForAPortThatHasGone(t *testing.T) {
	b := start(t, "")
	app, port := serve(t, 0)
	b.central.set(fmt.Errorf("%w: connection refused", components.ErrUnavailable))
	b.publish(t, publish.Publication{Service: service("stock"), Port: port})
	eventually(t, func() error {
		if !b.Answers("stock") {
			return errors.New("the port was not tried yet")
		}
		return nil
	})
	app.Close()
	eventually(t, func() error {
		if b.Answers("stock") {
			return errors.New("the port still answers")
		}
		return nil
	})
	b.central.set(nil)
	time.Sleep(time.Second) // the front's own attempts included
	b.central.lack(t, "stock|")
}

func TestKeptAcrossARestart(t *testing.T) {
	file := filepath.Join(t.TempDir(), "deep", "p.json")
	_, port := serve(t, 0)
	b := start(t, file)
	pub := publish.Publication{Service: mesh.Service{Namespace: "shop", Name: "stock", Group: "g", Version: "1", Protocol: "grpc"},
		Port: port, Weight: 7, Zone: "z", Labels: map[string]string{"k": "v"}}
	b.publish(t, pub)
	before := b.central.have(t, "stock|g")
	if err := b.Withdraw(t.Context()); err != nil {
		t.Fatal(err)
	}
	b.Close()
	again := start(t, file)
	if after := again.central.have(t, "stock|g"); fmt.Sprint(after) != fmt.Sprint(before) {
		t.Fatalf("announced again as %+v, before as %+v", after, before)
	}
	left, err := filepath.Glob(filepath.Join(filepath.Dir(file), "*"))
	if err != nil || len(left) != 1 {
		t.Fatalf("files left: %v, %v", left, err)
	}
}

func TestDamagedFileIsSetAside(t *testing.T) {
	for name, text := range map[string]string{
		"empty": "", "torn": `{"version":1,"publications":[{"na`, "of another version": `{"version":99,"publications":[]}`,
		"with a bad port": `{"version":1,"publications":[{"namespace":"shop","name":"a","port":0}]}`,
	} {
		t.Run(name, func(t *testing.T) {
			file := filepath.Join(t.TempDir(), "p.json")
			if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
				t.Fatal(err)
			}
			b := start(t, file)
			aside, err := filepath.Glob(file + ".damaged-*")
			if err != nil || len(aside) != 1 {
				t.Fatalf("set aside: %v, %v", aside, err)
			}
			if kept, err := os.ReadFile(aside[0]); err != nil || string(kept) != text {
				t.Fatalf("what was set aside is %q, %v", kept, err)
			}
			if !strings.Contains(b.log.String(), "level=ERROR") || !strings.Contains(b.log.String(), aside[0]) {
				t.Fatalf("the log does not say so: %s", b.log.String())
			}
			_, port := serve(t, 0)
			b.publish(t, publish.Publication{Service: service("stock"), Port: port})
			b.central.have(t, "stock|")
		})
	}
}

func TestPublishFailsWhenItCannotBeKept(t *testing.T) {
	dir := t.TempDir()
	b := start(t, filepath.Join(dir, "sub", "p.json"))
	if err := os.WriteFile(filepath.Join(dir, "sub"), nil, 0o600); err != nil { // where a folder is needed
		t.Fatal(err)
	}
	if _, err := b.Publish(t.Context(), publish.Publication{Service: service("stock"), Port: 1}); !errors.Is(err, components.ErrUnavailable) {
		t.Fatal(err)
	}
	if _, ok := b.Port("stock", ""); ok {
		t.Fatal("what was refused is there")
	}
}
