// Package processors fits the number of processors that the Go runtime has (GOMAXPROCS) to the load.
//
// When several events come at once, the runtime wakes each idle processor to help, which mostly finds nothing and sleeps again: at a middling
// load that is a tenth of what a call costs (docs/benchmarks.md). With little load hardly two events come at once, and a processor more answers
// sooner. A goroutine that waits for the disk keeps its processor for a while, so that there are two where files are written.
package processors

import (
	"context"
	"math/bits"
	"os"
	"runtime"
	"time"
)

const (
	tick = 50 * time.Millisecond

	scarce   = 0.85 // of the processors are in use: there are more at once
	spacious = 0.70 // of fewer are: they will do
	some     = 0.50 // processors in use from which on fewer are worth while
	little   = 0.42 // in use up to which they are not
	settled  = 5    // ticks that it must have been so
	writing  = 20   // of so many ticks two in which files were written make it two processors at least

	again = time.Minute // after which it is asked anew how many there may be, while there are fewer
)

// fit is how many there are.
type fit struct {
	most   int
	now    int
	ticks  int    // that another number would have done
	goal   int    // the largest of these
	writes uint32 // a bit for each of the last ticks
}

// next is how many there are to be after a tick in which so many were in use, and files were written or not.
func (f *fit) next(used float64, wrote bool) int {
	f.writes = f.writes << 1 & (1<<writing - 1)
	if wrote {
		f.writes |= 1
	}
	least := 1
	if bits.OnesCount32(f.writes) > 1 {
		least = min(2, f.most)
	}
	want := f.now
	switch {
	case used > scarce*float64(f.now):
		f.now, f.ticks, f.goal = min(f.most, 2*f.now), 0, 0
		return f.now
	case used < little:
		want = f.most
	case used >= some:
		want = min(f.now, int(used/spacious)+1)
	}
	f.ticks, f.goal = f.ticks+1, max(f.goal, want)
	if want == f.now {
		f.ticks, f.goal = 0, 0
	} else if f.ticks >= settled {
		f.now, f.ticks, f.goal = f.goal, 0, 0
	}
	f.now = max(f.now, least)
	return f.now
}

// usage is what a process has used so far.
type usage struct {
	cpu   time.Duration
	wrote int64 // to files, in a unit of the system's
}

// system is what is measured and set.
type system struct {
	usage func() (usage, bool) // false: it cannot be measured
	count func() int           // how many there are: Go changes it by itself after reset, until set
	set   func(n int)
	reset func() // to as many as there may be
}

// process is this one.
var process = system{
	usage: used,
	count: func() int { return runtime.GOMAXPROCS(0) },
	set:   func(n int) { runtime.GOMAXPROCS(n) },
	reset: runtime.SetDefaultGOMAXPROCS, // as the machine, or the container's limit, is now
}

// Tend does that for this process until ctx ends. It does nothing where the environment has GOMAXPROCS, which is for who wants to decide by
// himself, where there is one processor, and where the system does not tell what a process uses.
func Tend(ctx context.Context) {
	if os.Getenv("GOMAXPROCS") == "" {
		tend(ctx, process)
	}
}

func tend(ctx context.Context, s system) {
	before, ok := s.usage()
	s.reset()
	most := s.count()
	if !ok || most == 1 {
		return
	}
	defer s.reset()
	f := fit{most: most, now: most}
	ticks := time.NewTicker(tick)
	defer ticks.Stop()
	at := time.Now()
	for asked := at; ; {
		select {
		case <-ctx.Done():
			return
		case <-ticks.C:
		}
		after, _ := s.usage()
		t := time.Now()
		switch {
		case f.now == f.most: // Go follows the limit
			f.most = s.count()
			f.now, asked = f.most, t
		case t.Sub(asked) >= again: // it does not after set
			s.reset()
			f.most, asked = s.count(), t
			if f.now = min(f.now, f.most); f.now < f.most {
				s.set(f.now)
			}
		}
		had := f.now
		switch n := f.next(float64(after.cpu-before.cpu)/float64(t.Sub(at)), after.wrote != before.wrote); {
		case n == had:
		case n == f.most:
			s.reset()
		default:
			s.set(n)
		}
		before, at = after, t
	}
}
