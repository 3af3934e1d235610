//go:build servers

package nacos_test

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/outrigger-mesh/outrigger/components"
	"github.com/outrigger-mesh/outrigger/components/componenttest"
	"github.com/outrigger-mesh/outrigger/components/internal/backend/wiretest"
	"github.com/outrigger-mesh/outrigger/components/internal/nacosconn"
	"github.com/outrigger-mesh/outrigger/components/internal/nacosconn/nacostest"
	"github.com/outrigger-mesh/outrigger/components/registry"
	"github.com/outrigger-mesh/outrigger/components/registry/nacos"
	"github.com/outrigger-mesh/outrigger/components/registry/registrytest"
)

const back = 5 * time.Second // within which all is there again, as the issue wants it

var stock = registry.Service{Namespace: "shop", Group: "main", Name: "stock"}

// options are of namespaces that no other test has.
func options(t *testing.T, conn nacosconn.Options) nacos.Options {
	defaults, ok := registry.Drivers.Defaults("nacos")
	if !ok {
		t.Fatal("there is no driver nacos")
	}
	o := defaults.(nacos.Options)
	o.Nacos, o.Namespaces = conn, map[string]string{"shop": "shop-" + rand.Text(), "other": "other-" + rand.Text()}
	return o
}

func open(t *testing.T, shared *components.Shared, o nacos.Options) registry.Driver {
	t.Helper()
	env := components.Env{ID: components.ID{Capability: "registry", Name: "default", Driver: "nacos"}, Shared: shared,
		Logger: slog.New(slog.NewTextHandler(t.Output(), nil))}
	d, err := nacos.Open(t.Context(), env, o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := d.(components.Closer).Close(context.WithoutCancel(t.Context())); err != nil {
			t.Error(err)
		}
	})
	return d
}

// past has another process change the registry.
func past(t *testing.T, shared *components.Shared) registrytest.Backend {
	o := options(t, nacostest.Options(t))
	other := open(t, nil, o)
	return registrytest.Backend{Open: func() registry.Driver { return open(t, shared, o) },
		Put: func(r registry.Record) { register(t, other, r) },
		Remove: func(s registry.Service, address string) {
			if err := other.Deregister(t.Context(), s, address); err != nil {
				t.Error(err)
			}
		}}
}

func register(t *testing.T, d registry.Driver, r registry.Record) {
	t.Helper()
	if err := d.Register(t.Context(), r); err != nil {
		t.Error(err)
	}
}

// TestConformance has each instance be a process of its own.
func TestConformance(t *testing.T) {
	registrytest.Run(t, func(t *testing.T) registrytest.Backend { return past(t, nil) })
}

// TestConformanceOfOneConnection has the instances be components of one process.
func TestConformanceOfOneConnection(t *testing.T) {
	registrytest.Run(t, func(t *testing.T) registrytest.Backend { return past(t, components.NewShared()) })
}

// tail is a watch, and the lists that it has reported, as ADDRESS/WEIGHT.
type tail struct {
	mu    sync.Mutex
	lists []string
}

func watch(t *testing.T, d registry.Driver, s registry.Service) *tail {
	w := &tail{}
	ctx, stop := context.WithCancel(t.Context())
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		err := d.Watch(ctx, s, func(all []registry.Record) error {
			list := []string{}
			for _, r := range all {
				list = append(list, fmt.Sprint(r.Address, "/", r.Weight))
			}
			w.mu.Lock()
			defer w.mu.Unlock()
			w.lists = append(w.lists, strings.Join(list, " "))
			return nil
		})
		if ctx.Err() == nil {
			t.Errorf("the watch has ended: %v", err)
		}
	}()
	t.Cleanup(func() { stop(); <-ended })
	return w
}

// told are all lists.
func (w *tail) told() []string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return slices.Clone(w.lists)
}

func (w *tail) want(t *testing.T, limit time.Duration, list string) {
	t.Helper()
	componenttest.Eventually(t, limit, func() error {
		if told := w.told(); len(told) == 0 || told[len(told)-1] != list {
			return fmt.Errorf("told %q, want %q at the end", told, list)
		}
		return nil
	})
}

func at(address string, weight int) registry.Record {
	return registry.Record{Service: stock, Address: address, Weight: weight}
}

