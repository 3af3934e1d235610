package registrytest

import (
	"errors"
	"time"

	"github.com/outrigger-mesh/outrigger/components/registry"
)

func watchBegins(s *suite) {
	d := s.Open()
	one, two := record(stock, "10.0.0.1:7080"), record(stock, "10.0.0.2:7080")
	s.register(d, one)
	s.register(d, two)
	w := s.watch(d, stock, nil)
	w.want(one, two)
	w.mu.Lock()
	defer w.mu.Unlock()
	if !equal(w.first, []registry.Record{one, two}) {
		s.Errorf("the first report is %v, want all there is", w.first)
	}
}

// watchLastState: of many changes in a row the last state is reported, and none after a newer one.
func watchLastState(s *suite) {
	d := s.Open()
	r := record(stock, "10.0.0.1:7080")
	r.Weight = 0
	s.register(d, r)
	w := s.watch(s.Open(), stock, nil)
	w.want(r)
	highest := 0
	check := s.watch(s.Open(), stock, nil)
	for r.Weight < 40 {
		r.Weight++
		s.register(d, r)
		check.mu.Lock()
		for _, got := range check.list {
			if got.Weight < highest {
				s.Errorf("weight %d is reported after %d", got.Weight, highest)
			}
			highest = max(highest, got.Weight)
		}
		check.mu.Unlock()
	}
	w.want(r)
	check.want(r)
}

func watchOwnership(s *suite) {
	d := s.Open()
	one, two := record(stock, "10.0.0.1:7080"), record(stock, "10.0.0.2:7080")
	s.register(d, one)
	w := s.watch(d, stock, nil)
	w.want(one)
	w.mu.Lock()
	w.list[0].Metadata["zone"] = "overwritten"
	w.list[0].Weight = 1
	w.mu.Unlock()
	s.want(d, stock, one)
	s.register(d, two)
	w.want(one, two)
}

func watchEnds(s *suite) {
	d := s.Open()
	w := s.watch(d, stock, nil)
	w.want()
	w.stop()
	_ = w.wantEnd() // any error or none: it is the context that counts
	s.register(d, record(stock, "10.0.0.1:7080"))
	w.want()
}

func watchReportFails(s *suite) {
	d := s.Open()
	enough := errors.New("enough")
	for _, failing := range []int{1, 2} {
		ended, begun := make(chan error, 1), make(chan bool, 1)
		reports := 0
		go func() {
			ended <- d.Watch(s.Context(), stock, func([]registry.Record) error {
				if reports++; reports == 1 {
					begun <- true
				}
				if reports == failing {
					return enough
				}
				return nil
			})
		}()
		select {
		case <-begun:
		case <-time.After(s.Patience):
			s.Fatal("nothing is reported")
		}
		s.register(d, record(stock, "10.0.0.1:7080"))
		select {
		case err := <-ended:
			if !errors.Is(err, enough) {
				s.Errorf("the watch ends with %v, want what report answered", err)
			}
		case <-time.After(s.Patience):
			s.Fatal("the watch does not end when report fails")
		}
		s.deregister(d, stock, "10.0.0.1:7080")
		s.want(d, stock) // or the next would begin with it, where others hear of changes late
	}
}

// watchSlowReader: one that does not come back from report holds up nobody else, and is told the last state later.
func watchSlowReader(s *suite) {
	d := s.Open()
	release := make(chan struct{})
	slow := s.watch(d, stock, func() { <-release })
	other := s.watch(d, stock, nil)
	r := record(stock, "10.0.0.1:7080")
	for r.Weight = range 5 {
		s.register(d, r)
		other.want(r)
	}
	close(release)
	slow.want(r)
}

func watchMany(s *suite) {
	d := s.Open()
	var all []*tail
	for range 30 {
		all = append(all, s.watch(d, stock, nil))
	}
	for _, w := range all {
		w.want()
	}
	r := record(stock, "10.0.0.1:7080")
	s.register(d, r)
	for _, w := range all {
		w.want(r)
	}
}

// watchOthers: what changes of one service is not reported to who watches another.
func watchOthers(s *suite) {
	d := s.Open()
	there := record(registry.Service{Namespace: "shop", Group: "main", Name: "orders"}, "10.0.0.2:7080")
	s.register(d, there)
	quiet, w := s.watch(d, there.Service, nil), s.watch(d, stock, nil)
	quiet.want(there)
	r := record(stock, "10.0.0.1:7080")
	for r.Weight = range 5 {
		s.register(d, r)
		w.want(r)
	}
	there.Weight++
	s.register(d, there)
	quiet.want(there) // by now all has come that was to come before
	quiet.mu.Lock()
	defer quiet.mu.Unlock()
	if quiet.reports != 2 {
		s.Errorf("%d reports while another service changed, want 2: what there is, and what it became", quiet.reports)
	}
}
