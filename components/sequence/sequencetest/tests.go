package sequencetest

import (
	"context"
	"errors"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/outrigger-mesh/outrigger/components"
	"github.com/outrigger-mesh/outrigger/components/componenttest"
	"github.com/outrigger-mesh/outrigger/components/sequence"
)

// sizes of rows, as a test takes them in turn.
var sizes = []int64{1, 3, 1, 999, 1000, 1, 1001, 1, 2500, 7}

// alone is about one caller.
var alone = []test{
	{"Increases", func(t *testing.T, f *fixture) {
		var last int64
		for range 3 {
			for _, size := range sizes {
				r := f.want(t, next, "k", size)
				if r.first <= last {
					t.Fatalf("%v after %d", r, last)
				}
				last = r.last
			}
		}
	}},
	{"UniqueIsUnique", func(t *testing.T, f *fixture) {
		var all given
		for range 3 {
			for _, size := range sizes {
				all.add(t, f.want(t, unique, "k", size))
			}
		}
	}},
	{"OrdersDoNotMeet", func(t *testing.T, f *fixture) {
		var all given
		var greatest int64
		for i, size := range sizes {
			u := f.want(t, unique, "k", size)
			n := f.want(t, next, "k", sizes[len(sizes)-1-i])
			all.add(t, u)
			all.add(t, n)
			if greatest = max(greatest, u.last); n.first <= greatest {
				t.Fatalf("%v is given in order, when %d had been given", n, greatest)
			}
			greatest = n.last
		}
	}},
	{"LargestSize", func(t *testing.T, f *fixture) {
		one := f.want(t, next, "k", sequence.MaxSize)
		if two := f.want(t, next, "k", sequence.MaxSize); two.first <= one.last {
			t.Errorf("%v after %v", two, one)
		}
	}},
	{"SizesThatAreNone", func(t *testing.T, f *fixture) {
		for _, size := range []int64{-1, sequence.MaxSize + 1} {
			if _, _, err := f.Next(t.Context(), f.caller, "k", size); !errors.Is(err, components.ErrInvalid) {
				t.Errorf("a size of %d: %v", size, err)
			}
		}
		if first, last, err := f.Next(t.Context(), f.caller, "k", 0); err != nil || first != last {
			t.Errorf("no size: %d to %d, %v", first, last, err)
		}
	}},
	{"KeysAreApart", func(t *testing.T, f *fixture) {
		// Of a key nothing was asked for the first number is no greater than what one call puts aside, if there are no others.
		for _, key := range []string{"k", "K", "k/", "k/k", strings.Repeat("k", components.MaxKey), strings.Repeat("k", components.MaxKey-1) + "l"} {
			if r := f.want(t, next, key, 100_000); r.first > 50_000 {
				t.Errorf("the first row of %.10q is %v", key, r)
			}
		}
	}},
	{"ApplicationsAreApart", func(t *testing.T, f *fixture) {
		f.want(t, next, "k", sequence.MaxSize)
		other := *f
		other.caller.App += "-2"
		if r := other.want(t, next, "k", 1); r.first > sequence.MaxSize/2 {
			t.Errorf("another application's first is %v", r)
		}
	}},
	{"EndedContext", func(t *testing.T, f *fixture) {
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		if _, _, err := f.Next(ctx, f.caller, "k", 1); !errors.Is(err, context.Canceled) {
			t.Errorf("next: %v", err)
		}
	}},
	{"CloseTwice", func(t *testing.T, f *fixture) {
		f.want(t, next, "k", 1)
		componenttest.Close(t, f.driver)
	}},
}

// shared is about many callers.
var shared = []test{
	{"ManyAtOnce", func(t *testing.T, f *fixture) {
		// What has been got is written down only after the call, and looked up only before the next one: whoever draws in order
		// then gets more.
		other := f.another(t)
		var all given
		var greatest atomic.Int64
		componenttest.Together(8, func(i int) {
			by := f
			if i%2 == 1 {
				by = other
			}
			draw := draw(next)
			if i%4 > 1 {
				draw = unique
			}
			for n := range 50 {
				before := greatest.Load()
				first, last, err := draw(by, t.Context(), "k", sizes[(i+n)%len(sizes)])
				if err != nil || !all.add(t, row{first, last}) {
					t.Errorf("caller %d: %v", i, err)
					return
				}
				if i%4 <= 1 && first <= before {
					t.Errorf("%d to %d is given in order, when %d had been given", first, last, before)
				}
				for was := greatest.Load(); was < last && !greatest.CompareAndSwap(was, last); {
					was = greatest.Load()
				}
			}
		})
	}},
	{"AnotherDriverGoesOn", func(t *testing.T, f *fixture) {
		var last int64
		for i := range 10 {
			by := f.another(t)
			r := by.want(t, next, "k", 1+int64(i%2))
			if r.first <= last {
				t.Fatalf("%v after %d", r, last)
			}
			last = r.last
		}
	}},
	{"OpenedAnewGoesOn", func(t *testing.T, f *fixture) {
		var last int64
		for range 5 {
			d := f.Open(t)
			by := &fixture{Suite: f.Suite, Sequence: front(d), driver: d, caller: f.caller}
			r := by.want(t, next, "k", 10)
			if r.first <= last {
				t.Fatalf("%v after %d", r, last)
			}
			last = r.last
			componenttest.Close(t, d)
		}
	}},
}
