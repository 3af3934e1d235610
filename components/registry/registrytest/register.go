package registrytest

import (
	"fmt"
	"maps"
	"sync"

	"github.com/outrigger-mesh/outrigger/components"
	"github.com/outrigger-mesh/outrigger/components/registry"
)

func empty(s *suite) {
	s.want(s.Open(), stock)
}

func register(s *suite) {
	d := s.Open()
	w := s.watch(d, stock, nil)
	w.want()
	one, two := record(stock, "10.0.0.1:7080"), record(stock, "[::1]:7080")
	two.Weight, two.Metadata = 0, map[string]string{"text": "ü \"quoted\"\n{}", "k=v&x": "a,b;c"}
	s.register(d, one)
	w.want(one)
	s.register(d, two)
	w.want(one, two)
	bare := registry.Record{Service: registry.Service{Namespace: "shop", Name: "bare"}, Address: "a-host.example:1", Weight: 1}
	s.register(d, bare)
	s.want(d, bare.Service, bare)
	s.want(d, stock, one, two)
}

func registerReplaces(s *suite) {
	d := s.Open()
	w := s.watch(d, stock, nil)
	r := record(stock, "10.0.0.1:7080")
	for range 3 {
		s.register(d, r)
	}
	w.want(r)
	r.Weight, r.Metadata = 7, map[string]string{"zone": "b"}
	s.register(d, r)
	w.want(r)
	r.Metadata = nil
	s.register(d, r)
	w.want(r)
}

func registerLends(s *suite) {
	d := s.Open()
	r := record(stock, "10.0.0.1:7080")
	lent := r
	lent.Metadata = maps.Clone(r.Metadata)
	s.register(d, lent)
	lent.Metadata["zone"] = "overwritten"
	s.want(d, stock, r)
	s.want(s.Open(), stock, r)
}

func registerAtOnce(s *suite) {
	d := s.Open()
	w := s.watch(d, stock, nil)
	var all []registry.Record
	for i := range 20 {
		all = append(all, record(stock, fmt.Sprintf("10.0.0.%d:7080", i+1)))
	}
	var writers sync.WaitGroup
	for _, r := range all {
		writers.Go(func() {
			if err := d.Register(s.Context(), r); err != nil {
				s.Errorf("register %s: %v", r.Address, err)
			}
		})
	}
	writers.Wait()
	w.want(all...)
}

func deregister(s *suite) {
	d := s.Open()
	one, two := record(stock, "10.0.0.1:7080"), record(stock, "10.0.0.2:7080")
	s.deregister(d, stock, one.Address)
	s.register(d, one)
	s.register(d, two)
	w := s.watch(d, stock, nil)
	w.want(one, two)
	other := stock
	other.Group = "other"
	s.deregister(d, other, one.Address)
	s.deregister(d, stock, "10.0.0.3:7080")
	s.want(d, stock, one, two)
	for range 2 {
		s.deregister(d, stock, one.Address)
	}
	w.want(two)
	s.register(d, one)
	w.want(one, two)
}

// names: services differ if any part differs, whatever is in the parts.
func names(s *suite) {
	d := s.Open()
	var all []registry.Service
	for _, name := range []string{"a", "A", "a.b", "com.foo.Bar:1.0", "providers:com.foo.Bar:1.0:", "a/b", "a b", "ü", "a@@b", "..", "a%2Fb", "a*"} {
		all = append(all, registry.Service{Namespace: "shop", Group: "main", Name: name})
	}
	all = append(all, registry.Service{Namespace: "shop", Name: "a"}, registry.Service{Namespace: "other", Group: "main", Name: "a"},
		registry.Service{Namespace: "shop", Group: "a", Name: "main"}, registry.Service{Namespace: "shop", Group: "maina", Name: "x"},
		registry.Service{Namespace: "shop", Group: "main", Name: "ax"})
	for i, service := range all {
		s.register(d, record(service, fmt.Sprintf("10.0.0.%d:7080", i+1)))
	}
	for i, service := range all {
		s.want(d, service, record(service, fmt.Sprintf("10.0.0.%d:7080", i+1)))
	}
}

func outside(s *suite) {
	d := s.Open()
	mine, other := record(stock, "10.0.0.1:7080"), record(stock, "10.0.0.2:7080")
	s.register(d, mine)
	w := s.watch(d, stock, nil)
	s.Put(other)
	w.want(mine, other)
	other.Weight = 1
	s.Put(other)
	w.want(mine, other)
	s.Remove(stock, other.Address)
	w.want(mine)
}

// instances: what one registers another sees, and neither takes the other's away.
func instances(s *suite) {
	a, b := s.Open(), s.Open()
	one, two := record(stock, "10.0.0.1:7080"), record(stock, "10.0.0.2:7080")
	s.register(a, one)
	s.register(b, two)
	s.want(a, stock, one, two)
	s.want(b, stock, one, two)
	s.deregister(b, stock, two.Address)
	s.want(a, stock, one)
}

func closeTakesBack(s *suite) {
	a, b := s.Open(), s.Open()
	c, ok := a.(components.Closer)
	if !ok {
		s.Fatal("a driver that keeps records alive has no Close")
	}
	one, two := record(stock, "10.0.0.1:7080"), record(stock, "10.0.0.2:7080")
	s.register(a, one)
	s.register(b, two)
	mine, others := s.watch(a, stock, nil), s.watch(b, stock, nil)
	mine.want(one, two)
	others.want(one, two)
	for range 2 {
		if err := c.Close(s.Context()); err != nil {
			s.Errorf("close: %v", err)
		}
	}
	others.want(two)
	if err := mine.wantEnd(); err == nil {
		s.Error("the watch of a closed driver ends without an error")
	}
	if err := a.Register(s.Context(), one); err == nil {
		s.Error("a closed driver registers")
	}
	s.want(b, stock, two)
}

// succession: a record that another instance has registered too stays when the first one takes its own back, by Deregister or by
// Close, and nobody sees it missing meanwhile.
func succession(s *suite) {
	a, b, c := s.Open(), s.Open(), s.Open()
	r := record(stock, "10.0.0.1:7080")
	s.register(a, r)
	s.want(c, stock, r)
	w := s.watch(c, stock, nil)
	s.register(b, r)
	s.deregister(a, stock, r.Address)
	s.want(b, stock, r)
	s.register(a, r)
	if err := b.(components.Closer).Close(s.Context()); err != nil {
		s.Error(err)
	}
	s.want(a, stock, r)
	w.want(r)
	if w.mu.Lock(); w.gaps > 0 {
		s.Errorf("a watcher was told %d times that there is none", w.gaps)
	}
	w.mu.Unlock()
}
