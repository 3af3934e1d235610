package registry_test

import (
	"context"
	"errors"
	"fmt"
	"math"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/outrigger-mesh/outrigger/components"
	"github.com/outrigger-mesh/outrigger/components/registry"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var stock = registry.Service{Namespace: "shop", Name: "stock"}

func at(address string) registry.Record {
	return registry.Record{Service: stock, Address: address, Weight: 100}
}

// fake is a driver that the tests hold in their hands.
type fake struct {
	mu      sync.Mutex
	records map[string]registry.Record
	down    error
	calls   int
	block   chan struct{} // if there is one, Register waits for it before it does anything
	feeds   chan *feed
}

type feed struct {
	report func([]registry.Record) error
	end    chan error
}

func newFake() *fake {
	return &fake{records: map[string]registry.Record{}, feeds: make(chan *feed, 10)}
}

func (d *fake) Register(ctx context.Context, r registry.Record) error {
	if d.block != nil {
		select {
		case <-d.block:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	d.calls++
	if d.down != nil {
		return d.down
	}
	d.records[r.Address] = r
	return nil
}

func (d *fake) Deregister(_ context.Context, _ registry.Service, address string) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.calls++
	if d.down != nil {
		return d.down
	}
	delete(d.records, address)
	return nil
}

func (d *fake) Watch(ctx context.Context, _ registry.Service, report func([]registry.Record) error) error {
	d.mu.Lock()
	err := d.down
	d.mu.Unlock()
	if err != nil {
		return err
	}
	f := &feed{report, make(chan error, 1)}
	d.feeds <- f
	select {
	case <-ctx.Done():
		return ctx.Err()
	case err := <-f.end:
		return err
	}
}

func (d *fake) fail(err error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.down = err
}

func (d *fake) called() int {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.calls
}

// has is what is registered, as text.
func (d *fake) has() string {
	d.mu.Lock()
	defer d.mu.Unlock()
	var all []string
	for _, r := range d.records {
		all = append(all, fmt.Sprint(r.Address, "/", r.Weight))
	}
	slices.Sort(all)
	return strings.Join(all, " ")
}

func front(t *testing.T, d registry.Driver) (*registry.Registry, *components.Component[registry.Driver]) {
	c := components.NewComponent[registry.Driver](components.ID{Capability: "registry", Name: "default", Driver: "fake"}, components.Limits{}, nil)
	if d != nil {
		c.Set(d)
	}
	r := registry.New(c)
	t.Cleanup(r.Close)
	return r, c
}

func want(t *testing.T, d *fake, records string) {
	t.Helper()
	if got := d.has(); got != records {
		t.Errorf("registered are %q, want %q", got, records)
	}
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func TestWhatIsNoRecordDoesNotReachTheDriver(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newFake()
		r, _ := front(t, d)
		good := at("10.0.0.1:1")
		for name, change := range map[string]func(*registry.Record){
			"no namespace":         func(r *registry.Record) { r.Namespace = "" },
			"no name":              func(r *registry.Record) { r.Name = "" },
			"a long name":          func(r *registry.Record) { r.Name = strings.Repeat("n", 513) },
			"invalid UTF-8":        func(r *registry.Record) { r.Group = "\xff" },
			"a line end":           func(r *registry.Record) { r.Name = "a\nb" },
			"no address":           func(r *registry.Record) { r.Address = "" },
			"no port":              func(r *registry.Record) { r.Address = "10.0.0.1" },
			"port 0":               func(r *registry.Record) { r.Address = "10.0.0.1:0" },
			"a large port":         func(r *registry.Record) { r.Address = "10.0.0.1:65536" },
			"no host":              func(r *registry.Record) { r.Address = ":80" },
			"a URL":                func(r *registry.Record) { r.Address = "http://host:80" },
			"a bare IPv6":          func(r *registry.Record) { r.Address = "::1:80" },
			"a negative weight":    func(r *registry.Record) { r.Weight = math.MinInt },
			"metadata, no name":    func(r *registry.Record) { r.Metadata = map[string]string{"": "x"} },
			"metadata, not UTF-8":  func(r *registry.Record) { r.Metadata = map[string]string{"x": "\xff"} },
			"metadata, many bytes": func(r *registry.Record) { r.Metadata = map[string]string{"x": strings.Repeat("y", 64<<10)} },
		} {
			bad := good
			change(&bad)
			if err := r.Register(t.Context(), bad); !errors.Is(err, components.ErrInvalid) {
				t.Errorf("%s: %v, want ErrInvalid", name, err)
			}
		}
		if err := r.Deregister(t.Context(), registry.Service{}, "x"); !errors.Is(err, components.ErrInvalid) {
			t.Errorf("deregister: %v, want ErrInvalid", err)
		}
		if err := r.Watch(t.Context(), registry.Service{}, nil); !errors.Is(err, components.ErrInvalid) {
			t.Errorf("watch: %v, want ErrInvalid", err)
		}
		if n := d.called(); n != 0 {
			t.Errorf("the driver was called %d times", n)
		}
	})
}

// TestReloadLeavesNoGap: the new driver has the records before the old one is let go.
func TestReloadLeavesNoGap(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		first, second := newFake(), newFake()
		r, c := front(t, first)
		must(t, r.Register(t.Context(), at("10.0.0.1:1")))
		must(t, r.Register(t.Context(), at("10.0.0.2:1")))
		must(t, r.Deregister(t.Context(), stock, "10.0.0.2:1"))
		synctest.Wait()
		second.block = make(chan struct{})
		retired := c.Set(second)
		synctest.Wait()
		select {
		case <-retired:
			t.Error("the old driver was let go before the new one had the records")
		default:
		}
		close(second.block)
		<-retired
		want(t, second, "10.0.0.1:1/100")
	})
}

