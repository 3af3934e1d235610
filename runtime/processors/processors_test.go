package processors

import (
	"context"
	"os"
	"slices"
	"testing"
	"testing/synctest"
	"time"
)

func TestNext(t *testing.T) {
	type step struct {
		ticks int
		used  float64 // processors
		wrote bool
		want  int
	}
	for _, c := range []struct {
		name  string
		most  int
		steps []step
	}{
		{"nothing to do", 4, []step{{1000, 0, false, 4}}},
		{"a call at a time", 2, []step{{1000, 0.3, false, 2}}},
		{"a middling load", 2, []step{{4, 0.6, false, 2}, {1, 0.6, false, 1}, {1000, 0.5, false, 1}}},
		{"a middling load that comes and goes", 2, []step{{4, 0.6, false, 2}, {1, 0.1, false, 2}, {4, 0.6, false, 2}, {1, 0.6, false, 1}}},
		{"one step after the other", 4, []step{{5, 0.6, false, 3}, {5, 0.6, false, 2}, {5, 0.6, false, 1}}},
		{"as many as it takes", 8, []step{{1000, 2.5, false, 4}}},
		{"too much for one", 2, []step{{5, 0.6, false, 1}, {1, 0.9, false, 2}, {1000, 0.8, false, 2}}},
		{"too much at once", 8, []step{{1000, 0.6, false, 1}, {1, 1, false, 2}, {1, 2, false, 4}, {1, 4, false, 8}, {1, 8, false, 8}}},
		{"the load goes", 2, []step{{5, 0.6, false, 1}, {4, 0.1, false, 1}, {1, 0.1, false, 2}}},
		{"between little and some it stays as it is", 2, []step{{1000, 0.45, false, 2}, {5, 0.6, false, 1}, {1000, 0.45, false, 1}}},
		{"files are written", 4, []step{{1000, 0.6, true, 2}}},
		{"files begin to be written", 2, []step{{5, 0.6, false, 1}, {1, 0.6, true, 1}, {1, 0.6, true, 2}, {18, 0.6, false, 2}}},
		{"and are no longer", 2, []step{{1000, 0.6, true, 2}, {25, 0.6, false, 1}}},
		{"a write now and then", 2, []step{{5, 0.6, false, 1}, {1, 0.6, true, 1}, {20, 0.6, false, 1}, {1, 0.6, true, 1}}},
		{"one that writes", 1, []step{{100, 0.6, true, 1}, {100, 0.99, true, 1}}},
	} {
		f := fit{most: c.most, now: c.most}
		for i, s := range c.steps {
			for range s.ticks {
				f.next(s.used, s.wrote)
			}
			if f.now != s.want {
				t.Errorf("%s: %d processors after step %d, want %d", c.name, f.now, i, s.want)
			}
		}
	}
}

func TestTend(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var now usage
		share := 0.6
		limit, told := 2, []int{}
		last := time.Now()
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan struct{})
		go func() {
			defer close(done)
			tend(ctx, system{
				usage: func() (usage, bool) {
					now.cpu += time.Duration(share * float64(time.Since(last)))
					last = time.Now()
					return now, true
				},
				set:   func(n int) { told = append(told, n) },
				reset: func() int { told = append(told, -limit); return limit },
			})
		}()
		pass := func(d time.Duration) { time.Sleep(d); synctest.Wait() }
		pass(time.Second)
		share, limit = 0.95, 4 // of a container, whose limit was raised meanwhile
		pass(time.Second)
		share = 1
		pass(time.Second)
		cancel()
		<-done
		if want := []int{-2, 1, -4, 3, 2, -4}; !slices.Equal(told, want) {
			t.Errorf("%v, want %v (a reset is negative)", told, want)
		}
	})
}

func TestTendLeavesWhatItCannotHelp(t *testing.T) {
	for _, c := range []struct {
		most     int
		measured bool
	}{{1, true}, {8, false}} {
		tend(t.Context(), system{usage: func() (usage, bool) { return usage{}, c.measured }, // returns, though its context goes on
			set: func(n int) { t.Errorf("%+v: set to %d", c, n) }, reset: func() int { return c.most }})
	}
	t.Setenv("GOMAXPROCS", "2")
	Tend(t.Context())
}

// The system tells what this process uses and writes.
func TestUsed(t *testing.T) {
	before, ok := used()
	if !ok {
		t.Fatal("not measured")
	}
	for end := before.cpu + 20*time.Millisecond; ; {
		if now, _ := used(); now.cpu >= end {
			break
		}
	}
	f, err := os.CreateTemp(".", "written-") // the folder for temporary files may be in memory
	if err != nil {
		t.Fatal(err)
	}
	defer os.Remove(f.Name())
	defer f.Close()
	if _, err := f.Write(make([]byte, 1<<20)); err != nil {
		t.Fatal(err)
	}
	if after, _ := used(); after.wrote == before.wrote {
		t.Error("1 MiB written to a file counts for nothing")
	}
}
