package scheduletest

import (
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/outrigger-mesh/outrigger/components"
	"github.com/outrigger-mesh/outrigger/components/schedule"
)

func absent(s *suite) {
	s.create(job("there", hourly))
	for _, name := range []string{"none", "the", "there/more"} {
		if _, err := s.driver.Get(s.Context(), app+name); !errors.Is(err, components.ErrNotFound) {
			s.Errorf("get %q: %v, want ErrNotFound", name, err)
		}
		if err := s.driver.Delete(s.Context(), app+name); err != nil {
			s.Errorf("delete %q, which is absent: %v", name, err)
		}
	}
	s.get("there")
}

func values(s *suite) {
	until := time.Now().Add(1000 * time.Hour).UTC().Truncate(time.Nanosecond)
	for name, j := range map[string]schedule.Job{
		"cron":      {Trigger: schedule.Trigger{Cron: "30 2 * * MON", Zone: "Europe/Berlin"}, Data: []byte("\x00\xff"), ContentType: "application/x"},
		"every":     {Trigger: schedule.Trigger{Every: 36*time.Hour + 1}, Metadata: map[string]string{"a": "1", "ü": ""}, Missed: schedule.Skip},
		"at":        {Trigger: schedule.Trigger{At: until.Add(-1)}, Repeats: 3, Until: until, Missed: schedule.All},
		"a/b ü.c":   {Trigger: hourly},
		"far ahead": {Trigger: schedule.Trigger{Every: schedule.MaxEvery}, Until: time.Date(9999, 12, 31, 23, 59, 59, 0, time.UTC)},
	} {
		j.Name = app + name
		if name == "far ahead" {
			j.Trigger.Every = 1000 * time.Hour
		}
		created := s.create(j)
		got := s.get(name)
		if !got.Same(j) || !created.Same(j) {
			s.Errorf("%q: %+v was created, %+v is there, %+v was answered", name, j, got.Job, created.Job)
		}
		if got.Fired != 0 || !got.Last.IsZero() || !got.Next.After(time.Now()) {
			s.Errorf("%q: next %v, fired %d, last %v before it has fired", name, got.Next, got.Fired, got.Last)
		}
	}
}

func same(s *suite) {
	j := job("once", schedule.Trigger{At: time.Now().Add(-time.Hour)})
	w := s.watch(s.driver, "")
	first := s.create(j)
	s.create(j)
	w.handle()
	s.eventually(func() error {
		if s.get("once").Last.IsZero() {
			return errors.New("the firing is not settled")
		}
		return nil
	})
	again := s.create(j)
	if first.Fired > again.Fired || again.Fired != 1 || !again.Next.IsZero() {
		s.Errorf("the same job again has fired %d times, next %v", again.Fired, again.Next)
	}
	w.none()
	if state, err := s.driver.Create(s.Context(), j, true); err != nil || state.Fired != 1 {
		s.Errorf("the same job in its own place: %+v, %v", state, err)
	}
	w.none()
}

func other(s *suite) {
	j := job("j", hourly)
	s.create(j)
	for what, change := range map[string]func(*schedule.Job){
		"trigger": func(j *schedule.Job) { j.Trigger = schedule.Trigger{Cron: "@daily"} }, "zone": func(j *schedule.Job) { j.Trigger.Zone = "Europe/Berlin" },
		"data": func(j *schedule.Job) { j.Data = []byte("other") }, "content type": func(j *schedule.Job) { j.ContentType = "text/plain" },
		"metadata": func(j *schedule.Job) { j.Metadata = map[string]string{"a": "b"} }, "missed": func(j *schedule.Job) { j.Missed = schedule.All },
		"repeats": func(j *schedule.Job) { j.Repeats = 1 }, "until": func(j *schedule.Job) { j.Until = time.Now().Add(24 * time.Hour) },
	} {
		k := j
		change(&k)
		if _, err := s.driver.Create(s.Context(), k, false); !errors.Is(err, components.ErrExists) {
			s.Errorf("another %s under the same name: %v, want ErrExists", what, err)
		}
	}
	if got := s.get("j"); !got.Same(j) {
		s.Errorf("what was refused has changed the job: %+v", got.Job)
	}
}

func replace(s *suite) {
	w := s.watch(s.driver, "")
	s.create(job("j", schedule.Trigger{At: time.Now()}))
	old := w.next()
	next := job("j", schedule.Trigger{At: time.Now().Add(-time.Second)})
	next.Data = []byte("new")
	if _, err := s.driver.Create(s.Context(), next, true); err != nil {
		s.Fatal(err)
	}
	f := w.next()
	if string(f.Job.Data) != "new" || f.ID == old.ID || f.Attempt != 1 {
		s.Errorf("after it was replaced %q comes, attempt %d, id %q after %q", f.Job.Data, f.Attempt, f.ID, old.ID)
	}
	w.settle(old, schedule.Again, 0) // means nothing any more
	w.settle(f, schedule.Done, 0)
	w.none()
}

