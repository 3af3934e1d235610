package memory_test

import (
	"errors"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/goleak"

	"github.com/outrigger-mesh/outrigger/components"
	"github.com/outrigger-mesh/outrigger/components/cache"
	"github.com/outrigger-mesh/outrigger/components/cache/cachetest"
	"github.com/outrigger-mesh/outrigger/components/cache/memory"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// open makes a store with the defaults, as far as change leaves them.
func open(t testing.TB, change func(o *memory.Options)) cache.Driver {
	t.Helper()
	return openMeasured(t, nil, change)
}

func openMeasured(t testing.TB, meter prometheus.Registerer, change func(o *memory.Options)) cache.Driver {
	t.Helper()
	decoded, err := cache.Drivers.Decode("memory", func(o any) error {
		change(o.(*memory.Options))
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	d, err := cache.Drivers.Open(t.Context(), "memory", components.Env{Meter: meter}, decoded)
	if err != nil {
		t.Fatal(err)
	}
	return d
}

func defaults(*memory.Options) {}

func TestConformance(t *testing.T) {
	cachetest.Run(t, func(t *testing.T) cache.Driver { return open(t, defaults) })
}

// TestOneWinnerOfMany comes at the moment between the check of a condition and its write, far more often than the suite does.
func TestOneWinnerOfMany(t *testing.T) {
	const keys, callers = 20000, 4
	d := open(t, defaults)
	defer func() { _ = d.(components.Closer).Close(t.Context()) }()
	var wins [keys]atomic.Int32
	var running sync.WaitGroup
	for range callers {
		running.Go(func() {
			for i := range keys {
				_, err := d.Set(t.Context(), strconv.Itoa(i), cache.Item{}, cache.SetOptions{Condition: cache.Condition{IfAbsent: true}})
				if err == nil {
					wins[i].Add(1)
				} else if !errors.Is(err, components.ErrExists) {
					t.Errorf("set: %v", err)
				}
			}
		})
	}
	running.Wait()
	for i := range wins {
		if n := wins[i].Load(); n != 1 {
			t.Fatalf("key %d was absent for %d callers, want 1", i, n)
		}
	}
}

func TestLargestCallHasRoom(t *testing.T) {
	d := open(t, defaults)
	defer func() { _ = d.(components.Closer).Close(t.Context()) }()
	item := cache.Item{Value: make([]byte, 4<<20), Metadata: map[string]string{"a": "1"}}
	if _, err := d.Set(t.Context(), strings.Repeat("k", components.MaxKey), item, cache.SetOptions{}); err != nil {
		t.Error(err)
	}
}

func TestOptionsThatCannotWork(t *testing.T) {
	for want, o := range map[string]memory.Options{
		"max_bytes must be more than 0\nmax_item_bytes must be more than 0": {},
		"max_item_bytes (2MiB) must not be more than max_bytes (1MiB)":      {MaxBytes: 1 << 20, MaxItemBytes: 2 << 20},
	} {
		if err := o.Validate(); err == nil || err.Error() != want {
			t.Errorf("%+v: %v, want %s", o, err, want)
		}
	}
}
