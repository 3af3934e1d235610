package memory_test

import (
	"errors"
	"fmt"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"testing"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/outrigger-mesh/outrigger/components"
	"github.com/outrigger-mesh/outrigger/components/cache"
	"github.com/outrigger-mesh/outrigger/components/cache/memory"
)

const mib = 1 << 20

// measured is a store with its metrics.
type measured struct {
	cache.Driver
	metrics *prometheus.Registry
}

func openSmall(t *testing.T, maxBytes components.Size) measured {
	t.Helper()
	m := measured{metrics: prometheus.NewRegistry()}
	m.Driver = openMeasured(t, m.metrics, func(o *memory.Options) { o.MaxBytes, o.MaxItemBytes = maxBytes, min(o.MaxItemBytes, maxBytes) })
	t.Cleanup(func() { m.close(t) })
	return m
}

func (m measured) close(t *testing.T) {
	t.Helper()
	if err := m.Driver.(components.Closer).Close(t.Context()); err != nil {
		t.Errorf("close: %v", err)
	}
}

func (m measured) bytes(t *testing.T) int { return m.metric(t, "outrigger_cache_memory_bytes") }
func (m measured) evictions(t *testing.T) int {
	return m.metric(t, "outrigger_cache_memory_evictions_total")
}

func (m measured) metric(t *testing.T, name string) int {
	t.Helper()
	families, err := m.metrics.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range families {
		if f.GetName() == name {
			return int(f.GetMetric()[0].GetGauge().GetValue() + f.GetMetric()[0].GetCounter().GetValue())
		}
	}
	t.Fatalf("no metric %s", name)
	return 0
}

func (m measured) put(t *testing.T, key string, size int) {
	t.Helper()
	if _, err := m.Set(t.Context(), key, cache.Item{Value: make([]byte, size)}, cache.SetOptions{}); err != nil {
		t.Fatalf("set %q: %v", key, err)
	}
}

// count tells how many of the keys PREFIX0, PREFIX1, ... are there.
func (m measured) count(t *testing.T, prefix string, n int) (there int) {
	t.Helper()
	for i := range n {
		ok, err := m.Driver.(cache.Exister).Exists(t.Context(), prefix+strconv.Itoa(i))
		if err != nil {
			t.Fatal(err)
		}
		if ok {
			there++
		}
	}
	return there
}

func TestItemTooLarge(t *testing.T) {
	m := openSmall(t, mib)
	m.put(t, "k", 10)
	_, err := m.Set(t.Context(), "k", cache.Item{Value: make([]byte, mib)}, cache.SetOptions{})
	var d *components.Detail
	if !errors.Is(err, components.ErrExhausted) || !errors.As(err, &d) || d.Reason != memory.ReasonItemTooLarge || d.Metadata["limit"] != "max_item_bytes" {
		t.Fatalf("%v, %+v", err, d)
	}
	if got, err := m.Get(t.Context(), "k"); err != nil || len(got.Value) != 10 {
		t.Errorf("the item that was there: %d bytes, %v", len(got.Value), err)
	}
}

func TestBoundHolds(t *testing.T) {
	m := openSmall(t, mib)
	var writers sync.WaitGroup
	for w := range 8 {
		writers.Go(func() {
			for i := range 1000 {
				item := cache.Item{Value: make([]byte, i*17%9000), Metadata: map[string]string{"i": strconv.Itoa(i)}}
				if _, err := m.Set(t.Context(), fmt.Sprintf("%d/%d", w, i%700), item, cache.SetOptions{}); err != nil {
					t.Errorf("set: %v", err)
				}
			}
		})
	}
	writers.Wait()
	if used := m.bytes(t); used > mib || used < mib/2 {
		t.Errorf("%d bytes are used after many more were written, the bound is %d", used, mib)
	}
}

// TestBoundHoldsForWritesThatFillIt has items of which only one has room at a time.
func TestBoundHoldsForWritesThatFillIt(t *testing.T) {
	m := openSmall(t, mib)
	var writers sync.WaitGroup
	for w := range 8 {
		writers.Go(func() {
			for range 50 {
				_, err := m.Set(t.Context(), strconv.Itoa(w), cache.Item{Value: make([]byte, 800<<10)}, cache.SetOptions{})
				if err != nil && !errors.Is(err, components.ErrExhausted) {
					t.Errorf("set: %v", err)
				}
			}
		})
	}
	writers.Wait()
	if used := m.bytes(t); used > mib {
		t.Errorf("%d bytes are used, the bound is %d", used, mib)
	}
	m.put(t, "k", 800<<10)
	if _, err := m.Get(t.Context(), "k"); err != nil {
		t.Errorf("an item that fills the store: %v", err)
	}
}

// TestBoundIsOfRealMemory holds what is counted for an item against what the heap grows by.
func TestBoundIsOfRealMemory(t *testing.T) {
	const bound = 16 * mib
	for name, item := range map[string]func(i int) cache.Item{
		"tiny":     func(int) cache.Item { return cache.Item{Value: []byte("1")} },
		"1 KiB":    func(int) cache.Item { return cache.Item{Value: make([]byte, 1030)} },
		"expiring": func(i int) cache.Item { return cache.Item{Value: []byte("1"), TTL: 1 << 40} },
		"metadata": func(i int) cache.Item {
			return cache.Item{ContentType: strings.Clone("text/plain"), Metadata: map[string]string{"some": strconv.Itoa(i), "more": strconv.Itoa(i)}}
		},
		"large": func(int) cache.Item { return cache.Item{Value: make([]byte, 33<<10)} },
	} {
		before := heap()
		m := openSmall(t, bound)
		for i := 0; m.evictions(t) == 0; {
			for range 1000 {
				i++
				if _, err := m.Set(t.Context(), "default/app/key-"+strconv.Itoa(i), item(i), cache.SetOptions{}); err != nil {
					t.Fatal(err)
				}
			}
		}
		grown := heap() - before
		t.Logf("%s: the heap has grown by %.2f of the bound", name, float64(grown)/bound)
		if grown > bound*11/10 {
			t.Errorf("%s: the heap has grown by %d bytes, the bound is %d", name, grown, bound)
		}
		m.close(t)
	}
}

func heap() int64 {
	runtime.GC()
	runtime.GC()
	var stats runtime.MemStats
	runtime.ReadMemStats(&stats)
	return int64(stats.HeapAlloc)
}
