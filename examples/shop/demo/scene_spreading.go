package main

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/outrigger-mesh/outrigger/examples/shop/shoppb"
)

// spreading is a service of two instances.
var spreading = scene{"A second shelf is opened", []check{
	{"instance-spread", "customers get their goods from both shelves", spread, func(_ context.Context, s *shop) error {
		return s.edit("shelf-2.yaml", "/registry", "/other-street") // nobody finds it
	}},
	{"rolling-restart", "the sidecar of each shelf is stopped and started in turn, one with its application", rolling, func(_ context.Context, s *shop) error {
		s.shelf2.kill() // while the other is away there is none
		return nil
	}},
	{"instance-gone", "the sidecar of the second shelf is killed: customers get all from the first", gone, func(ctx context.Context, s *shop) error {
		s.stock.stop(ctx)
		return nil
	}},
}}

func spread(ctx context.Context, s *shop) (expected, seen string, err error) {
	expected = "shelf-1, shelf-2"
	if err := s.secondShelf(ctx); err != nil {
		return expected, "", err
	}
	shelves := map[string]bool{}
	for len(shelves) < 2 {
		o, err := s.buy(ctx, "apple", 1)
		if err != nil {
			return expected, "", err
		}
		shelves[o.GetShelf()] = true
		if pause(ctx) != nil {
			break
		}
	}
	return expected, strings.Join(slices.Sorted(maps.Keys(shelves)), ", "), nil
}

// secondShelf opens it if it is not open.
func (s *shop) secondShelf(ctx context.Context) (err error) {
	if s.shelf2 == nil {
		s.shelf2 = s.newSidecar("shelf-2", "stock")
		if s.shelf2App, err = s.app("shelf-2", "stock", "-name=shelf-2"); err != nil {
			return err
		}
	}
	if s.shelf2.process == nil || !s.shelf2.running() {
		if err := s.shelf2.start(ctx); err != nil {
			return err
		}
	}
	_, err = s.shelf2App.line(ctx, "stock: serving on")
	return err
}

func rolling(ctx context.Context, s *shop) (expected, seen string, err error) {
	expected = "all orders succeed"
	customers := s.place(ctx, shoppb.NewOrdersClient(s.customer.Conn("orders")))
	for _, c := range []*sidecar{s.stock, s.shelf2} {
		if err = c.restart(ctx); err == nil {
			err = s.announced(ctx, c)
		}
		if err != nil {
			break
		}
	}
	return expected, customers.end(), err
}

// announced waits until callers know a sidecar.
func (s *shop) announced(ctx context.Context, c *sidecar) error {
	for {
		r, err := s.find(ctx, c.app)
		if err != nil {
			return err
		}
		for _, i := range r.Instances {
			if i.Address == c.ports["inbound"] {
				return nil
			}
		}
		if err := pause(ctx); err != nil {
			return fmt.Errorf("%s is not announced: %w", c.title, err)
		}
	}
}

func gone(ctx context.Context, s *shop) (expected, seen string, err error) {
	expected = "all orders succeed, from shelf-1"
	s.shelf2.kill()
	customers := s.place(ctx, shoppb.NewOrdersClient(s.customer.Conn("orders")))
	seen = customers.end()
	if len(customers.shelves) == 0 {
		return expected, seen, nil
	}
	return expected, seen + ", from " + strings.Join(slices.Sorted(maps.Keys(customers.shelves)), ", "), nil
}
