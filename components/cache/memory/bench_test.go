package memory_test

import (
	"strconv"
	"testing"
	"time"

	"github.com/outrigger-mesh/outrigger/components"
	"github.com/outrigger-mesh/outrigger/components/cache"
)

var caller = components.Caller{Namespace: "default", App: "bench"}

// front opens a store with the defaults behind its front, as an API front-end sees it.
func front(b testing.TB) *cache.Cache {
	d := open(b, defaults)
	b.Cleanup(func() { _ = d.(components.Closer).Close(b.Context()) })
	c := components.NewComponent[cache.Driver](components.ID{Capability: "cache", Name: "bench", Driver: "memory"}, components.Limits{}, nil)
	c.Set(d)
	return cache.New(c)
}

func keys() []string {
	all := make([]string, 1024)
	for i := range all {
		all[i] = "session/" + strconv.Itoa(i)
	}
	return all
}

// TestGetAllocates only the stored key and the copy of the value, through the front and all.
func TestGetAllocates(t *testing.T) {
	c := front(t)
	if _, err := c.Set(t.Context(), caller, "k", cache.Item{Value: make([]byte, 1024), ContentType: "text/plain", TTL: time.Hour}, cache.Condition{}); err != nil {
		t.Fatal(err)
	}
	ctx := t.Context()
	if n := testing.AllocsPerRun(100, func() { _, _ = c.Get(ctx, caller, "k") }); n > 2 {
		t.Errorf("a get allocates %v times, want 2", n)
	}
}

func BenchmarkGet(b *testing.B) {
	c, keys := front(b), keys()
	for _, key := range keys {
		if _, err := c.Set(b.Context(), caller, key, cache.Item{Value: make([]byte, 1024)}, cache.Condition{}); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportAllocs()
	b.RunParallel(func(pb *testing.PB) {
		for i := 0; pb.Next(); i++ {
			if _, err := c.Get(b.Context(), caller, keys[i%len(keys)]); err != nil {
				b.Error(err)
				return
			}
		}
	})
}

func BenchmarkGetMissing(b *testing.B) {
	c, keys := front(b), keys()
	b.ReportAllocs()
	b.RunParallel(func(pb *testing.PB) {
		for i := 0; pb.Next(); i++ {
			if _, err := c.Get(b.Context(), caller, keys[i%len(keys)]); err == nil {
				b.Error("found what was never set")
				return
			}
		}
	})
}

func BenchmarkSet(b *testing.B) {
	c, keys, value := front(b), keys(), make([]byte, 1024)
	b.ReportAllocs()
	b.RunParallel(func(pb *testing.PB) {
		for i := 0; pb.Next(); i++ {
			if _, err := c.Set(b.Context(), caller, keys[i%len(keys)], cache.Item{Value: value}, cache.Condition{}); err != nil {
				b.Error(err)
				return
			}
		}
	})
}

// BenchmarkSetFull writes keys that are never the same, so that each write evicts.
func BenchmarkSetFull(b *testing.B) {
	c, value := front(b), make([]byte, 1024)
	b.ReportAllocs()
	for i := 0; b.Loop(); i++ {
		if _, err := c.Set(b.Context(), caller, strconv.Itoa(i), cache.Item{Value: value}, cache.Condition{}); err != nil {
			b.Fatal(err)
		}
	}
}
