package host_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"

	"github.com/outrigger-mesh/outrigger/components"
	"github.com/outrigger-mesh/outrigger/runtime/config"
	"github.com/outrigger-mesh/outrigger/runtime/host"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// driver is what the tests' back end looks like; front is what stands before it.
type driver struct {
	name   string
	b      *backend
	closed atomic.Bool
}

func (d *driver) Check(context.Context) error {
	d.b.checks.Add(1)
	return d.b.illness()
}

func (d *driver) Close(context.Context) error {
	if d.b.closing != nil {
		d.b.closing(d.name)
	}
	if !d.closed.Swap(true) {
		d.b.open.Add(-1)
	}
	return nil
}

type front struct {
	c      *components.Component[*driver]
	closed *atomic.Int32
}

func (f front) Close() { f.closed.Add(1) }

func (f front) call(ctx context.Context, hold time.Duration) (name string, err error) {
	call, err := f.c.Begin(ctx, "test")
	if err != nil {
		return "", err
	}
	defer call.End(&err)
	time.Sleep(hold)
	if call.Driver.closed.Load() {
		return "", errors.New("the driver was closed under a call")
	}
	return call.Driver.name, call.Driver.b.illness()
}

// backend is a server in the hands of a test.
type backend struct {
	mu     sync.Mutex
	down   error // of opening
	ill    error // of calls and checks
	checks atomic.Int32
	opened []string
	open   atomic.Int32
	ended  atomic.Int32 // fronts that were told of their end
	most   atomic.Int32

	opening func(ctx context.Context, name string) error // nil: it succeeds at once
	closing func(name string)
}

func (b *backend) set(down error)    { b.mu.Lock(); b.down = down; b.mu.Unlock() }
func (b *backend) sicken(with error) { b.mu.Lock(); b.ill = with; b.mu.Unlock() }
func (b *backend) illness() error    { b.mu.Lock(); defer b.mu.Unlock(); return b.ill }

type options struct{ name string }
type exclusive struct{ name string }

func (exclusive) Exclusive() bool { return true }

func (b *backend) dial(ctx context.Context, name string) (*driver, error) {
	if b.opening != nil {
		if err := b.opening(ctx, name); err != nil {
			return nil, err
		}
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.down != nil {
		return nil, b.down
	}
	if name == "broken" {
		return nil, errors.New("no such database")
	}
	b.opened = append(b.opened, name)
	n := b.open.Add(1)
	b.most.Store(max(b.most.Load(), n))
	return &driver{name: name, b: b}, nil
}

type bench struct {
	*host.Host
	fronts *host.Fronts[front]
	b      *backend
	log    *lockedBuffer
}

type lockedBuffer struct {
	mu sync.Mutex
	b  strings.Builder
}

func (l *lockedBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}
func (l *lockedBuffer) String() string { l.mu.Lock(); defer l.mu.Unlock(); return l.b.String() }

func newBench(t *testing.T) *bench {
	b, log := &backend{}, &lockedBuffer{}
	r := components.NewPrivateRegistry[*driver]("test")
	components.Register(r, "plain", options{}, func(ctx context.Context, _ components.Env, o options) (*driver, error) { return b.dial(ctx, o.name) })
	components.Register(r, "other", options{}, func(ctx context.Context, _ components.Env, o options) (*driver, error) { return b.dial(ctx, o.name) })
	components.Register(r, "sole", exclusive{}, func(ctx context.Context, _ components.Env, o exclusive) (*driver, error) { return b.dial(ctx, o.name) })
	components.Register(r, "rude", options{}, func(context.Context, components.Env, options) (*driver, error) { panic("driver bug") })
	h := host.New(host.Options{Logger: slog.New(slog.NewTextHandler(log, nil))})
	f := host.Add(h, r, func(c *components.Component[*driver]) front { return front{c, &b.ended} })
	t.Cleanup(func() {
		h.Close(context.Background())
		if n := b.open.Load(); n != 0 {
			t.Errorf("%d instances were not closed", n)
		}
	})
	return &bench{h, f, b, log}
}

func comp(name, drv, value string) config.Component {
	var o any = options{value}
	if drv == "sole" {
		o = exclusive{value}
	}
	return config.Component{ID: components.ID{Capability: "test", Name: name, Driver: drv}, Position: "f.yaml:1:1",
		Resolve: func(func(string, string) (string, error)) (any, error) { return o, nil }}
}

func conf(all ...config.Component) *config.Config { return &config.Config{Components: all} }

func (b *bench) expect(t *testing.T, component, want string) {
	t.Helper()
	f, err := b.fronts.Get(component)
	if err != nil {
		t.Fatal(err)
	}
	if got, err := f.call(t.Context(), 0); err != nil || got != want {
		t.Fatalf("%s answered %q, %v; want %q", component, got, err, want)
	}
}

func TestUnreachableComponentIsTriedAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t)
		defer b.Close(context.Background())
		b.b.set(errors.New("connection refused"))
		if err := b.Start(t.Context(), conf(comp("a", "plain", "1"))); err != nil {
			t.Fatalf("it is not required, but the start failed: %v", err)
		}
		f, _ := b.fronts.Get("a")
		_, err := f.call(t.Context(), 0)
		if !errors.Is(err, components.ErrUnavailable) || !strings.Contains(err.Error(), "connection refused") {
			t.Fatalf("got %v, want unavailable with the reason", err)
		}
		if s := b.States()[0]; s.State != "failing" || s.Error != "connection refused" {
			t.Fatalf("admin says %+v", s)
		}
		b.b.set(nil)
		time.Sleep(time.Minute)
		b.expect(t, "a", "1")
		if s := b.States()[0]; s.State != "ready" || s.Error != "" {
			t.Fatalf("admin says %+v", s)
		}
	})
}