func gone(t *testing.T, d registry.Driver) {
	t.Helper()
	componenttest.Eventually(t, back, func() error {
		if d.(components.Checker).Check(t.Context()) == nil {
			return errors.New("the server is still there")
		}
		return nil
	})
}

// TestAllComesBack on a new connection: the records of one sidecar, several of a service, are registered again, and watches go on. What was
// taken back or registered meanwhile is told then.
func TestAllComesBack(t *testing.T) {
	w, conn := nacostest.NewWire(t)
	conn.Heartbeat, conn.Timeout = 300*time.Millisecond, 500*time.Millisecond
	o := options(t, conn)
	d := open(t, nil, o)
	direct := o
	direct.Nacos = nacostest.Options(t)
	other := open(t, nil, direct)
	mine, others := watch(t, d, stock), watch(t, other, stock)
	for _, r := range []registry.Record{at("10.0.0.1:1", 1), at("10.0.0.2:1", 1), at("10.0.0.3:1", 1)} {
		register(t, d, r)
	}
	others.want(t, back, "10.0.0.1:1/1 10.0.0.2:1/1 10.0.0.3:1/1")
	mine.want(t, back, "10.0.0.1:1/1 10.0.0.2:1/1 10.0.0.3:1/1")
	w.Set(wiretest.Cut)
	gone(t, d)
	others.want(t, back, "")
	if err := d.Register(t.Context(), at("10.0.0.4:1", 4)); !errors.Is(err, components.ErrUnavailable) {
		t.Errorf("register without a server: %v", err)
	}
	if err := d.Deregister(t.Context(), stock, "10.0.0.1:1"); !errors.Is(err, components.ErrUnavailable) {
		t.Errorf("deregister without a server: %v", err)
	}
	register(t, other, at("10.0.0.9:1", 9))
	w.Set(wiretest.Whole)
	others.want(t, back, "10.0.0.2:1/1 10.0.0.3:1/1 10.0.0.4:1/4 10.0.0.9:1/9")
	mine.want(t, back, "10.0.0.2:1/1 10.0.0.3:1/1 10.0.0.4:1/4 10.0.0.9:1/9")
	w.Set(wiretest.Cut)
	others.want(t, back, "10.0.0.9:1/9")
	w.Set(wiretest.Whole)
	others.want(t, back, "10.0.0.2:1/1 10.0.0.3:1/1 10.0.0.4:1/4 10.0.0.9:1/9")
	if told := mine.told(); slices.Contains(told[1:], "") {
		t.Errorf("who has lost the connection was told %q", told)
	}
}

// TestListsAreHeld: after a new connection no record goes from a list that was there, until it has been listed again, or hold is over.
func TestListsAreHeld(t *testing.T) {
	mine, conn := nacostest.NewWire(t)
	others, theirs := nacostest.NewWire(t)
	o := options(t, conn)
	o.Hold = time.Minute // what is told before that was not waited for
	their := o
	their.Nacos = theirs
	direct := o
	direct.Nacos = nacostest.Options(t)
	d, other, third := open(t, nil, o), open(t, nil, their), open(t, nil, direct)
	register(t, other, at("10.0.0.1:1", 1))
	register(t, other, at("10.0.0.2:1", 1))
	w, truth := watch(t, d, stock), watch(t, third, stock)
	w.want(t, back, "10.0.0.1:1/1 10.0.0.2:1/1")
	mine.Set(wiretest.Cut)
	others.Set(wiretest.Cut) // as if the server had forgotten all
	gone(t, d)
	gone(t, other)
	truth.want(t, back, "")
	mine.Set(wiretest.Whole)
	componenttest.Eventually(t, back, func() error { return d.(components.Checker).Check(t.Context()) })
	began := time.Now()
	register(t, d, at("10.0.0.3:1", 1)) // the list changes, and is short
	w.want(t, back, "10.0.0.1:1/1 10.0.0.2:1/1 10.0.0.3:1/1")
	others.Set(wiretest.Whole)
	fresh := watch(t, d, stock)
	truth.want(t, back, "10.0.0.1:1/1 10.0.0.2:1/1 10.0.0.3:1/1")
	if err := other.Deregister(t.Context(), stock, "10.0.0.2:1"); err != nil {
		t.Fatal(err)
	}
	w.want(t, back, "10.0.0.1:1/1 10.0.0.3:1/1")
	fresh.want(t, back, "10.0.0.1:1/1 10.0.0.3:1/1")
	others.Set(wiretest.Cut)
	w.want(t, back, "10.0.0.3:1/1") // and the last of them goes, too
	t.Logf("all told within %s: %q", time.Since(began), w.told())
	if slices.ContainsFunc(w.told(), func(list string) bool { return !strings.Contains(list, "10.0.0.1:1") && list != "10.0.0.3:1/1" }) {
		t.Errorf("told %q: what was there before was missing", w.told())
	}
}

