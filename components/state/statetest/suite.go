// Package statetest is the specification of state drivers as tests: each driver passes Run. What a driver does not offer must be
// refused by the front, which is tested instead and said in the log.
package statetest

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/outrigger-mesh/outrigger/components"
	"github.com/outrigger-mesh/outrigger/components/componenttest"
	"github.com/outrigger-mesh/outrigger/components/state"
)

// Suite is the specification for one kind of driver.
type Suite struct {
	// Open makes a driver. It is called more than once, also after what it made before was closed, and all that it made for
	// one test stand on one store. The suite closes them.
	Open func(t *testing.T) state.Driver
	// Tolerance is how far the store's clock may be off when an item expires; 0: 2 ms.
	Tolerance time.Duration
	// TTL is what tests of expiry work with; 0: 100 ms.
	TTL time.Duration
}

// Run runs the suite with what suits a store in the same process or on the same machine.
func Run(t *testing.T, open func(t *testing.T) state.Driver) {
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
	for _, group := range [][]test{values, writes, times, transactions, fences, barriers, repeats, lists, sharing} {
		for _, c := range group {
			t.Run(c.name, func(t *testing.T) {
				t.Parallel()
				f := s.open(t)
				c.run(t, f)
				if _, ok := f.driver.(state.LaterTransactor); ok {
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

// fixture is a state component with one driver, used by an application of its own.
type fixture struct {
	Suite
	*state.State
	driver state.Driver
	caller components.Caller
	close  func(t *testing.T)
	later  bool // it sets by SetLater
}

// Set is the state's, in one of its ways.
func (f *fixture) Set(ctx context.Context, caller components.Caller, key string, item state.Item, when state.Condition, fence state.Fence) (
	version string, err error,
) {
	begin := (func(func(string, error)))(nil)
	if f.later {
		begin = f.SetLater(ctx, caller, key, item, when, fence)
	}
	if begin == nil { // as for a key that is refused
		return f.State.Set(ctx, caller, key, item, when, fence)
	}
	done := make(chan struct{})
	begin(func(v string, e error) {
		version, err = v, e
		close(done)
	})
	<-done
	return version, err
}

func (s Suite) open(t *testing.T) *fixture {
	t.Helper()
	d := s.Open(t)
	f := &fixture{Suite: s, State: front(d), driver: d, caller: componenttest.Caller()}
	f.close = func(t *testing.T) { componenttest.Close(t, d) }
	t.Cleanup(func() { f.close(t) })
	return f
}

// again is a second driver for the same application, as after a restart of the sidecar.
func (f *fixture) again(t *testing.T) *fixture {
	t.Helper()
	g := f.open(t)
	g.caller = f.caller
	return g
}

func front(d state.Driver) *state.State { return state.New(componenttest.Component("state", d)) }

// get answers the item of a key that must be there.
func (f *fixture) get(t *testing.T, key string) state.Item {
	t.Helper()
	item, err := f.Get(t.Context(), f.caller, key)
	if err != nil {
		t.Fatalf("get %q: %v", key, err)
	}
	return item
}

// put sets an item that must be taken.
func (f *fixture) put(t *testing.T, key string, item state.Item) (version string) {
	t.Helper()
	version, err := f.set(t, key, item, state.Condition{}, 0)
	if err != nil {
		t.Fatalf("set %q: %v", key, err)
	}
	return version
}

// set sets an item, with a token of the lock guard if it is not 0.
func (f *fixture) set(t *testing.T, key string, item state.Item, when state.Condition, token uint64) (version string, err error) {
	t.Helper()
	return f.Set(t.Context(), f.caller, key, item, when, guard(token))
}

func guard(token uint64) state.Fence {
	if token == 0 {
		return state.Fence{}
	}
	return state.Fence{Component: "default", Name: "guard", Token: token}
}

func (f *fixture) delete(t *testing.T, key string) {
	t.Helper()
	if err := f.Delete(t.Context(), f.caller, key, "", state.Fence{}); err != nil {
		t.Fatalf("delete %q: %v", key, err)
	}
}

// does makes a transaction that must not fail and fails unless its outcome is as wanted.
func (f *fixture) does(t *testing.T, want state.Outcome, tx state.Transaction) state.Result {
	t.Helper()
	r, err := f.Transact(t.Context(), f.caller, tx)
	if err != nil || r.Outcome != want {
		t.Fatalf("outcome %q, %v; want %q", r.Outcome, err, want)
	}
	return r
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

// detail is the reason and the metadata of an error.
func detail(err error) (components.Reason, map[string]string) {
	var d *components.Detail
	if !errors.As(err, &d) {
		return "", nil
	}
	return d.Reason, d.Metadata
}

// reason fails unless err is of a kind and has a reason.
func reason(t *testing.T, err, want error, why components.Reason) {
	t.Helper()
	outcome(t, err, want)
	if got, _ := detail(err); got != why {
		t.Fatalf("%v: reason %q, want %q", err, got, why)
	}
}

// offered tells whether the driver offers a feature. If it does not, what the front answers must be ErrUnsupported.
func (f *fixture) offered(t *testing.T, feature state.Feature, tx state.Transaction) bool {
	t.Helper()
	if r, ok := f.driver.(state.Restricted); !ok || r.Offers(feature) {
		return true
	}
	t.Logf("%T does not offer %q: tested is only that it is refused", f.driver, feature)
	_, err := f.Transact(t.Context(), f.caller, tx)
	outcome(t, err, components.ErrUnsupported)
	return false
}

func text(value string) state.Item { return state.Item{Value: []byte(value)} }

func put(key, value string) state.Operation {
	return state.Operation{Kind: state.Set, Key: key, Item: text(value)}
}

// ops is a transaction of some operations.
func ops(all ...state.Operation) state.Transaction { return state.Transaction{Operations: all} }