func TestRequiredComponentHoldsTheStart(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t)
		defer b.Close(context.Background())
		b.b.set(errors.New("connection refused"))
		ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
		defer cancel()
		c := comp("a", "plain", "1")
		c.Required = true
		if err := b.Start(ctx, conf(c)); err == nil || !strings.Contains(err.Error(), "connection refused") || !strings.Contains(err.Error(), "f.yaml:1:1") {
			t.Fatalf("got %v, want the reason and the place", err)
		}
	})
}

func TestWhatNoRepetitionMendsEndsTheStart(t *testing.T) {
	for _, kind := range []error{components.ErrDamaged, components.ErrPrecondition, components.ErrUnsupported} {
		synctest.Test(t, func(t *testing.T) {
			b := newBench(t)
			b.b.set(fmt.Errorf("file x: %w", kind))
			err := b.Start(t.Context(), conf(comp("a", "plain", "1")))
			if !errors.Is(err, kind) || !strings.Contains(err.Error(), "file x") || !strings.Contains(err.Error(), "f.yaml:1:1") {
				t.Errorf("got %v, want %v and the place", err, kind)
			}
			if said := b.log.String(); !strings.Contains(said, "file x") || strings.Contains(said, "trying again in the background") {
				t.Errorf("of what ends the sidecar it is logged: %s", said)
			}
		})
	}
}

func TestUnknownNameListsThose(t *testing.T) {
	b := newBench(t)
	if err := b.Start(t.Context(), conf(comp("a", "plain", "1"), comp("b", "plain", "2"))); err != nil {
		t.Fatal(err)
	}
	_, err := b.fronts.Get("c")
	if !errors.Is(err, components.ErrNotFound) || !strings.Contains(err.Error(), "there are: a, b") {
		t.Fatal(err)
	}
}

func TestPanickingDriverIsAFailure(t *testing.T) {
	b := newBench(t)
	if err := b.Start(t.Context(), conf(comp("a", "rude", ""))); err != nil {
		t.Fatal(err)
	}
	if s := b.States()[0]; s.State != "failing" || !strings.Contains(s.Error, "driver bug") {
		t.Fatalf("admin says %+v", s)
	}
}

func TestReloadTouchesWhatChanged(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t)
		defer b.Close(context.Background())
		if err := b.Start(t.Context(), conf(comp("same", "plain", "1"), comp("changed", "plain", "2"), comp("gone", "plain", "3"))); err != nil {
			t.Fatal(err)
		}
		gone, _ := b.fronts.Get("gone")
		if err := b.Reload(t.Context(), conf(comp("same", "plain", "1"), comp("changed", "other", "4"), comp("added", "plain", "5"))); err != nil {
			t.Fatal(err)
		}
		b.expect(t, "same", "1")
		b.expect(t, "changed", "4")
		b.expect(t, "added", "5")
		if _, err := b.fronts.Get("gone"); !errors.Is(err, components.ErrNotFound) {
			t.Fatalf("a component that was taken out: %v", err)
		}
		if _, err := gone.call(t.Context(), 0); !errors.Is(err, components.ErrUnavailable) {
			t.Fatalf("a call of a component that was taken out: %v", err)
		}
		synctest.Wait()
		if want := []string{"1", "2", "3", "4", "5"}; !slices.Equal(slices.Sorted(slices.Values(b.b.opened)), want) {
			t.Fatalf("opened %v, want each of %v once", b.b.opened, want)
		}
		if n := b.b.open.Load(); n != 3 {
			t.Fatalf("%d instances are open, want 3", n)
		}
		if n := b.b.ended.Load(); n != 1 {
			t.Fatalf("%d fronts were ended, want the one that was taken out", n)
		}
		for _, s := range b.States() {
			if s.Name == "changed" && s.Driver != "other" {
				t.Fatalf("admin says %+v", s)
			}
		}
	})
}

