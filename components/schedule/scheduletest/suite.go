// Package scheduletest is what each driver of schedules must do: Run holds one to it.
package scheduletest

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/outrigger-mesh/outrigger/components/componenttest"
	"github.com/outrigger-mesh/outrigger/components/schedule"
)

// Backend is a store of its own that was empty.
type Backend struct {
	// Open opens a driver on the store, as one more process would.
	Open func() schedule.Driver
	// SkipAfter is how late a firing that is to be skipped when it is missed may still come.
	SkipAfter time.Duration
	// Patience is how long the suite waits for what must happen; 0: 10 s. Calm is how long it looks for what must not; 0: 200 ms.
	Patience, Calm time.Duration
}

// Harness makes a backend for one test and undoes it by t.Cleanup.
type Harness func(t *testing.T) Backend

// Run runs the suite.
func Run(t *testing.T, open Harness) {
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel() // most of it is waiting
			s := &suite{T: t, Backend: open(t)}
			if s.Patience == 0 {
				s.Patience = 10 * time.Second
			}
			if s.Calm == 0 {
				s.Calm = 200 * time.Millisecond
			}
			s.driver = s.open()
			c.run(s)
		})
	}
}

var cases = []struct {
	name string
	run  func(*suite)
}{
	{"Absent", absent}, {"Values", values}, {"Same", same}, {"Other", other}, {"Replace", replace}, {"Never", never},
	{"List", list}, {"ListPages", listPages}, {"Applications", applications}, {"Delete", deleted},
	{"At", at}, {"AtPast", atPast}, {"Every", every}, {"Cron", cron}, {"Repeats", repeats}, {"Until", until}, {"State", state},
	{"OnceMissed", onceMissed}, {"SkipMissed", skipMissed}, {"AllMissed", allMissed}, {"AllBounded", allBounded},
	{"SkipNobody", skipNobody}, {"AllNobody", allNobody}, {"Restart", restart}, {"RestartUnsettled", restartUnsettled}, {"Fast", fast},
	{"Done", done}, {"Again", again}, {"Returned", returned}, {"GivenBack", givenBack}, {"Stale", stale}, {"Strange", strange},
	{"Room", room}, {"NoRoom", noRoom}, {"LessRoom", lessRoom}, {"FetchEnds", fetchEnds}, {"EndsUnseen", endsUnseen}, {"Prefix", prefix},
	{"Share", share}, {"Many", many}, {"Close", closing},
}

type suite struct {
	*testing.T
	Backend
	driver schedule.Driver
}

const app = "shop/orders/"

func (s *suite) open() schedule.Driver {
	d := s.Open()
	s.Cleanup(func() { s.shut(d) })
	return d
}

func (s *suite) shut(d schedule.Driver) { componenttest.Close(s.T, d) }

// job is one of the application's.
func job(name string, t schedule.Trigger) schedule.Job {
	return schedule.Job{Name: app + name, Trigger: t, Data: []byte("data of " + name)}
}

var hourly = schedule.Trigger{Cron: "@hourly"}

func (s *suite) create(j schedule.Job) schedule.State {
	s.Helper()
	state, err := s.driver.Create(s.Context(), j, false)
	if err != nil {
		s.Fatalf("create %q: %v", j.Name, err)
	}
	return state
}

func (s *suite) get(name string) schedule.State {
	s.Helper()
	state, err := s.driver.Get(s.Context(), app+name)
	if err != nil {
		s.Fatalf("get %q: %v", name, err)
	}
	return state
}

func (s *suite) eventually(holds func() error) {
	s.Helper()
	componenttest.Eventually(s.T, s.Patience, holds)
}

// watcher is a session.
type watcher struct {
	s       *suite
	session schedule.Session
	closed  bool
}

func (s *suite) watch(d schedule.Driver, prefix string) *watcher {
	s.Helper()
	session, err := d.Watch(s.Context(), schedule.Watching{Application: app, Prefix: prefix, AckDeadline: time.Minute})
	if err != nil {
		s.Fatalf("watch: %v", err)
	}
	w := &watcher{s: s, session: session}
	s.Cleanup(w.close)
	return w
}

func (w *watcher) close() {
	if w.closed {
		return
	}
	w.closed = true
	if err := w.session.Close(context.WithoutCancel(w.s.Context())); err != nil {
		w.s.Errorf("close of a session: %v", err)
	}
}

var plenty = schedule.Room{Messages: 1, Bytes: 1 << 20}

// within fetches for so long at most; none is no error.
func (w *watcher) within(d time.Duration, room schedule.Room) []schedule.Firing {
	w.s.Helper()
	ctx, cancel := context.WithTimeout(w.s.Context(), d)
	defer cancel()
	firings, err := w.session.Fetch(ctx, room)
	if err != nil && !(errors.Is(err, context.DeadlineExceeded) && ctx.Err() != nil) {
		w.s.Fatalf("fetch: %v", err)
	}
	now := time.Now()
	for _, f := range firings {
		if f.Scheduled.After(now) {
			w.s.Errorf("a firing of %q is %v early", f.Job.Name, f.Scheduled.Sub(now))
		}
		if f.ID == "" || f.Position == "" || f.Attempt < 1 {
			w.s.Errorf("a firing has id %q, position %q, attempt %d", f.ID, f.Position, f.Attempt)
		}
	}
	return firings
}

// next waits for one firing.
func (w *watcher) next() schedule.Firing {
	w.s.Helper()
	firings := w.within(w.s.Patience, plenty)
	if len(firings) != 1 {
		w.s.Fatalf("%d firings in %v, want 1", len(firings), w.s.Patience)
	}
	return firings[0]
}

// none holds that nothing comes for a while.
func (w *watcher) none() {
	w.s.Helper()
	if firings := w.within(w.s.Calm, plenty); len(firings) > 0 {
		w.s.Fatalf("a firing of %q comes, attempt %d, due %v", firings[0].Job.Name, firings[0].Attempt, firings[0].Scheduled)
	}
}

func (w *watcher) settle(f schedule.Firing, o schedule.Outcome, delay time.Duration) {
	w.s.Helper()
	if err := w.session.Settle(w.s.Context(), []schedule.Settlement{{Position: f.Position, Outcome: o, Delay: delay}}); err != nil {
		w.s.Fatalf("settle: %v", err)
	}
}

// handle takes the next firing and settles it.
func (w *watcher) handle() schedule.Firing {
	w.s.Helper()
	f := w.next()
	w.settle(f, schedule.Done, 0)
	return f
}
