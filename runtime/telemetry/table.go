package telemetry

import (
	"maps"
	"sync"
	"sync/atomic"
)

// table is a map that only grows, and whose readers take no lock and allocate nothing.
type table[K comparable, V any] struct {
	mu  sync.Mutex
	all atomic.Pointer[map[K]V]
}

func (t *table[K, V]) find(k K) (v V, ok bool) {
	if m := t.all.Load(); m != nil {
		v, ok = (*m)[k]
	}
	return v, ok
}

// get finds the value of k. Where there is none, build answers it, and whether to keep it under k; it is told how many there are.
func (t *table[K, V]) get(k K, build func(k K, have int) (v V, keep bool)) V {
	if v, ok := t.find(k); ok {
		return v
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	old := map[K]V{}
	if m := t.all.Load(); m != nil {
		if v, ok := (*m)[k]; ok {
			return v
		}
		old = *m
	}
	v, keep := build(k, len(old))
	if keep {
		grown := maps.Clone(old)
		grown[k] = v
		t.all.Store(&grown)
	}
	return v
}