// TestNewDriverThatDoesNotAnswer does not hold the old one for ever.
func TestNewDriverThatDoesNotAnswer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r, c := front(t, newFake())
		must(t, r.Register(t.Context(), at("10.0.0.1:1")))
		synctest.Wait()
		second := newFake()
		second.block = make(chan struct{})
		<-c.Set(second)
		close(second.block)
		time.Sleep(time.Minute)
		want(t, second, "10.0.0.1:1/100")
	})
}

// TestExclusiveDriver must be let go before there is another.
func TestExclusiveDriver(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r, c := front(t, newFake())
		must(t, r.Register(t.Context(), at("10.0.0.1:1")))
		synctest.Wait()
		<-c.Clear(errors.New("reloading"))
		second := newFake()
		c.Set(second)
		synctest.Wait()
		want(t, second, "10.0.0.1:1/100")
	})
}

func TestWishesStandWhileThereIsNoDriver(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r, c := front(t, nil)
		for _, address := range []string{"10.0.0.1:1", "10.0.0.2:1"} {
			if err := r.Register(t.Context(), at(address)); !errors.Is(err, components.ErrUnavailable) {
				t.Errorf("%v, want ErrUnavailable", err)
			}
		}
		if err := r.Deregister(t.Context(), stock, "10.0.0.2:1"); !errors.Is(err, components.ErrUnavailable) {
			t.Errorf("%v, want ErrUnavailable", err)
		}
		d := newFake()
		d.records["10.0.0.2:1"] = at("10.0.0.2:1") // from before
		c.Set(d)
		synctest.Wait()
		want(t, d, "10.0.0.1:1/100")
		if got := r.Wanted(); len(got) != 1 || got[0].Address != "10.0.0.1:1" {
			t.Errorf("wanted are %v", got)
		}
	})
}

func TestFailedRegistrationIsTriedAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newFake()
		r, _ := front(t, d)
		d.fail(components.ErrUnavailable)
		if err := r.Register(t.Context(), at("10.0.0.1:1")); !errors.Is(err, components.ErrUnavailable) {
			t.Fatalf("%v, want ErrUnavailable", err)
		}
		time.Sleep(5 * time.Minute)
		if n := d.called(); n > 30 {
			t.Errorf("%d calls in 5 minutes: no pause grows", n)
		}
		d.fail(nil)
		time.Sleep(31 * time.Second)
		want(t, d, "10.0.0.1:1/100")
		calls := d.called()
		time.Sleep(time.Hour)
		if n := d.called(); n != calls {
			t.Errorf("%d calls more after it was registered", n-calls)
		}
	})
}

func TestRefusedRegistrationLeavesWhatWasThere(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		first, second := newFake(), newFake()
		r, c := front(t, first)
		must(t, r.Register(t.Context(), at("10.0.0.1:1")))
		first.fail(components.ErrDenied)
		heavier := at("10.0.0.1:1")
		heavier.Weight = 200
		for _, refused := range []registry.Record{heavier, at("10.0.0.2:1")} {
			if err := r.Register(t.Context(), refused); !errors.Is(err, components.ErrDenied) {
				t.Errorf("%v, want ErrDenied", err)
			}
		}
		c.Set(second)
		synctest.Wait()
		want(t, second, "10.0.0.1:1/100")
	})
}

func TestLaterWishCounts(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newFake()
		d.block = make(chan struct{})
		r, _ := front(t, d)
		var callers sync.WaitGroup
		for weight := range 5 {
			record := at("10.0.0.1:1")
			record.Weight = weight
			callers.Go(func() { must(t, r.Register(t.Context(), record)) })
			synctest.Wait()
		}
		close(d.block)
		callers.Wait()
		want(t, d, "10.0.0.1:1/4")
	})
}

// TestWishWhoseCallerHasGone stands, whatever the driver was told meanwhile.
func TestWishWhoseCallerHasGone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newFake()
		r, _ := front(t, d)
		must(t, r.Register(t.Context(), at("10.0.0.9:1")))
		synctest.Wait()
		d.block = make(chan struct{})
		var first sync.WaitGroup
		first.Go(func() { must(t, r.Register(t.Context(), at("10.0.0.1:1"))) })
		synctest.Wait()
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		later := at("10.0.0.1:1")
		later.Weight = 7
		if err := r.Register(ctx, later); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("%v, want DeadlineExceeded", err)
		}
		close(d.block)
		first.Wait()
		time.Sleep(time.Minute)
		want(t, d, "10.0.0.1:1/7 10.0.0.9:1/100")
	})
}

func TestRegistrationsUnderReloads(t *testing.T) {
	d := newFake()
	r, c := front(t, d)
	var callers sync.WaitGroup
	for i := range 4 {
		address := fmt.Sprintf("10.0.0.%d:1", i)
		callers.Go(func() {
			for weight := range 50 {
				record := at(address)
				record.Weight = weight
				_ = r.Register(t.Context(), record) // may meet the moment between two drivers
				if weight%3 == 0 && i == 3 {
					_ = r.Deregister(t.Context(), stock, address)
				}
			}
		})
	}
	for range 50 {
		d = newFake()
		c.Set(d)
		time.Sleep(time.Millisecond)
	}
	callers.Wait()
	end := time.Now().Add(10 * time.Second)
	for d.has() != "10.0.0.0:1/49 10.0.0.1:1/49 10.0.0.2:1/49 10.0.0.3:1/49" && time.Now().Before(end) {
		time.Sleep(5 * time.Millisecond)
	}
	want(t, d, "10.0.0.0:1/49 10.0.0.1:1/49 10.0.0.2:1/49 10.0.0.3:1/49")
}

func TestClosed(t *testing.T) {
	d := newFake()
	r, _ := front(t, d)
	must(t, r.Register(t.Context(), at("10.0.0.1:1")))
	r.Close()
	r.Close()
	if err := r.Register(t.Context(), at("10.0.0.2:1")); !errors.Is(err, components.ErrUnavailable) {
		t.Errorf("%v, want ErrUnavailable", err)
	}
	want(t, d, "10.0.0.1:1/100")
}
