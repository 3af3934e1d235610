package scheduletest

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/outrigger-mesh/outrigger/components/schedule"
)

// now fires at once, and once.
func now() schedule.Trigger { return schedule.Trigger{At: time.Now().Add(-time.Millisecond)} }

func done(s *suite) {
	w := s.watch(s.driver, "")
	s.create(job("j", now()))
	f := w.handle()
	w.settle(f, schedule.Again, 0) // it is settled: too late
	w.none()
	w.close()
	s.watch(s.driver, "").none()
}

func again(s *suite) {
	w := s.watch(s.driver, "")
	s.create(job("j", now()))
	first := w.next()
	given := time.Now()
	w.settle(first, schedule.Again, s.Calm)
	second := w.next()
	if took := time.Since(given); took < s.Calm {
		s.Errorf("it comes again %v after, want %v", took, s.Calm)
	}
	w.settle(second, schedule.Again, 0)
	third := w.handle()
	if second.Attempt != 2 || third.Attempt != 3 {
		s.Errorf("the attempts are 1, %d, %d", second.Attempt, third.Attempt)
	}
	if second.ID != first.ID || third.ID != first.ID || !third.Scheduled.Equal(first.Scheduled) {
		s.Errorf("the ids are %q, %q, %q, the times %v, %v", first.ID, second.ID, third.ID, first.Scheduled, third.Scheduled)
	}
	w.none()
}

func returned(s *suite) {
	w := s.watch(s.driver, "")
	s.create(job("j", now()))
	f := w.next()
	w.settle(f, schedule.Returned, 0)
	if next := w.handle(); next.Attempt != 1 || next.ID != f.ID {
		s.Errorf("attempt %d of %q, after %q was returned unseen", next.Attempt, next.ID, f.ID)
	}
}

func givenBack(s *suite) {
	a, b := s.watch(s.driver, ""), s.watch(s.open(), "")
	s.create(job("j", now()))
	f := a.next()
	b.none()
	a.close()
	if next := b.handle(); next.ID != f.ID || next.Attempt != 2 {
		s.Errorf("attempt %d of %q comes, want 2 of %q", next.Attempt, next.ID, f.ID)
	}
}

// stale: a session cannot settle what another one has.
func stale(s *suite) {
	a, b := s.watch(s.driver, ""), s.watch(s.driver, "")
	s.create(job("j", now()))
	f := a.next()
	b.settle(f, schedule.Done, 0)
	a.settle(f, schedule.Again, 0)
	next := a.next()
	a.settle(f, schedule.Done, 0) // of the attempt before
	a.settle(next, schedule.Again, 0)
	if last := a.handle(); last.Attempt != 3 || last.ID != f.ID {
		s.Errorf("attempt %d of %q, want 3 of %q", last.Attempt, last.ID, f.ID)
	}
}

func strange(s *suite) {
	w := s.watch(s.driver, "")
	for _, position := range []string{"", "0", "zz", "\xff", "99999999999999999999"} {
		for _, o := range []schedule.Outcome{schedule.Done, schedule.Again, schedule.Returned, schedule.Extended} {
			w.settle(schedule.Firing{Position: position}, o, 0)
		}
	}
	s.create(job("j", now()))
	w.settle(w.next(), schedule.Extended, 0)
	w.none()
}

func (s *suite) createMany(n, size int) {
	s.Helper()
	for i := range n {
		j := job(fmt.Sprintf("j%03d", i), now())
		j.Data, j.Metadata = make([]byte, size-4), map[string]string{"ab": "cd"}
		s.create(j)
	}
}

func room(s *suite) {
	s.createMany(10, 100)
	w := s.watch(s.driver, "")
	got := 0
	for got < 10 {
		r := schedule.Room{Messages: 3, Bytes: 250}
		all := w.within(s.Patience, r)
		if len(all) == 0 || len(all) > 2 {
			s.Fatalf("%d firings of 100 bytes for a room of %d in %d bytes", len(all), r.Messages, r.Bytes)
		}
		for _, f := range all {
			if f.Job.Size() != 100 {
				s.Errorf("a firing has %d bytes, want 100", f.Job.Size())
			}
		}
		got += len(all)
	}
	w.none()
}

func noRoom(s *suite) {
	s.createMany(1, 100)
	w := s.watch(s.driver, "")
	for _, r := range []schedule.Room{{Messages: 1, Bytes: 99}, {Messages: 0, Bytes: 1000}} {
		if all := w.within(s.Calm, r); len(all) > 0 {
			s.Errorf("%d firings for a room of %d in %d bytes", len(all), r.Messages, r.Bytes)
		}
	}
	if all := w.within(s.Patience, schedule.Room{Messages: 1, Bytes: 100}); len(all) != 1 || all[0].Attempt != 1 {
		s.Errorf("%d firings when there is just room for one", len(all))
	}
}

// lessRoom: what was wanted before is not any more.
func lessRoom(s *suite) {
	w := s.watch(s.driver, "")
	if all := w.within(s.Calm/4, schedule.Room{Messages: 100, Bytes: 1 << 20}); len(all) > 0 {
		s.Fatal("firings of nothing")
	}
	other := s.watch(s.driver, "")
	s.createMany(3, 100)
	time.Sleep(s.Calm / 4)
	if all := w.within(s.Patience, plenty); len(all) != 1 || all[0].Attempt != 1 {
		s.Errorf("%d firings for a room of 1", len(all))
	}
	for range 2 {
		if f := other.next(); f.Attempt != 1 {
			s.Errorf("attempt %d of a firing that was never seen", f.Attempt)
		}
	}
}

