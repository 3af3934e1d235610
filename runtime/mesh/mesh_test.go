package mesh_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/outrigger-mesh/outrigger/components"
	"github.com/outrigger-mesh/outrigger/runtime/mesh"
)

// source is a registry in the hands of a test.
type source struct {
	mu      sync.Mutex
	all     []mesh.Instance
	err     error
	changed chan struct{}
	asked   int
}

func newSource() *source { return &source{changed: make(chan struct{})} }

func (s *source) set(err error, addresses ...string) {
	s.mu.Lock()
	s.all, s.err = nil, err
	for _, a := range addresses {
		s.all = append(s.all, mesh.Instance{Address: a, Weight: 100})
	}
	close(s.changed)
	s.changed = make(chan struct{})
	s.mu.Unlock()
}

func (s *source) poke() {
	s.mu.Lock()
	defer s.mu.Unlock()
	close(s.changed)
	s.changed = make(chan struct{})
}

func (s *source) Watch(ctx context.Context, _ mesh.Service, report func([]mesh.Instance) error) error {
	s.mu.Lock()
	s.asked++
	s.mu.Unlock()
	for {
		s.mu.Lock()
		all, err, changed := s.all, s.err, s.changed
		s.mu.Unlock()
		if err != nil {
			return err
		}
		if all != nil {
			if err := report(all); err != nil {
				return err
			}
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-changed:
		}
	}
}

var stock = mesh.Service{Namespace: "shop", Name: "stock"}

func router(t *testing.T, s mesh.Source) *mesh.Router {
	d := mesh.NewDirectory(s, slog.New(slog.DiscardHandler))
	t.Cleanup(d.Close)
	return &mesh.Router{Directory: d, MaxHops: 8}
}

// plan routes, and waits if the engine says so.
func plan(e mesh.Engine, r mesh.Request) (mesh.Plan, error) {
	r.Service = stock
	for {
		p, err := e.Route(&r)
		pending, ok := mesh.IsPending(err)
		if !ok {
			return p, err
		}
		resumed := make(chan struct{})
		pending.Wait(func() { close(resumed) })
		<-resumed
	}
}

func TestFirstRequestWaitsForTheDirectory(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSource()
		e := router(t, s)
		if _, err := e.Route(&mesh.Request{Service: stock}); err == nil {
			t.Fatal("routed before anything is known")
		} else if _, ok := mesh.IsPending(err); !ok {
			t.Fatalf("got %v, want Pending", err)
		}
		go func() { time.Sleep(time.Second); s.set(nil, "127.0.0.1:1") }()
		p, err := plan(e, mesh.Request{})
		if err != nil {
			t.Fatal(err)
		}
		a, err := p.Next()
		if err != nil || a.Instance().Address != "127.0.0.1:1" {
			t.Fatalf("got %v, %v", a, err)
		}
	})
}

func TestRefusals(t *testing.T) {
	for _, c := range []struct {
		name    string
		prepare func(*source)
		request mesh.Request
		kind    error
		reason  components.Reason
	}{
		{"nobody has published it", func(s *source) { s.set(nil); s.all = []mesh.Instance{} }, mesh.Request{}, components.ErrUnavailable, mesh.ReasonNoInstance},
		{"the registry is away", func(s *source) { s.set(errors.New("connection refused")) }, mesh.Request{}, components.ErrUnavailable, mesh.ReasonRegistryAway},
		{"a circle", func(s *source) { s.set(nil, "127.0.0.1:1") }, mesh.Request{Hops: 8}, components.ErrPrecondition, mesh.ReasonTooManyHops},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := newSource()
				c.prepare(s)
				_, err := plan(router(t, s), c.request)
				var d *components.Detail
				if !errors.Is(err, c.kind) || !errors.As(err, &d) || d.Reason != c.reason {
					t.Fatalf("got %v, want %v with reason %s", err, c.kind, c.reason)
				}
			})
		})
	}
}

