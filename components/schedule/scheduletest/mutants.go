package scheduletest

import (
	"context"
	"time"

	"github.com/outrigger-mesh/outrigger/components"
	"github.com/outrigger-mesh/outrigger/components/componenttest"
	"github.com/outrigger-mesh/outrigger/components/schedule"
)

// hooks is a driver with a fault or two. What is nil is sound.
type hooks struct {
	schedule.Driver
	create  func(context.Context, schedule.Job, bool) (schedule.State, error)
	get     func(context.Context, string) (schedule.State, error)
	list    func(context.Context, string, string, int) ([]schedule.State, error)
	remove  func(context.Context, string) error
	watched func(*schedule.Watching)
	session func(*faulty)
}

// faulty is a session of one. What is nil is sound.
type faulty struct {
	schedule.Session
	fetched func([]schedule.Firing) []schedule.Firing
	settled func(*schedule.Settlement) (told bool)
	roomed  func(*schedule.Room)
	closed  func() (told bool)
}

func (h *hooks) Create(ctx context.Context, j schedule.Job, replace bool) (schedule.State, error) {
	if h.create == nil {
		return h.Driver.Create(ctx, j, replace)
	}
	return h.create(ctx, j, replace)
}

func (h *hooks) Get(ctx context.Context, name string) (schedule.State, error) {
	if h.get == nil {
		return h.Driver.Get(ctx, name)
	}
	return h.get(ctx, name)
}

func (h *hooks) List(ctx context.Context, prefix, after string, limit int) ([]schedule.State, error) {
	if h.list == nil {
		return h.Driver.List(ctx, prefix, after, limit)
	}
	return h.list(ctx, prefix, after, limit)
}

func (h *hooks) Delete(ctx context.Context, name string) error {
	if h.remove == nil {
		return h.Driver.Delete(ctx, name)
	}
	return h.remove(ctx, name)
}

func (h *hooks) Watch(ctx context.Context, w schedule.Watching) (schedule.Session, error) {
	if h.watched != nil {
		h.watched(&w)
	}
	s, err := h.Driver.Watch(ctx, w)
	if err != nil || h.session == nil {
		return s, err
	}
	f := &faulty{Session: s}
	h.session(f)
	return f, nil
}

// Close is that of the sound driver.
func (h *hooks) Close(ctx context.Context) error {
	if c, ok := h.Driver.(components.Closer); ok {
		return c.Close(ctx)
	}
	return nil
}

func (f *faulty) Fetch(ctx context.Context, room schedule.Room) ([]schedule.Firing, error) {
	if f.roomed != nil {
		f.roomed(&room)
	}
	firings, err := f.Session.Fetch(ctx, room)
	if f.fetched != nil {
		firings = f.fetched(firings)
	}
	return firings, err
}

func (f *faulty) Settle(ctx context.Context, all []schedule.Settlement) error {
	told := make([]schedule.Settlement, 0, len(all))
	for _, s := range all {
		if f.settled == nil || f.settled(&s) {
			told = append(told, s)
		}
	}
	return f.Session.Settle(ctx, told)
}

func (f *faulty) Close(ctx context.Context) error {
	if f.closed != nil && !f.closed() {
		return nil
	}
	return f.Session.Close(ctx)
}

// Mutants are broken drivers, each of which the suite must catch.
func Mutants() []componenttest.Mutant[schedule.Driver] { return append(jobMutants, firingMutants...) }

type driver = schedule.Driver

// jobFault breaks what is created.
func jobFault(change func(j *schedule.Job, replace *bool)) func(driver) driver {
	return func(d driver) driver {
		return &hooks{Driver: d, create: func(ctx context.Context, j schedule.Job, replace bool) (schedule.State, error) {
			change(&j, &replace)
			return d.Create(ctx, j, replace)
		}}
	}
}

// sessionFault breaks each session.
func sessionFault(change func(f *faulty)) func(driver) driver {
	return func(d driver) driver { return &hooks{Driver: d, session: change} }
}