// fetchEnds: a fetch that ends when a firing comes loses none and counts none.
func fetchEnds(s *suite) {
	w := s.watch(s.driver, "")
	for i := range 20 {
		s.create(job(fmt.Sprintf("j%02d", i), schedule.Trigger{At: time.Now().Add(time.Duration(i) * 5 * time.Millisecond)}))
	}
	seen := map[string]bool{}
	for end := time.Now().Add(s.Patience); len(seen) < 20 && time.Now().Before(end); {
		for _, f := range w.within(time.Duration(len(seen)%5+1)*time.Millisecond, plenty) {
			if f.Attempt != 1 || seen[f.ID] {
				s.Errorf("attempt %d of %q, seen before: %v", f.Attempt, f.Job.Name, seen[f.ID])
			}
			seen[f.ID] = true
			w.settle(f, schedule.Done, 0)
		}
	}
	if len(seen) != 20 {
		s.Errorf("%d of 20 firings came", len(seen))
	}
}

// endsUnseen: what comes to a session that ends meanwhile, and that nobody there sees, is no attempt.
func endsUnseen(s *suite) {
	s.create(job("j", now()))
	seen := 0
	for i := range 200 {
		w := s.watch(s.driver, "")
		firings := w.within(time.Duration(i)*5*time.Microsecond, plenty)
		w.close()
		for _, f := range firings {
			if seen++; f.Attempt != seen {
				s.Fatalf("attempt %d of what was seen %d times before", f.Attempt, seen-1)
			}
		}
	}
	if f := s.watch(s.driver, "").next(); f.Attempt != seen+1 {
		s.Errorf("attempt %d of what was seen %d times before", f.Attempt, seen)
	}
}

func prefix(s *suite) {
	a, b := s.watch(s.driver, "a"), s.watch(s.driver, "b/")
	for _, name := range []string{"a", "b", "b/c", "ab", "c"} {
		s.create(job(name, now()))
	}
	got := map[string]bool{a.handle().Job.Name: true, a.handle().Job.Name: true, b.handle().Job.Name: true}
	if len(got) != 3 || !got[app+"a"] || !got[app+"ab"] || !got[app+"b/c"] {
		s.Errorf("the sessions for a and b/ get %v", got)
	}
	a.none()
	b.none()
}

// share: each firing goes to one of the sessions, and each session gets some.
func share(s *suite) {
	const jobs, sessions = 40, 4
	var mu sync.Mutex
	var working sync.WaitGroup
	seen, got := map[string]int{}, make([]int, sessions)
	ctx, cancel := context.WithTimeout(s.Context(), s.Patience)
	defer cancel()
	for i := range sessions {
		w := s.watch(s.open(), "")
		working.Go(func() {
			for {
				all, err := w.session.Fetch(ctx, plenty)
				if err != nil {
					if !errors.Is(err, context.Canceled) {
						s.Errorf("session %d: %v", i, err)
					}
					return
				}
				mu.Lock()
				for _, f := range all {
					got[i]++
					if seen[f.ID]++; len(seen) == jobs {
						cancel()
					}
				}
				mu.Unlock()
				for _, f := range all {
					if err := w.session.Settle(s.Context(), []schedule.Settlement{{Position: f.Position}}); err != nil {
						s.Errorf("settle: %v", err)
					}
				}
				time.Sleep(5 * time.Millisecond)
			}
		})
	}
	s.createMany(jobs, 100)
	working.Wait()
	for id, n := range seen {
		if n != 1 {
			s.Errorf("the firing %q came %d times", id, n)
		}
	}
	for i, n := range got {
		if n == 0 {
			s.Errorf("session %d got none: %v", i, got)
		}
	}
}

// many jobs are due at one moment.
func many(s *suite) {
	due := time.Now().Add(s.Calm * 2)
	for i := range 200 {
		s.create(job(fmt.Sprintf("j%03d", i), schedule.Trigger{At: due}))
	}
	w := s.watch(s.driver, "")
	seen := map[string]bool{}
	for len(seen) < 200 {
		all := w.within(s.Patience, schedule.Room{Messages: 50, Bytes: 1 << 20})
		if len(all) == 0 {
			s.Fatalf("%d firings of 200 came", len(seen))
		}
		for _, f := range all {
			if seen[f.Job.Name] {
				s.Errorf("%q fires twice", f.Job.Name)
			}
			seen[f.Job.Name] = true
			w.settle(f, schedule.Done, 0)
		}
	}
}

func closing(s *suite) {
	d := s.Open()
	w := s.watch(d, "")
	s.create(job("j", now()))
	f := w.next()
	copy(f.Job.Data, "XXXX") // what is answered is the caller's
	w.close()
	s.shut(d)
	s.shut(d)
	if f := s.watch(s.driver, "").handle(); string(f.Job.Data) != "data of j" {
		s.Errorf("the data are %q", f.Job.Data)
	}
}