// A quarter of the weight gets a quarter of the calls, give or take five sigma, whether others are under way or not.
func TestSpreadsByWeight(t *testing.T) {
	for _, beside := range []int{0, 200} {
		synctest.Test(t, func(t *testing.T) {
			s := newSource()
			s.all = []mesh.Instance{{Address: "a", Weight: 300}, {Address: "b", Weight: 100}, {Address: "c", Weight: 0}}
			e := router(t, s)
			got := map[string]int{}
			var open []mesh.Attempt
			for range 4000 {
				p, err := plan(e, mesh.Request{})
				if err != nil {
					t.Fatal(err)
				}
				a, err := p.Next()
				if err != nil {
					t.Fatal(err)
				}
				got[a.Instance().Address]++
				if open = append(open, a); len(open) > beside {
					open[0].Report(mesh.Answered)
					open = open[1:]
				}
			}
			if b := got["b"]; got["c"] != 0 || b < 863 || b > 1137 {
				t.Errorf("weights 300, 100, 0 got %v with %d calls under way", got, beside)
			}
		})
	}
}

func TestBusyInstanceGetsLess(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSource()
		s.set(nil, "a", "b")
		e := router(t, s)
		held := map[string]int{}
		for range 100 { // none of these ends
			p, err := plan(e, mesh.Request{})
			if err != nil {
				t.Fatal(err)
			}
			a, _ := p.Next()
			held[a.Instance().Address]++
		}
		if d := held["a"] - held["b"]; d < -20 || d > 20 {
			t.Fatalf("100 calls that do not end were spread %v", held)
		}
	})
}

func TestSecondAttemptGoesElsewhere(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSource()
		s.set(nil, "a", "b")
		e := router(t, s)
		for range 100 {
			p, err := plan(e, mesh.Request{})
			if err != nil {
				t.Fatal(err)
			}
			one, _ := p.Next()
			two, _ := p.Next()
			one.Report(mesh.Unknown) // not to blame: nothing is ejected
			two.Report(mesh.Answered)
			if one.Instance() == two.Instance() {
				t.Fatal("the second attempt went where the first had failed")
			}
		}
	})
}

func TestFailingInstanceIsEjectedAndComesBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSource()
		s.set(nil, "good", "bad")
		e := router(t, s)
		count := func(n int) (bad int) {
			toBad(t, e, n, func(a mesh.Attempt) {
				bad++
				a.Report(mesh.Failed)
			})
			return bad
		}
		if bad := count(200); bad < 3 || bad > 10 {
			t.Fatalf("%d of 200 calls went to an instance that always fails", bad)
		}
		s.set(nil, "good", "bad") // the registry's word alone does not bring it back
		synctest.Wait()
		if bad := count(50); bad != 0 {
			t.Fatalf("%d calls went to an ejected instance after an unrelated push", bad)
		}
		time.Sleep(time.Minute)
		if bad := count(50); bad == 0 {
			t.Fatal("an ejected instance never gets another chance")
		}
	})
}

func TestWatchReportsTheNewest(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSource()
		s.set(nil, "a")
		d := router(t, s).Directory
		ctx, cancel := context.WithCancel(t.Context())
		var seen []int
		done := make(chan error)
		go func() {
			done <- d.Watch(ctx, stock, func(now *mesh.Snapshot) error {
				seen = append(seen, len(now.Endpoints))
				time.Sleep(time.Second) // slow
				return nil
			})
		}()
		synctest.Wait()
		for n := range 20 {
			var all []string
			for i := range n + 1 {
				all = append(all, fmt.Sprint(i))
			}
			s.set(nil, all...)
			synctest.Wait()
		}
		time.Sleep(5 * time.Second)
		cancel()
		if err := <-done; !errors.Is(err, context.Canceled) {
			t.Fatal(err)
		}
		if len(seen) > 4 || seen[len(seen)-1] != 20 {
			t.Fatalf("a slow watcher saw %v, want few and 20 at last", seen)
		}
	})
}

func TestUnusedServiceIsForgotten(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSource()
		s.set(nil, "a")
		e := router(t, s)
		if _, err := plan(e, mesh.Request{}); err != nil {
			t.Fatal(err)
		}
		time.Sleep(5 * time.Minute)
		if len(e.Directory.Services()) != 1 {
			t.Fatal("forgotten too early")
		}
		time.Sleep(7 * time.Minute)
		if got := e.Directory.Services(); len(got) != 0 {
			t.Fatalf("still watched: %v", got)
		}
	})
}