func never(s *suite) {
	past := time.Now().Add(-time.Minute)
	for what, j := range map[string]schedule.Job{
		"ends in the past":              {Trigger: hourly, Until: past},
		"ends in the past, at once":     {Trigger: schedule.Trigger{At: past.Add(-time.Minute)}, Until: past},
		"ends before the first time":    {Trigger: schedule.Trigger{Every: time.Hour}, Until: time.Now().Add(time.Minute)},
		"ends before the only time":     {Trigger: schedule.Trigger{At: time.Now().Add(time.Hour)}, Until: time.Now().Add(time.Minute)},
		"ends before the table has one": {Trigger: schedule.Trigger{Cron: "0 0 29 2 *"}, Until: time.Now().Add(time.Second)},
	} {
		j.Name = app + what
		if _, err := s.driver.Create(s.Context(), j, false); !errors.Is(err, components.ErrInvalid) {
			s.Errorf("a job that %s: %v, want ErrInvalid", what, err)
		}
		if _, err := s.driver.Get(s.Context(), j.Name); !errors.Is(err, components.ErrNotFound) {
			s.Errorf("a job that %s is there: %v", what, err)
		}
	}
}

func names(jobs []schedule.State) (all []string) {
	for _, j := range jobs {
		all = append(all, j.Name)
	}
	return all
}

func list(s *suite) {
	for _, name := range []string{"b", "a", "a/b", "a-b", "ä", "B"} {
		s.create(job(name, hourly))
	}
	s.create(schedule.Job{Name: "shop/orders2/a", Trigger: hourly})
	for _, tc := range []struct {
		prefix, after string
		want          []string
	}{
		{"", "", []string{"B", "a", "a-b", "a/b", "b", "ä"}}, {"a", "", []string{"a", "a-b", "a/b"}}, {"a", "a-b", []string{"a/b"}}, {"c", "", nil},
		{"", "b", []string{"ä"}}, {"a", "0", []string{"a", "a-b", "a/b"}},
	} {
		after := ""
		if tc.after != "" {
			after = app + tc.after
		}
		jobs, err := s.driver.List(s.Context(), app+tc.prefix, after, 100)
		for i := range tc.want {
			tc.want[i] = app + tc.want[i]
		}
		if err != nil || !slices.Equal(names(jobs), tc.want) {
			s.Errorf("list %q after %q: %q, %v; want %q", tc.prefix, tc.after, names(jobs), err, tc.want)
		}
	}
}

func listPages(s *suite) {
	for i := range 7 {
		j := job(fmt.Sprint(i), hourly)
		if i > 3 {
			j.Data = make([]byte, schedule.PageBytes*3/4)
		}
		s.create(j)
	}
	var seen []string
	for after := ""; len(seen) < 20; {
		jobs, err := s.driver.List(s.Context(), app, after, 3)
		if err != nil || len(jobs) > 3 {
			s.Fatalf("%d jobs on a page of 3, %v", len(jobs), err)
		}
		if len(jobs) == 0 {
			break
		}
		bytes := int64(0)
		for _, j := range jobs[:len(jobs)-1] {
			bytes += j.Size()
		}
		if bytes >= schedule.PageBytes {
			s.Errorf("%d jobs are on one page, though %d bytes were enough", len(jobs), bytes)
		}
		seen = append(seen, names(jobs)...)
		after = jobs[len(jobs)-1].Name
	}
	if len(seen) != 7 || !slices.IsSorted(seen) {
		s.Errorf("the pages have %q", seen)
	}
}

// applications do not get each other's jobs.
func applications(s *suite) {
	w := s.watch(s.driver, "")
	for _, other := range []string{"shop/orders2/j", "shop2/orders/j", "shop/order/j", "shop/o/rders/j"} {
		s.create(schedule.Job{Name: other, Trigger: schedule.Trigger{At: time.Now()}})
	}
	w.none()
	s.create(job("own", schedule.Trigger{At: time.Now()}))
	if f := w.handle(); f.Job.Name != app+"own" {
		s.Errorf("a firing of %q comes", f.Job.Name)
	}
}

func deleted(s *suite) {
	w := s.watch(s.driver, "")
	s.create(job("delivered", schedule.Trigger{Every: 20 * time.Millisecond}))
	f := w.next()
	s.create(job("waits", schedule.Trigger{At: time.Now()}))
	s.create(job("later", schedule.Trigger{At: time.Now().Add(s.Calm / 2)}))
	for _, name := range []string{"delivered", "waits", "later"} {
		if err := s.driver.Delete(s.Context(), app+name); err != nil {
			s.Errorf("delete %q: %v", name, err)
		}
		if _, err := s.driver.Get(s.Context(), app+name); !errors.Is(err, components.ErrNotFound) {
			s.Errorf("get %q after it was deleted: %v", name, err)
		}
	}
	w.settle(f, schedule.Again, 0)
	w.none()
	s.create(job("delivered", schedule.Trigger{At: time.Now()}))
	if next := w.handle(); next.ID == f.ID {
		s.Errorf("a job made anew has the firing %q again", f.ID)
	}
}