func TestFailedReloadChangesNothing(t *testing.T) {
	for _, drv := range []string{"plain", "sole"} {
		t.Run(drv, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				b := newBench(t)
				defer b.Close(context.Background())
				if err := b.Start(t.Context(), conf(comp("a", drv, "1"), comp("b", drv, "2"))); err != nil {
					t.Fatal(err)
				}
				err := b.Reload(t.Context(), conf(comp("a", drv, "3"), comp("b", drv, "broken")))
				if err == nil || !strings.Contains(err.Error(), "no such database") || !strings.Contains(err.Error(), "f.yaml:1:1") {
					t.Fatalf("got %v, want the reason and the place", err)
				}
				time.Sleep(time.Second)
				b.expect(t, "a", "1")
				b.expect(t, "b", "2")
			})
		})
	}
}

func TestLimitsChangeWithoutTheDriver(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t)
		defer b.Close(context.Background())
		if err := b.Start(t.Context(), conf(comp("a", "plain", "1"))); err != nil {
			t.Fatal(err)
		}
		tight := comp("a", "plain", "1")
		tight.Limits = components.Limits{Concurrency: 1, Queue: 1}
		if err := b.Reload(t.Context(), conf(tight)); err != nil {
			t.Fatal(err)
		}
		f, _ := b.fronts.Get("a")
		refused := atomic.Int32{}
		var wg sync.WaitGroup
		for range 5 {
			wg.Go(func() {
				if _, err := f.call(context.Background(), time.Second); errors.Is(err, components.ErrExhausted) {
					refused.Add(1)
				} else if err != nil {
					t.Error(err)
				}
			})
		}
		wg.Wait()
		if refused.Load() != 3 || len(b.b.opened) != 1 {
			t.Fatalf("%d of 5 calls refused, want 3; opened %v, want one", refused.Load(), b.b.opened)
		}
	})
}

func TestExclusiveIsClosedFirst(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t)
		defer b.Close(context.Background())
		if err := b.Start(t.Context(), conf(comp("a", "sole", "1"))); err != nil {
			t.Fatal(err)
		}
		if err := b.Reload(t.Context(), conf(comp("a", "sole", "2"))); err != nil {
			t.Fatal(err)
		}
		b.expect(t, "a", "2")
		if n := b.b.most.Load(); n != 1 {
			t.Fatalf("%d instances were open at once", n)
		}
	})
}

func TestReloadUnderLoadLosesNoCall(t *testing.T) {
	b := newBench(t)
	if err := b.Start(t.Context(), conf(comp("a", "plain", "0"))); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	var calls, failed atomic.Int64
	for range 8 {
		wg.Go(func() {
			for ctx.Err() == nil {
				f, err := b.fronts.Get("a")
				if err == nil {
					_, err = f.call(context.Background(), 100*time.Microsecond)
				}
				if calls.Add(1); err != nil {
					failed.Add(1)
					t.Error(err)
					return
				}
			}
		})
	}
	for i := range 50 {
		for before := calls.Load(); calls.Load() < before+20 && failed.Load() == 0; { // some between any two
			time.Sleep(50 * time.Microsecond)
		}
		drv := []string{"plain", "other"}[i%2]
		if err := b.Reload(t.Context(), conf(comp("a", drv, fmt.Sprint(i+1)))); err != nil {
			t.Error(err)
		}
	}
	cancel()
	wg.Wait()
	t.Logf("calls %d failed %d over 50 reloads", calls.Load(), failed.Load())
	if calls.Load() == 0 {
		t.Fatal("nothing was called")
	}
	deadline := time.Now().Add(5 * time.Second)
	for b.b.open.Load() != 1 && time.Now().Before(deadline) {
		time.Sleep(time.Millisecond)
	}
	if n := b.b.open.Load(); n != 1 {
		t.Fatalf("%d instances are open after the reloads", n)
	}
}