func TestGate(t *testing.T) {
	g := &mesh.Gate{Concurrency: 2, MaxHops: 4}
	r := &mesh.Request{Hops: 4}
	for range 2 {
		if err := g.Admit(r); err != nil {
			t.Fatal(err)
		}
	}
	if err := g.Admit(r); !errors.Is(err, components.ErrExhausted) {
		t.Fatalf("third of two calls: %v", err)
	}
	g.Leave()
	if err := g.Admit(r); err != nil {
		t.Fatalf("after one has left: %v", err)
	}
	if err := g.Admit(&mesh.Request{Hops: 5}); !errors.Is(err, components.ErrPrecondition) {
		t.Fatalf("a circle: %v", err)
	}
}

// An attempt that is reported late blames the instance it went to, not the one that the request goes to now.
func TestLateReportBlamesTheRightInstance(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSource()
		s.set(nil, "good", "bad")
		e := router(t, s)
		for n := 0; n < 3; {
			p, err := plan(e, mesh.Request{})
			if err != nil {
				t.Fatal(err)
			}
			one, _ := p.Next()
			if one.Instance().Address != "bad" {
				one.Report(mesh.Answered)
				continue
			}
			two, _ := p.Next()
			one.Report(mesh.Failed)
			two.Report(mesh.Answered)
			n++
		}
		for range 100 {
			p, err := plan(e, mesh.Request{})
			if err != nil {
				t.Fatal(err)
			}
			a, _ := p.Next()
			if a.Report(mesh.Answered); a.Instance().Address == "bad" {
				t.Fatal("an instance that failed three times is not ejected")
			}
		}
	})
}

// What tells nothing of the instance neither ejects it nor brings it back.
func TestUnknownOutcomesTellNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSource()
		s.set(nil, "a", "b")
		e := router(t, s)
		report := func(o ...mesh.Outcome) {
			for n := 0; n < len(o); {
				p, err := plan(e, mesh.Request{})
				if err != nil {
					t.Fatal(err)
				}
				x, _ := p.Next()
				if x.Instance().Address != "a" {
					x.Report(mesh.Unknown)
					continue
				}
				x.Report(o[n])
				n++
			}
		}
		report(mesh.Unknown, mesh.Unknown, mesh.Unknown, mesh.Failed, mesh.Unknown, mesh.Failed, mesh.Unknown) // still there after that
		report(mesh.Failed)
		for range 50 {
			p, err := plan(e, mesh.Request{})
			if err != nil {
				t.Fatal(err)
			}
			x, _ := p.Next()
			if x.Report(mesh.Unknown); x.Instance().Address == "a" {
				t.Fatal("three failures, with nothing told between them, did not eject it")
			}
		}
	})
}

func TestSilentRegistryIsTakenForOneThatIsAway(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSource()
		e := router(t, s)
		_, err := plan(e, mesh.Request{})
		var d *components.Detail
		if !errors.Is(err, components.ErrUnavailable) || !errors.As(err, &d) || d.Reason != mesh.ReasonRegistryAway {
			t.Fatalf("got %v", err)
		}
		s.set(nil, "a") // it answers late
		synctest.Wait()
		if _, err := plan(e, mesh.Request{}); err != nil {
			t.Fatal(err)
		}
	})
}

func TestInstancesWithoutWeightGetNoCalls(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSource()
		s.all = []mesh.Instance{{Address: "a", Weight: 0}}
		if p, err := plan(router(t, s), mesh.Request{}); !errors.Is(err, components.ErrUnavailable) {
			t.Fatalf("got %v, %v", p, err)
		}
	})
}

// What was sent to nobody may go elsewhere, twice; what may have been begun goes nowhere.
func TestAgain(t *testing.T) {
	s := newSource()
	s.set(nil, "a:1")
	e := router(t, s)
	for _, sent := range []bool{false, true} {
		p, err := plan(e, mesh.Request{Service: stock})
		if err != nil {
			t.Fatal(err)
		}
		n := 0
		for next := true; next; n++ {
			a, err := p.Next()
			if err != nil {
				t.Fatal(err)
			}
			a.Report(mesh.Failed)
			next = p.Again(mesh.Failure{Kind: mesh.Closed, Sent: sent})
		}
		if want := map[bool]int{false: 3, true: 1}[sent]; n != want || p.PerTry() != 0 {
			t.Errorf("sent %v: %d attempts, want %d", sent, n, want)
		}
	}
}