// TestHeldRecordsGo when hold is over and nobody has registered them again, the last one, too.
func TestHeldRecordsGo(t *testing.T) {
	mine, conn := nacostest.NewWire(t)
	o := options(t, conn)
	o.Hold = time.Second
	direct := o
	direct.Nacos = nacostest.Options(t)
	d, other := open(t, nil, o), open(t, nil, direct)
	register(t, other, at("10.0.0.1:1", 1))
	w, truth := watch(t, d, stock), watch(t, other, stock)
	w.want(t, back, "10.0.0.1:1/1")
	mine.Set(wiretest.Cut)
	gone(t, d)
	if err := other.Deregister(t.Context(), stock, "10.0.0.1:1"); err != nil {
		t.Fatal(err)
	}
	truth.want(t, back, "")
	mine.Set(wiretest.Whole)
	componenttest.Eventually(t, back, func() error { return d.(components.Checker).Check(t.Context()) })
	if told := w.told(); told[len(told)-1] == "" {
		t.Errorf("told %q at once", told)
	}
	w.want(t, o.Hold+back, "")
}

// TestPushesOfAnotherNamespace: they do not say which they are of.
func TestPushesOfAnotherNamespace(t *testing.T) {
	o := options(t, nacostest.Options(t))
	d, other := open(t, nil, o), open(t, nil, o)
	theirs := stock
	theirs.Namespace = "other"
	mine, yours := watch(t, d, stock), watch(t, d, theirs)
	mine.want(t, back, "")
	yours.want(t, back, "")
	r := at("10.0.0.1:1", 1)
	r.Service = theirs
	register(t, other, r)
	yours.want(t, back, "10.0.0.1:1/1")
	register(t, other, at("10.0.0.2:1", 2))
	mine.want(t, back, "10.0.0.2:1/2")
	if told := append(mine.told(), yours.told()...); !slices.Equal(told, []string{"", "10.0.0.2:1/2", "", "10.0.0.1:1/1"}) {
		t.Errorf("told %q", told)
	}
}

// TestWhatIsRefused leaves what was registered before, and is not tried for ever.
func TestWhatIsRefused(t *testing.T) {
	o := options(t, nacostest.Options(t))
	log := &strings.Builder{}
	d, err := nacos.Open(t.Context(), components.Env{Logger: slog.New(slog.NewTextHandler(log, nil))}, o)
	if err != nil {
		t.Fatal(err)
	}
	w := watch(t, open(t, nil, o), stock)
	register(t, d, at("10.0.0.1:1", 1))
	for _, address := range []string{"10.0.0.1:1", "10.0.0.2:1"} {
		bad := at(address, 7)
		bad.Metadata = map[string]string{"long": strings.Repeat("x", 1024)}
		if err := d.Register(t.Context(), bad); !errors.Is(err, components.ErrInvalid) {
			t.Errorf("%v, want ErrInvalid", err)
		}
	}
	register(t, d, at("10.0.0.3:1", 3))
	w.want(t, back, "10.0.0.1:1/1 10.0.0.3:1/3")
	long := at("10.0.0.1:1", 1)
	long.Name = strings.Repeat("ü", 256)
	if err := d.Register(t.Context(), long); !errors.Is(err, components.ErrInvalid) {
		t.Errorf("a long name: %v, want ErrInvalid", err)
	}
	if err := d.(components.Closer).Close(t.Context()); err != nil || log.Len() > 0 {
		t.Errorf("%v; it has logged %s", err, log)
	}
}
