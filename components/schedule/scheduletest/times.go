package scheduletest

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/outrigger-mesh/outrigger/components/schedule"
)

func at(s *suite) {
	w := s.watch(s.driver, "")
	due := time.Now().Add(s.Calm)
	j := job("j", schedule.Trigger{At: due})
	j.ContentType, j.Metadata = "text/plain", map[string]string{"a": "b"}
	if state := s.create(j); !state.Next.Equal(due) {
		s.Errorf("next is %v, want %v", state.Next, due)
	}
	f := w.handle()
	if time.Now().Before(due) {
		s.Errorf("it fires %v early", time.Until(due))
	}
	if !f.Scheduled.Equal(due) || f.Attempt != 1 || !f.Job.Same(j) {
		s.Errorf("the firing is %+v", f)
	}
	w.none()
}

func atPast(s *suite) {
	due := time.Now().Add(-time.Hour)
	for _, missed := range []schedule.Missed{schedule.Once, schedule.Skip, schedule.All} {
		j := job(fmt.Sprint(missed), schedule.Trigger{At: due})
		j.Missed = missed
		w := s.watch(s.driver, fmt.Sprint(missed))
		s.create(j)
		if f := w.handle(); !f.Scheduled.Equal(due) {
			s.Errorf("it was due at %v, not at %v", f.Scheduled, due)
		}
		w.none()
	}
}

func every(s *suite) {
	const interval = 50 * time.Millisecond
	w := s.watch(s.driver, "")
	begin := time.Now()
	s.create(job("j", schedule.Trigger{Every: interval}))
	ids, last := map[string]bool{}, begin
	for range 5 {
		f := w.handle()
		gap := f.Scheduled.Sub(last)
		if off := (gap + time.Second) % interval; gap < interval*9/10 || last != begin && off > 2*time.Millisecond && off < interval-2*time.Millisecond {
			s.Errorf("a firing was due %v after the one before", gap)
		}
		last = f.Scheduled
		ids[f.ID] = true
	}
	if took := time.Since(begin); len(ids) != 5 || took < 5*interval {
		s.Errorf("5 firings have %d ids and take %v", len(ids), took)
	}
}

func cron(s *suite) {
	w := s.watch(s.driver, "")
	s.create(job("j", schedule.Trigger{Cron: "* * * * * *", Zone: "Asia/Kathmandu"}))
	first := w.handle()
	second := w.handle()
	if first.Scheduled.Nanosecond() != 0 || second.Scheduled.Sub(first.Scheduled)%time.Second != 0 || !second.Scheduled.After(first.Scheduled) {
		s.Errorf("firings each second were due at %v and %v", first.Scheduled, second.Scheduled)
	}
}

func repeats(s *suite) {
	w := s.watch(s.driver, "")
	j := job("j", schedule.Trigger{Every: 10 * time.Millisecond})
	j.Repeats = 3
	s.create(j)
	for range 3 {
		w.handle()
	}
	w.none()
	if state := s.get("j"); state.Fired != 3 || !state.Next.IsZero() {
		s.Errorf("it has fired %d times of 3, next %v", state.Fired, state.Next)
	}
}

func until(s *suite) {
	w := s.watch(s.driver, "")
	j := job("j", schedule.Trigger{Every: 30 * time.Millisecond})
	j.Until, j.Missed = time.Now().Add(200*time.Millisecond), schedule.All
	s.create(j)
	n := 0
	for n < 10 {
		all := w.within(max(s.Calm, 500*time.Millisecond), plenty)
		if len(all) == 0 {
			break
		}
		w.settle(all[0], schedule.Done, 0)
		if n++; all[0].Scheduled.After(j.Until.Add(2 * time.Millisecond)) {
			s.Errorf("a firing was due %v after the end", all[0].Scheduled.Sub(j.Until))
		}
	}
	if n < 4 || n > 6 {
		s.Errorf("%d firings each 30 ms in 200 ms", n)
	}
}

func state(s *suite) {
	w := s.watch(s.driver, "")
	s.create(job("j", schedule.Trigger{Every: 300 * time.Millisecond}))
	f := w.next()
	if state := s.get("j"); state.Fired != 1 || !state.Last.IsZero() {
		s.Errorf("before it is settled: fired %d, last %v", state.Fired, state.Last)
	}
	w.settle(f, schedule.Done, 0)
	s.eventually(func() error {
		if state := s.get("j"); !state.Last.Equal(f.Scheduled) || !state.Next.After(f.Scheduled) {
			return fmt.Errorf("fired %d, last %v, want %v; next %v", state.Fired, state.Last, f.Scheduled, state.Next)
		}
		return nil
	})
}

// late holds a firing of a job that is due each 20 ms for a while, and answers it, when it was settled, and the next.
func late(s *suite, missed schedule.Missed) (first schedule.Firing, settled time.Time, next schedule.Firing) {
	w := s.watch(s.driver, "")
	j := job("j", schedule.Trigger{Every: 20 * time.Millisecond})
	j.Missed = missed
	s.create(j)
	first = w.next()
	if more := w.within(300*time.Millisecond, schedule.Room{Messages: 10, Bytes: 1 << 20}); len(more) > 0 {
		s.Errorf("it fires again before the firing was settled")
	}
	settled = time.Now()
	w.settle(first, schedule.Done, 0)
	return first, settled, w.handle()
}

