// Package cachetest is the specification of cache drivers as tests: each driver passes Run. What a driver's type does not
// offer must be refused by the front, which is tested instead and said in the log.
package cachetest

import (
	"context"
	"crypto/rand"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/outrigger-mesh/outrigger/components"
	"github.com/outrigger-mesh/outrigger/components/cache"
)

// Suite is the specification for one kind of driver.
type Suite struct {
	// Open makes a driver. It is called more than once, and all that it made may share one store. The suite closes them.
	Open func(t *testing.T) cache.Driver
	// Tolerance is how far the store's clock may be off when an item expires; 0: 2 ms.
	Tolerance time.Duration
	// TTL is what tests of expiry work with; 0: 100 ms.
	TTL time.Duration
}

// Run runs the suite with what suits a store in the same process or on the same machine.
func Run(t *testing.T, open func(t *testing.T) cache.Driver) {
	t.Helper()
	Suite{Open: open}.Run(t)
}

// Run runs the suite. Its tests run in parallel, and use keys that no other run uses.
func (s Suite) Run(t *testing.T) {
	t.Helper()
	if s.Tolerance == 0 {
		s.Tolerance = 2 * time.Millisecond
	}
	if s.TTL == 0 {
		s.TTL = 100 * time.Millisecond
	}
	for _, group := range [][]test{values, writes, times, counts, manies, sharing} {
		for _, c := range group {
			t.Run(c.name, func(t *testing.T) {
				t.Parallel()
				f := s.open(t)
				c.run(t, f)
				if _, ok := f.driver.(cache.LaterGetter); ok {
					t.Run("later", func(t *testing.T) {
						f := s.open(t)
						f.later = true
						c.run(t, f)
					})
				}
			})
		}
	}
}

type test struct {
	name string
	run  func(*testing.T, *fixture)
}

// fixture is a cache with one driver, used by an application of its own.
type fixture struct {
	Suite
	*cache.Cache
	driver cache.Driver
	caller components.Caller
	later  bool // it gets by Later
}

// Get is the cache's, in one of its ways.
func (f *fixture) Get(ctx context.Context, caller components.Caller, key string) (item cache.Item, err error) {
	if !f.later {
		return f.Cache.Get(ctx, caller, key)
	}
	begin := f.Later(ctx, caller, key)
	if begin == nil { // as for a key that is refused
		return f.Cache.Get(ctx, caller, key)
	}
	done := make(chan struct{})
	begin(func(i cache.Item, e error) {
		item, err = i, e
		close(done)
	})
	<-done
	return item, err
}

func (s Suite) open(t *testing.T) *fixture {
	t.Helper()
	d := s.Open(t)
	t.Cleanup(func() {
		if c, ok := d.(components.Closer); ok {
			if err := c.Close(context.WithoutCancel(t.Context())); err != nil {
				t.Errorf("close: %v", err)
			}
		}
	})
	caller := components.Caller{Namespace: "conformance", App: strings.ToLower(rand.Text()[:12])}
	return &fixture{Suite: s, Cache: front(d), driver: d, caller: caller}
}

func front(d cache.Driver) *cache.Cache {
	c := components.NewComponent[cache.Driver](components.ID{Capability: "cache", Name: "conformance", Driver: "tested"}, components.Limits{}, nil)
	c.Set(d)
	return cache.New(c)
}

// get answers the item of a key that must be there.
func (f *fixture) get(t *testing.T, key string) cache.Item {
	t.Helper()
	item, err := f.Get(t.Context(), f.caller, key)
	if err != nil {
		t.Fatalf("get %q: %v", key, err)
	}
	return item
}

// put sets an item that must be taken.
func (f *fixture) put(t *testing.T, key string, item cache.Item) (version string) {
	t.Helper()
	version, err := f.Set(t.Context(), f.caller, key, item, cache.Condition{})
	if err != nil {
		t.Fatalf("set %q: %v", key, err)
	}
	return version
}

// missing fails unless the key is absent.
func (f *fixture) missing(t *testing.T, key string) {
	t.Helper()
	item, err := f.Get(t.Context(), f.caller, key)
	if !errors.Is(err, components.ErrNotFound) {
		t.Fatalf("get %q: %q, %v; want ErrNotFound", key, item.Value, err)
	}
}

// holds fails unless the key has this value.
func (f *fixture) holds(t *testing.T, key, value string) {
	t.Helper()
	if got := f.get(t, key); string(got.Value) != value {
		t.Fatalf("get %q: %.80q, want %.80q", key, got.Value, value)
	}
}

// outcome fails unless err is of a kind, or nil.
func outcome(t *testing.T, err, want error) {
	t.Helper()
	if !errors.Is(err, want) {
		t.Fatalf("error: %v; want: %v", err, want)
	}
}

// offered tells whether the driver has an optional interface. If it has not, what the front answers must be ErrUnsupported.
func offered[T any](t *testing.T, f *fixture, feature string, ask func() error) bool {
	t.Helper()
	if _, ok := f.driver.(T); ok {
		return true
	}
	notOffered(t, f, feature, ask)
	return false
}

// conditional is offered for the conditions of a cache.Restricted driver.
func conditional(t *testing.T, f *fixture, feature cache.Feature, ask func() error) bool {
	t.Helper()
	if r, ok := f.driver.(cache.Restricted); !ok || r.Offers(feature) {
		return true
	}
	notOffered(t, f, string(feature), ask)
	return false
}

func notOffered(t *testing.T, f *fixture, feature string, ask func() error) {
	t.Helper()
	t.Logf("%T does not offer %q: tested is only that it is refused", f.driver, feature)
	outcome(t, ask(), components.ErrUnsupported)
}

func text(value string) cache.Item { return cache.Item{Value: []byte(value)} }
