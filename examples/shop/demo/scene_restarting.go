package main

import (
	"context"
	"fmt"
)

// restarting is what the shop does not notice.
var restarting = scene{"A sidecar is exchanged while its application works", []check{
	{"sidecar-restarted", "the sidecar of orders is stopped and started while customers stand at the door of orders", restarted, func(_ context.Context, s *shop) error {
		return s.edit("orders.yaml", "app:", "ap:") // refused while it runs, and no way to start
	}},
	{"config-survives", "while it is away the discount changes: orders, still the same process, hears of it", configSurvives, func(_ context.Context, s *shop) error {
		return s.edit("orders.yaml", "/settings", "/sittings") // the new one looks elsewhere
	}},
}}

func restarted(ctx context.Context, s *shop) (expected, seen string, err error) {
	door, err := s.front()
	if err != nil {
		return "all orders succeed", "", err
	}
	customers := s.place(ctx, door)
	err = s.orders.restart(ctx)
	return "all orders succeed", customers.end(), err
}

func configSurvives(ctx context.Context, s *shop) (expected, seen string, err error) {
	expected = "25 % off, by the process that was there before"
	s.orders.stop(ctx)
	if err := s.announce(ctx, 25); err != nil {
		return expected, "", err
	}
	if err := s.orders.start(ctx); err != nil {
		return expected, "", err
	}
	if _, err := s.find(ctx, "orders"); err != nil {
		return expected, "", err
	}
	percent, err := s.discounted(ctx, 25)
	seen = fmt.Sprintf("%d %% off", percent)
	if s.ordersApp.running() {
		seen += ", by the process that was there before"
	}
	return expected, seen, err
}