func onceMissed(s *suite) {
	first, settled, next := late(s, schedule.Once)
	if lag := settled.Sub(next.Scheduled); lag > 100*time.Millisecond || next.Scheduled.Sub(first.Scheduled) < 200*time.Millisecond {
		s.Errorf("what was missed comes as a firing that was due %v before", lag)
	}
}

func skipMissed(s *suite) {
	_, settled, next := late(s, schedule.Skip)
	if next.Scheduled.Before(settled.Add(-time.Millisecond)) {
		s.Errorf("a firing comes that was missed, due %v before", settled.Sub(next.Scheduled))
	}
}

func allMissed(s *suite) {
	first, _, next := late(s, schedule.All)
	if gap := next.Scheduled.Sub(first.Scheduled); gap < 19*time.Millisecond || gap > 21*time.Millisecond {
		s.Errorf("the next firing that was missed was due %v after, want 20ms", gap)
	}
}

func allBounded(s *suite) {
	w := s.watch(s.driver, "")
	j := job("j", schedule.Trigger{Every: time.Millisecond})
	j.Missed = schedule.All
	s.create(j)
	first := w.next()
	time.Sleep(400 * time.Millisecond)
	settled := time.Now()
	w.settle(first, schedule.Done, 0)
	next := w.handle()
	if lag := settled.Sub(next.Scheduled); lag > (schedule.MaxBacklog+5)*time.Millisecond {
		s.Errorf("a firing comes that was due %v before, with %d newer ones", lag, lag/time.Millisecond)
	}
}

func skipNobody(s *suite) {
	j := job("j", schedule.Trigger{At: time.Now().Add(s.Calm * 2)}) // one that is past when it is created would fire
	j.Missed = schedule.Skip
	s.create(j)
	s.create(job("k", j.Trigger))
	time.Sleep(s.Calm*2 + s.SkipAfter + s.Calm)
	w := s.watch(s.driver, "")
	if f := w.handle(); f.Job.Name != app+"k" {
		s.Errorf("a firing of %q comes, to be skipped", f.Job.Name)
	}
	w.none()
	if state := s.get("j"); !state.Next.IsZero() || state.Fired != 0 {
		s.Errorf("what was skipped has fired %d times, next %v", state.Fired, state.Next)
	}
}

func allNobody(s *suite) {
	j := job("j", schedule.Trigger{Every: 20 * time.Millisecond})
	j.Missed, j.Repeats = schedule.All, 5
	s.create(j)
	time.Sleep(s.Calm)
	w := s.watch(s.driver, "")
	last := w.handle()
	for range 4 {
		f := w.handle()
		if gap := f.Scheduled.Sub(last.Scheduled); gap < 19*time.Millisecond || gap > 21*time.Millisecond {
			s.Errorf("a firing was due %v after the one before, want 20ms", gap)
		}
		last = f
	}
	w.none()
}

// restart closes every driver for a while.
func restart(s *suite) {
	due := time.Now().Add(50 * time.Millisecond)
	s.create(job("while away", schedule.Trigger{At: due}))
	s.create(job("later", schedule.Trigger{At: due.Add(s.Calm * 3)}))
	s.shut(s.driver)
	time.Sleep(s.Calm)
	s.driver = s.open()
	w := s.watch(s.driver, "")
	for _, name := range []string{"while away", "later"} {
		if f := w.handle(); f.Job.Name != app+name {
			s.Errorf("a firing of %q comes, want %q", f.Job.Name, name)
		}
	}
	w.none()
}

// restartUnsettled: what was delivered comes again, what was settled does not.
func restartUnsettled(s *suite) {
	s.create(job("a", schedule.Trigger{At: time.Now()}))
	s.create(job("b", schedule.Trigger{At: time.Now()}))
	w := s.watch(s.driver, "")
	settled, kept := w.handle(), w.next()
	w.close()
	s.shut(s.driver)
	s.driver = s.open()
	w = s.watch(s.driver, "")
	if f := w.handle(); f.ID != kept.ID || f.ID == settled.ID {
		s.Errorf("the firing %q of %q comes after the restart, want %q", f.ID, f.Job.Name, kept.ID)
	}
	w.none()
}

// fast: a job that is always due costs no more than is handled of it.
func fast(s *suite) {
	s.create(job("j", schedule.Trigger{Every: time.Millisecond}))
	w := s.watch(s.driver, "")
	ctx, cancel := context.WithTimeout(s.Context(), s.Calm)
	defer cancel()
	for ctx.Err() == nil {
		all, err := w.session.Fetch(ctx, schedule.Room{Messages: 100, Bytes: 1 << 20})
		if err != nil && !errors.Is(err, ctx.Err()) {
			s.Fatal(err)
		}
		if len(all) > 1 {
			s.Fatalf("%d firings of one job at once", len(all))
		}
		for _, f := range all {
			w.settle(f, schedule.Done, 0)
		}
	}
}
