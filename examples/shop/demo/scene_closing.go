package main

import (
	"context"
	"strings"
	"sync"
	"time"
)

// closing ends everything in order.
var closing = scene{"The shop closes", []check{
	{"drained", "all that still runs is told to end (SIGTERM), and ends well", drained, func(_ context.Context, s *shop) error {
		s.till.kill()
		return nil
	}},
}}

func drained(ctx context.Context, s *shop) (expected, seen string, err error) {
	s.closeDoors()
	var running []*process
	for _, p := range s.processes {
		if p.running() || p == s.till.process {
			running = append(running, p)
		}
	}
	var all sync.WaitGroup
	for _, p := range running {
		all.Go(func() { p.stop(ctx, 20*time.Second) })
	}
	all.Wait()
	for _, p := range running {
		expected += p.name + " 0, "
		seen += p.name + " " + p.exit() + ", "
	}
	return strings.TrimSuffix(expected, ", "), strings.TrimSuffix(seen, ", "), nil
}
