package main

import "testing"

// TestSchedule: a seed has one schedule, and each seed its own.
func TestSchedule(t *testing.T) {
	const n = 1000
	hash := func(seed uint64, n int) string {
		b := &bank{options: options{driver: "local", seed: seed, n: n}, names: []string{"application s0", "sidecar bank0"}}
		b.points = append([]string{"local.given"}, own...)
		plan, hash := b.schedule()
		armed := map[string]int{}
		kills, freezes := 0, 0
		for i := range plan {
			for _, p := range plan[i].Arm {
				armed[p]++
			}
			if plan[i].Kill != "" {
				kills++
			}
			if plan[i].Freeze != "" {
				freezes++
			}
		}
		for _, p := range b.points {
			if armed[p] == 0 {
				t.Errorf("seed %d, %d transfers: nobody is killed at %s", seed, n, p)
			}
		}
		if len(plan) != n || kills < n/40 || freezes != n/50 {
			t.Errorf("seed %d: %d transfers, %d kills at random, %d freezes", seed, len(plan), kills, freezes)
		}
		return hash
	}
	if one, again := hash(7, n), hash(7, n); one != again {
		t.Errorf("the schedules of one seed are %s and %s", one, again)
	}
	if one, other := hash(7, n), hash(8, n); one == other {
		t.Errorf("two seeds have the schedule %s", one)
	}
	if one, other := hash(7, n), hash(7, n+1); one == other {
		t.Errorf("%d and %d transfers have the schedule %s", n, n+1, one)
	}
}