var jobMutants = []componenttest.Mutant[driver]{
	{Name: "always replaces", Break: jobFault(func(_ *schedule.Job, replace *bool) { *replace = true })},
	{Name: "never replaces", Break: jobFault(func(_ *schedule.Job, replace *bool) { *replace = false })},
	{Name: "the same job is another", Break: func(d driver) driver {
		return &hooks{Driver: d, create: func(ctx context.Context, j schedule.Job, replace bool) (schedule.State, error) {
			if _, err := d.Get(ctx, j.Name); err == nil && !replace {
				return schedule.State{}, schedule.Exists()
			}
			return d.Create(ctx, j, replace)
		}}
	}},
	{Name: "the same job fires again", Break: func(d driver) driver {
		return &hooks{Driver: d, create: func(ctx context.Context, j schedule.Job, replace bool) (schedule.State, error) {
			if there, err := d.Get(ctx, j.Name); err == nil && there.Same(j) {
				if err := d.Delete(ctx, j.Name); err != nil {
					return schedule.State{}, err
				}
			}
			return d.Create(ctx, j, replace)
		}}
	}},
	{Name: "fires early", Break: jobFault(func(j *schedule.Job, _ *bool) {
		if !j.Trigger.At.IsZero() {
			j.Trigger.At = j.Trigger.At.Add(-50 * time.Millisecond)
		}
	})},
	{Name: "forgets metadata", Break: jobFault(func(j *schedule.Job, _ *bool) { j.Metadata = nil })},
	{Name: "rounds intervals", Break: jobFault(func(j *schedule.Job, _ *bool) {
		if j.Trigger.Every > 0 {
			j.Trigger.Every = max(j.Trigger.Every.Truncate(time.Second), 100*time.Millisecond)
		}
	})},
	{Name: "repeats for ever", Break: jobFault(func(j *schedule.Job, _ *bool) { j.Repeats = 0 })},
	{Name: "does not end", Break: jobFault(func(j *schedule.Job, _ *bool) { j.Until = time.Time{} })},
	{Name: "skips nothing", Break: jobFault(func(j *schedule.Job, _ *bool) {
		if j.Missed == schedule.Skip {
			j.Missed = schedule.Once
		}
	})},
	{Name: "fires once instead of each", Break: jobFault(func(j *schedule.Job, _ *bool) {
		if j.Missed == schedule.All {
			j.Missed = schedule.Once
		}
	})},
	{Name: "delete wants the job there", Break: func(d driver) driver {
		return &hooks{Driver: d, remove: func(ctx context.Context, name string) error {
			if _, err := d.Get(ctx, name); err != nil {
				return err
			}
			return d.Delete(ctx, name)
		}}
	}},
	{Name: "pages begin at the last name", Break: func(d driver) driver {
		return &hooks{Driver: d, list: func(ctx context.Context, prefix, after string, limit int) ([]schedule.State, error) {
			if after != "" {
				after = after[:len(after)-1]
			}
			return d.List(ctx, prefix, after, limit)
		}}
	}},
	{Name: "a page holds one more", Break: func(d driver) driver {
		return &hooks{Driver: d, list: func(ctx context.Context, prefix, after string, limit int) ([]schedule.State, error) {
			return d.List(ctx, prefix, after, limit+1)
		}}
	}},
	{Name: "does not count", Break: func(d driver) driver {
		return &hooks{Driver: d, get: func(ctx context.Context, name string) (schedule.State, error) {
			state, err := d.Get(ctx, name)
			state.Fired = 0
			return state, err
		}}
	}},
}

var firingMutants = []componenttest.Mutant[driver]{
	{Name: "ignores prefixes", Break: func(d driver) driver {
		return &hooks{Driver: d, watched: func(w *schedule.Watching) { w.Prefix = "" }}
	}},
	{Name: "loses what is given back", Break: sessionFault(func(f *faulty) {
		f.settled = func(s *schedule.Settlement) bool {
			if s.Outcome == schedule.Again {
				s.Outcome = schedule.Done
			}
			return true
		}
	})},
	{Name: "waits for nothing", Break: sessionFault(func(f *faulty) {
		f.settled = func(s *schedule.Settlement) bool { s.Delay = 0; return true }
	})},
	{Name: "does not keep what is settled", Break: sessionFault(func(f *faulty) {
		f.settled = func(s *schedule.Settlement) bool {
			if s.Outcome == schedule.Done {
				s.Outcome = schedule.Again
			}
			return true
		}
	})},
	{Name: "counts what nobody saw", Break: sessionFault(func(f *faulty) {
		f.settled = func(s *schedule.Settlement) bool {
			if s.Outcome == schedule.Returned {
				s.Outcome = schedule.Again
			}
			return true
		}
	})},
	{Name: "counts no attempts", Break: sessionFault(func(f *faulty) {
		f.fetched = func(all []schedule.Firing) []schedule.Firing {
			for i := range all {
				all[i].Attempt = 1
			}
			return all
		}
	})},
	{Name: "names each attempt anew", Break: sessionFault(func(f *faulty) {
		f.fetched = func(all []schedule.Firing) []schedule.Firing {
			for i := range all {
				all[i].ID += all[i].Position
			}
			return all
		}
	})},
	{Name: "names the job, not the firing", Break: sessionFault(func(f *faulty) {
		f.fetched = func(all []schedule.Firing) []schedule.Firing {
			for i := range all {
				all[i].ID = all[i].Job.Name
			}
			return all
		}
	})},
	{Name: "tells when it comes, not when it was due", Break: sessionFault(func(f *faulty) {
		f.fetched = func(all []schedule.Firing) []schedule.Firing {
			for i := range all {
				all[i].Scheduled = time.Now()
			}
			return all
		}
	})},
	{Name: "gives one more than there is room for", Break: sessionFault(func(f *faulty) {
		f.roomed = func(r *schedule.Room) { r.Messages++ }
	})},
	{Name: "does not count bytes", Break: sessionFault(func(f *faulty) {
		f.roomed = func(r *schedule.Room) { r.Bytes = 1 << 30 }
	})},
	{Name: "keeps what a closed session had", Break: sessionFault(func(f *faulty) {
		f.closed = func() bool { return false }
	})},
	{Name: "counts what comes to a session at its end", Break: sessionFault(func(f *faulty) {
		f.closed = func() bool {
			ctx, cancel := context.WithTimeout(context.Background(), 5*time.Millisecond)
			defer cancel()
			_, _ = f.Session.Fetch(ctx, plenty)
			return true
		}
	})},
	{Name: "drops each tenth firing", Break: func(d driver) driver {
		n := 0
		return &hooks{Driver: d, session: func(f *faulty) {
			f.fetched = func(all []schedule.Firing) []schedule.Firing {
				if n += len(all); n >= 10 && len(all) > 0 {
					n = 0
					return all[1:]
				}
				return all
			}
		}}
	}},
}
