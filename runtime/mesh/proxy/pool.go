package proxy

import (
	"context"
	"sync"
	"sync/atomic"
	"time"

	"github.com/outrigger-mesh/outrigger/runtime/mesh"
)

// place is where connections lead that can be shared.
type place struct {
	protocol, address, identity string
	direct                      bool
}

// instance is what is dialled there.
func (p place) instance() *mesh.Instance {
	return &mesh.Instance{Address: p.address, Identity: p.identity, Direct: p.direct, Protocol: p.protocol}
}

const idleSweeps = 10 // sweeps, a minute each, after which an unused place is forgotten

// pool keeps the connections to places for as long as they are used.
type pool[K comparable, U interface{ Close() }] struct {
	make func(K) U
	all  sync.Map // K -> *kept[U]
}

// kept is one place's.
type kept[U any] struct {
	up   U
	idle atomic.Int32 // sweeps since its last use; negative: it is being closed
}

// get answers the one of a place, made if there is none.
func (p *pool[K, U]) get(key K) U {
	for {
		if k, ok := p.all.Load(key); ok && k.(*kept[U]).use() {
			return k.(*kept[U]).up
		}
		fresh := &kept[U]{up: p.make(key)}
		if _, raced := p.all.LoadOrStore(key, fresh); !raced {
			return fresh.up
		}
		fresh.up.Close()
	}
}

// use marks it as used; false if it is being closed.
func (k *kept[U]) use() bool {
	for {
		n := k.idle.Load()
		if n <= 0 {
			return n == 0
		}
		if k.idle.CompareAndSwap(n, 0) {
			return true
		}
	}
}

// unused counts one sweep more; true when there have been so many that nobody may use it any longer.
func (k *kept[U]) unused() bool {
	n := k.idle.Load()
	next := n + 1
	if next > idleSweeps {
		next = -1
	}
	return k.idle.CompareAndSwap(n, next) && next < 0
}

// sweep closes what has not been used for a while.
func (p *pool[K, U]) sweep() {
	p.all.Range(func(key, k any) bool {
		if k := k.(*kept[U]); k.unused() {
			p.all.Delete(key)
			k.up.Close()
		}
		return true
	})
}

// Side is one of the sides that calls leave or come in by.
type Side interface{ sweep() }

var _ = []Side{&Outbound{}, &HTTPOutbound{}, &RPCOutbound{}, &Inbound{}, &HTTPInbound{}, &RPCInbound{}}

// Sweep closes the connections to addresses, and to ports of the application, that have not been called for a while, until ctx ends.
func Sweep(ctx context.Context, sides ...Side) {
	tick := time.NewTicker(time.Minute)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		for _, s := range sides {
			s.sweep()
		}
	}
}
