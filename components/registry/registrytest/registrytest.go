// Package registrytest is what each registry driver must do: Run holds one to it.
package registrytest

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/outrigger-mesh/outrigger/components/componenttest"
	"github.com/outrigger-mesh/outrigger/components/registry"
)

// Backend is an empty registry of its own.
type Backend struct {
	// Open makes another instance of the driver on it, closed at the test's end.
	Open func() registry.Driver
	// Put and Remove change it from outside, as another process does.
	Put    func(registry.Record)
	Remove func(s registry.Service, address string)
	// Patience is how long the suite waits for what must happen; 0: 10 s.
	Patience time.Duration
}

// Harness makes a backend for one test and undoes it by t.Cleanup.
type Harness func(t *testing.T) Backend

// Run runs the suite.
func Run(t *testing.T, open Harness) {
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			b := open(t)
			if b.Patience == 0 {
				b.Patience = 10 * time.Second
			}
			c.run(&suite{T: t, Backend: b})
		})
	}
}

var cases = []struct {
	name string
	run  func(*suite)
}{
	{"Empty", empty}, {"Register", register}, {"RegisterReplaces", registerReplaces}, {"RegisterLends", registerLends},
	{"RegisterAtOnce", registerAtOnce}, {"Deregister", deregister}, {"Names", names}, {"Outside", outside},
	{"Instances", instances}, {"WatchBegins", watchBegins}, {"WatchLastState", watchLastState}, {"WatchOwnership", watchOwnership},
	{"WatchEnds", watchEnds}, {"WatchReportFails", watchReportFails}, {"WatchSlowReader", watchSlowReader}, {"WatchMany", watchMany},
	{"WatchOthers", watchOthers},
	{"CloseTakesBack", closeTakesBack}, {"Succession", succession},
}

type suite struct {
	*testing.T
	Backend
}

var stock = registry.Service{Namespace: "shop", Group: "main", Name: "stock"}

func record(s registry.Service, address string) registry.Record {
	return registry.Record{Service: s, Address: address, Weight: 100, Metadata: map[string]string{"zone": "a", "empty": ""}}
}

func (s *suite) register(d registry.Driver, r registry.Record) {
	s.Helper()
	if err := d.Register(s.Context(), r); err != nil {
		s.Fatalf("register %v: %v", r, err)
	}
}

func (s *suite) deregister(d registry.Driver, at registry.Service, address string) {
	s.Helper()
	if err := d.Deregister(s.Context(), at, address); err != nil {
		s.Fatalf("deregister %v at %s: %v", at, address, err)
	}
}

// tail is a watch and what it has reported last.
type tail struct {
	s       *suite
	service registry.Service
	stop    context.CancelFunc
	ended   chan error

	mu       sync.Mutex
	reports  int
	overlaps bool
	first    []registry.Record
	list     []registry.Record
	gaps     int // reports of nothing
}

func (s *suite) watch(d registry.Driver, service registry.Service, during func()) *tail {
	s.Helper()
	ctx, stop := context.WithCancel(s.Context())
	w := &tail{s: s, service: service, stop: stop, ended: make(chan error, 1)}
	var busy sync.Mutex
	go func() {
		w.ended <- d.Watch(ctx, service, func(all []registry.Record) error {
			if !busy.TryLock() {
				w.mu.Lock()
				w.overlaps = true
				w.mu.Unlock()
				return nil
			}
			defer busy.Unlock()
			w.take(all)
			if during != nil {
				during()
			}
			return nil
		})
	}()
	s.Cleanup(stop)
	return w
}

func (w *tail) take(all []registry.Record) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.reports++; w.reports == 1 {
		w.first = all
	}
	w.list = all
	if len(all) == 0 {
		w.gaps++
	}
}

// want waits until the list is this.
func (w *tail) want(want ...registry.Record) {
	w.s.Helper()
	componenttest.Eventually(w.s.T, w.s.Patience, func() error { return w.differs(want) })
}

func (w *tail) differs(want []registry.Record) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	switch {
	case w.overlaps:
		return errors.New("report was called twice at once")
	case w.reports == 0:
		return errors.New("nothing is reported")
	case !equal(w.list, want):
		return fmt.Errorf("the watch of %v has %v, want %v", w.service, w.list, want)
	}
	return nil
}

// equal compares lists in whatever order.
func equal(got, want []registry.Record) bool {
	byAddress := func(a, b registry.Record) int { return strings.Compare(a.Address, b.Address) }
	return slices.EqualFunc(slices.SortedFunc(slices.Values(got), byAddress), slices.SortedFunc(slices.Values(want), byAddress),
		func(a, b registry.Record) bool {
			return a.Service == b.Service && a.Address == b.Address && a.Weight == b.Weight && maps.Equal(a.Metadata, b.Metadata)
		})
}

func (w *tail) wantEnd() (err error) {
	w.s.Helper()
	select {
	case err = <-w.ended:
	case <-time.After(w.s.Patience):
		w.s.Fatal("the watch does not end")
	}
	return err
}

func (s *suite) want(d registry.Driver, service registry.Service, want ...registry.Record) {
	s.Helper()
	w := s.watch(d, service, nil)
	w.want(want...)
	w.stop()
	_ = w.wantEnd() // any error or none: the context has ended
}
