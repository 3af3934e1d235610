// Package sequencetest is the specification of sequence drivers as tests: each driver passes Run.
package sequencetest

import (
	"context"
	"sync"
	"testing"
	"time"

	"github.com/outrigger-mesh/outrigger/components"
	"github.com/outrigger-mesh/outrigger/components/componenttest"
	"github.com/outrigger-mesh/outrigger/components/sequence"
)

// Suite is the specification for one kind of driver.
type Suite struct {
	// Open makes a driver. It is called more than once for a test, and what it makes for one shares one store. The suite closes
	// them.
	Open func(t *testing.T) sequence.Driver
}

// Run runs the suite.
func Run(t *testing.T, open func(t *testing.T) sequence.Driver) {
	t.Helper()
	Suite{Open: open}.Run(t)
}

// Run runs the suite. Its tests run in parallel, as applications that no other run uses.
func (s Suite) Run(t *testing.T) {
	t.Helper()
	for _, group := range [][]test{alone, shared} {
		for _, c := range group {
			t.Run(c.name, func(t *testing.T) {
				t.Parallel()
				c.run(t, s.open(t))
			})
		}
	}
}

type test struct {
	name string
	run  func(*testing.T, *fixture)
}

// fixture is a sequence component with one driver, used by an application of its own.
type fixture struct {
	Suite
	*sequence.Sequence
	driver sequence.Driver
	caller components.Caller
}

func (s Suite) open(t *testing.T) *fixture {
	t.Helper()
	d := s.opened(t)
	return &fixture{Suite: s, Sequence: front(d), driver: d, caller: componenttest.Caller()}
}

// another is a second driver on the same store, used by the same application.
func (f *fixture) another(t *testing.T) *fixture {
	t.Helper()
	d := f.Suite.opened(t)
	return &fixture{Suite: f.Suite, Sequence: front(d), driver: d, caller: f.caller}
}

func (s Suite) opened(t *testing.T) sequence.Driver {
	t.Helper()
	d := s.Open(t)
	t.Cleanup(func() { componenttest.Close(t, d) })
	return d
}

func front(d sequence.Driver) *sequence.Sequence {
	return sequence.New(componenttest.Component("sequence", d))
}

// row are numbers that were given at once.
type row struct{ first, last int64 }

// draw is Next or Unique.
type draw func(f *fixture, ctx context.Context, key string, size int64) (first, last int64, err error)

func next(f *fixture, ctx context.Context, key string, size int64) (first, last int64, err error) {
	return f.Next(ctx, f.caller, key, size)
}

func unique(f *fixture, ctx context.Context, key string, size int64) (first, last int64, err error) {
	return f.Unique(ctx, f.caller, key, size)
}

// want draws numbers that must be given.
func (f *fixture) want(t *testing.T, by draw, key string, size int64) row {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	first, last, err := by(f, ctx, key, size)
	if err != nil {
		t.Fatalf("%d numbers: %v", size, err)
	}
	if first < 1 || last-first+1 != size {
		t.Fatalf("asked for %d numbers, got %d to %d", size, first, last)
	}
	return row{first, last}
}

// given are rows of numbers of one key, of which no two have one in common.
type given struct {
	mu   sync.Mutex
	rows []row
}

// add tells whether a row is new.
func (g *given) add(t *testing.T, r row) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	for _, other := range g.rows {
		if r.first <= other.last && other.first <= r.last {
			t.Errorf("%v was given, and %v before", r, other)
			return false
		}
	}
	g.rows = append(g.rows, r)
	return true
}
