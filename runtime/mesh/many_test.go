package mesh_test

import (
	"context"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"path/filepath"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/outrigger-mesh/outrigger/runtime/mesh"
)

// crowd is a registry of services with a number of instances each, which it makes as they are read from one: no two share a string.
type crowd struct {
	each    int
	mu      sync.Mutex
	reports map[mesh.Service]func([]mesh.Instance) error
}

func (c *crowd) instances(of mesh.Service, version int) []mesh.Instance {
	all := make([]mesh.Instance, c.each)
	for i := range all {
		all[i] = mesh.Instance{Address: fmt.Sprintf("10.%d.%d.%d:7080", len(of.Name), version, i), Weight: 100, Zone: fmt.Sprint("zone-", i%3), Protocol: "grpc",
			Labels: mesh.LabelsOf(map[string]string{"version": fmt.Sprint("v", version), "pod": fmt.Sprint(of.Name, "-", i)}), Identity: "spiffe://example/ns/shop/sa/" + of.Name}
	}
	return all
}

func (c *crowd) Watch(ctx context.Context, of mesh.Service, report func([]mesh.Instance) error) error {
	c.mu.Lock()
	c.reports[of] = report
	c.mu.Unlock()
	if err := report(c.instances(of, 0)); err != nil {
		return err
	}
	<-ctx.Done()
	return ctx.Err()
}

// many is an engine that knows all of a number of services, and the heap and stacks that this took.
func many(t *testing.T, services, each int) (e *mesh.Router, c *crowd, all []mesh.Service, taken uint64) {
	t.Helper()
	before := held()
	c = &crowd{each: each, reports: make(map[mesh.Service]func([]mesh.Instance) error, services)}
	d := mesh.NewDirectory(c, slog.New(slog.DiscardHandler))
	d.Hold = 30 * time.Second
	t.Cleanup(d.Close)
	if err := d.Remember(filepath.Join(t.TempDir(), "services")); err != nil {
		t.Fatal(err)
	}
	e = &mesh.Router{Directory: d, MaxHops: 8}
	for i := range services {
		all = append(all, mesh.Service{Namespace: "shop", Name: fmt.Sprint("service-", i), Protocol: "grpc"})
		d.Find(all[i])
	}
	for _, s := range all {
		known := make(chan struct{})
		d.Find(s).Wait(func() { close(known) })
		<-known
		decide(t, e, s)
	}
	return e, c, all, held() - before
}

func held() uint64 {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.HeapAlloc + m.StackInuse
}

func decide(t *testing.T, e *mesh.Router, s mesh.Service) {
	p, err := e.Route(&mesh.Request{Protocol: "grpc", Service: s, Method: "shop.v1.Stock/Get"})
	if err != nil {
		t.Fatal(err)
	}
	a, err := p.Next()
	if err != nil {
		t.Fatal(err)
	}
	a.Report(mesh.Answered)
}

// decisions are timed one by one, for services by chance: most are not interrupted, whatever else the machine does.
func decisions(t *testing.T, e *mesh.Router, all []mesh.Service) (took []time.Duration) {
	for range 500 {
		s := all[rand.IntN(len(all))]
		began := time.Now()
		decide(t, e, s)
		took = append(took, time.Since(began))
	}
	return took
}

func middle(took []time.Duration) time.Duration {
	slices.Sort(took)
	return took[len(took)/2]
}

// TestManyInstances: what 100,000 instances of 5,000 services take, what a decision costs beside one among 10, and how long a change takes.
// The bounds are wide, since others use the machine, but for the memory; the lines "figure:" are those of make bench ONLY=mesh.
func TestManyInstances(t *testing.T) {
	few, _, one, _ := many(t, 1, 10)
	e, c, all, taken := many(t, 5_000, 20)
	figure := func(name string, value float64, unit string, most float64) {
		fmt.Printf("figure: %s %.3f %s\n", name, value, unit)
		if value > most {
			t.Errorf("%s: %.3f %s, allowed %.3f", name, value, unit, most)
		}
	}
	figure("directory-100k", float64(taken)/1e6, "MB", 150)

	var small, large []time.Duration
	for range 20 {
		small = append(small, decisions(t, few, one)...)
		large = append(large, decisions(t, e, all)...)
	}
	a, b := middle(small), middle(large)
	figure("decision-10", float64(a.Nanoseconds())/1e3, "us", 1000)
	figure("decision-100k", float64(b.Nanoseconds())/1e3, "us", 1000)
	figure("decision-added-by-100k", float64((b-a).Nanoseconds())/1e3, "us", 500)

	var took []time.Duration
	for version := 1; version <= 200; version++ {
		s := all[rand.IntN(len(all))]
		change := c.instances(s, version)
		began := time.Now()
		if err := c.reports[s](change); err != nil {
			t.Fatal(err)
		}
		if got := e.Directory.Find(s).Snapshot().Endpoints[0].Instance().Labels.Get("version"); got != fmt.Sprint("v", version) {
			t.Fatalf("version %s is in force, not v%d", got, version)
		}
		took = append(took, time.Since(began))
	}
	figure("change-among-100k", float64(middle(took).Nanoseconds())/1e3, "us", 20_000)
}

// TestAChangeTouchesItsServiceAlone: of 10,000 instances one changes, and nothing else is made anew, nor are watchers of other services told.
func TestAChangeTouchesItsServiceAlone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e, c, all, _ := many(t, 500, 20)
		var told [2]atomic.Int64
		for i := range told {
			go e.Directory.Watch(t.Context(), all[i], func(*mesh.Snapshot) error {
				told[i].Add(1)
				return nil
			})
		}
		synctest.Wait() // each has its first report
		now := func() (at []*mesh.Snapshot) {
			for _, s := range all {
				at = append(at, e.Directory.Find(s).Snapshot())
			}
			return at
		}
		before := now()
		for version := 1; version <= 50; version++ {
			changed := 1 + rand.IntN(len(all)-1) // of the two that are watched one never is
			one := c.instances(all[changed], 0)
			one[7].Weight = version
			if err := c.reports[all[changed]](one); err != nil {
				t.Fatal(err)
			}
			after := now()
			for i := range all {
				if (after[i] != before[i]) != (i == changed) {
					t.Fatalf("%s has changed: another snapshot of %s: %t", all[changed].Name, all[i].Name, after[i] != before[i])
				}
			}
			for i, p := range after[changed].Endpoints {
				if (p != before[changed].Endpoints[i]) != (i == 7) {
					t.Fatalf("instance 7 has changed, another endpoint %d: %t", i, i != 7)
				}
			}
			before = after
		}
		change := c.instances(all[1], 1)
		if err := c.reports[all[1]](change); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		if told[0].Load() != 1 || told[1].Load() < 2 {
			t.Errorf("a watcher of what never changed had %d reports, the other %d", told[0].Load(), told[1].Load())
		}
	})
}
