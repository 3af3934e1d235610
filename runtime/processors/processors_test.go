package processors

import (
	"context"
	"runtime"
	"slices"
	"sync"
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
		{"a burst in between", 4, []step{{4, 0.6, false, 4}, {1, 3.5, false, 4}, {4, 0.6, false, 4}, {1, 0.6, false, 1}}},
		{"on many cores", 64, []step{{4, 2.5, false, 64}, {1, 2.5, false, 4}}},
		{"the most that it took meanwhile", 64, []step{{2, 2.5, false, 64}, {1, 9, false, 64}, {2, 2.5, false, 13}}},
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

// fake is a system that is as the test says. What it was told is kept: a reset is negative.
type fake struct {
	mu     sync.Mutex
	share  float64 // processors in use
	limit  int
	now    int
	custom bool
	told   []int
	writes bool // something to files
	all    usage
	last   time.Time

	end  context.CancelFunc
	done chan struct{}
}

func (f *fake) usage() (usage, bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.all.cpu += time.Duration(f.share * float64(time.Since(f.last)))
	if f.writes {
		f.all.wrote++
	}
	f.last = time.Now()
	return f.all, true
}

func (f *fake) count() int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.now
}

func (f *fake) set(n int) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.now, f.custom, f.told = n, true, append(f.told, n)
}

func (f *fake) reset() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.now, f.custom, f.told = f.limit, false, append(f.told, -f.limit)
}

// pass lets so much be used for that long. The limit may be another from its begin on, which Go follows unless the number was set.
func (f *fake) pass(d time.Duration, share float64, limit int) {
	f.mu.Lock()
	f.share = share
	if f.limit = limit; !f.custom {
		f.now = limit
	}
	f.mu.Unlock()
	time.Sleep(d)
	synctest.Wait()
}

func tended(t *testing.T, limit int) *fake {
	f := &fake{limit: limit, now: limit, last: time.Now(), done: make(chan struct{})}
	ctx, end := context.WithCancel(t.Context())
	f.end = end
	go func() {
		defer close(f.done)
		tend(ctx, system{f.usage, f.count, f.set, f.reset})
	}()
	synctest.Wait()
	return f
}

func (f *fake) ends(t *testing.T, want ...int) {
	t.Helper()
	f.end()
	<-f.done
	if !slices.Equal(f.told, want) {
		t.Errorf("%v, want %v (a reset is negative)", f.told, want)
	}
}

func TestTend(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := tended(t, 2)
		f.pass(time.Second, 0.6, 2)
		f.pass(time.Second, 0.95, 4) // of a container, whose limit was raised meanwhile
		f.pass(time.Second, 1, 4)
		f.ends(t, -2, 1, -4, 2, -4)
	})
}

func TestTendWhereFilesAreWritten(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := tended(t, 4)
		f.mu.Lock()
		f.writes = true
		f.mu.Unlock()
		f.pass(10*time.Second, 0.6, 4)
		f.ends(t, -4, 2, -4)
	})
}

// There are never more processors for long than a limit that was lowered, though fewer than before would not do.
func TestALowerLimit(t *testing.T) {
	synctest.Test(t, func(t *testing.T) { // while there are as many as there may be
		f := tended(t, 8)
		f.pass(time.Second, 6, 8)
		f.pass(time.Hour, 3, 3)
		f.ends(t, -8, -3)
	})
	synctest.Test(t, func(t *testing.T) { // while there are fewer
		f := tended(t, 8)
		f.pass(2*time.Second, 4, 8)
		f.pass(again, 3, 3)
		f.pass(time.Second, 2.5, 3)
		f.ends(t, -8, 6, 5, -3, -3)
	})
}

// A higher one that came while there was little to do, or nothing to decide, counts.
func TestAHigherLimit(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := tended(t, 2)
		f.pass(time.Hour, 0, 8)
		f.pass(10*time.Second, 2.5, 8)
		f.ends(t, -2, 4, -8)
	})
}

// As long as there are fewer processors it is asked now and then how many there may be, and they stay.
func TestAskedAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := tended(t, 2)
		f.pass(2*again+time.Second, 0.6, 2)
		f.ends(t, -2, 1, -2, 1, -2, 1, -2)
	})
}

// The number of this process really changes, and is as before at the end, however many cores there are.
func TestProcess(t *testing.T) {
	t.Cleanup(runtime.SetDefaultGOMAXPROCS)
	s, begin, set := process, time.Now(), make(chan int, 1)
	s.usage = func() (usage, bool) { return usage{cpu: time.Since(begin) * 6 / 10}, true }
	s.reset = func() { runtime.GOMAXPROCS(3) }
	s.set = func(n int) {
		process.set(n)
		select {
		case set <- runtime.GOMAXPROCS(0):
		default:
		}
	}
	ctx, end := context.WithCancel(t.Context())
	var tends sync.WaitGroup
	tends.Go(func() { tend(ctx, s) })
	if got := <-set; got != 1 {
		t.Errorf("%d processors with hardly anything to do for them, want 1", got)
	}
	end()
	tends.Wait()
	if got := process.count(); got != 3 {
		t.Errorf("%d processors at the end, want 3", got)
	}
	process.set(runtime.NumCPU() + 1)
	if process.reset(); process.count() > runtime.NumCPU() {
		t.Errorf("%d processors after a reset, on %d cores", process.count(), runtime.NumCPU())
	}
}

func TestTendLeavesWhatItCannotHelp(t *testing.T) {
	for _, c := range []struct {
		most     int
		measured bool
	}{{1, true}, {8, false}} {
		tend(t.Context(), system{usage: func() (usage, bool) { return usage{}, c.measured }, // returns, though its context goes on
			count: func() int { return c.most },
			set:   func(n int) { t.Errorf("%+v: set to %d", c, n) }, reset: func() {}})
	}
	t.Setenv("GOMAXPROCS", "2")
	Tend(t.Context())
}
