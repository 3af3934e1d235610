package local

import (
	"container/heap"
	"container/list"
	"fmt"
	"time"

	"github.com/outrigger-mesh/outrigger/components"
	"github.com/outrigger-mesh/outrigger/components/internal/store/db"
	"github.com/outrigger-mesh/outrigger/components/schedule"
)

// job is what the machine has in mind of one. It is in one place: it waits for a timer, for a session, for both, or for an update.
type job struct {
	key     string
	app     *app
	content content // without data and metadata
	times   schedule.Times
	size    int64
	run     run
	tried   int // how often the firing was delivered

	busy    bool          // an update is under way
	pending *change       // could not be written yet, and is what has become of the firing
	waiting *list.Element // of app.waiting: the firing can be delivered
	claim   *claim        // the session that has the firing
	on      *timers       // nil: none
	index   int           // there
	at      time.Time     // by the clock of those timers
}

// newJob has nothing of what the job carries.
func newJob(key string, c *content, times schedule.Times) *job {
	j := &job{key: key, content: *c, times: times, size: c.job("").Size()}
	j.content.Data, j.content.Metadata = nil, nil
	return j
}

// put takes in a job as it is on the disk, in place of the one of that key before.
func (m *machine) put(j *job, r run) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.forget(j.key)
	j.app = m.appOf(j.key)
	j.app.jobs++
	m.jobs[j.key] = j
	m.apply(j, r)
}

// apply takes in what has become of a job.
func (m *machine) apply(j *job, r run) {
	j.run, j.tried = r, 0
	if r.Firing != nil {
		j.tried = r.Firing.Attempts
	}
	m.place(j)
}

// forget takes a job away with its firing. m.mu is held, as by all that follows.
func (m *machine) forget(key string) {
	j := m.jobs[key]
	if j == nil {
		return
	}
	m.unplace(j)
	j.app.jobs--
	m.tidy(j.app)
	delete(m.jobs, key)
}

// place puts a job where it belongs by its run.
func (m *machine) place(j *job) {
	m.unplace(j)
	f := j.run.Firing
	switch {
	case f != nil && f.NotBefore > m.space.Now():
		m.set(j, &m.onStore, clockTime(f.NotBefore))
	case f != nil:
		m.offer(j)
	case j.run.Next.IsZero():
		m.set(j, &m.onStore, clockTime(j.run.Over.Add(j.content.Retention)))
	case j.content.trigger().OnWall():
		m.set(j, &m.onWall, j.run.Next)
	default:
		m.set(j, &m.onStore, j.run.Next)
	}
}

func (m *machine) unplace(j *job) {
	j.busy, j.pending = false, nil
	if j.claim != nil {
		delete(j.claim.session.claims, j.claim.position)
		j.claim = nil
	}
	if j.waiting != nil {
		j.app.waiting.Remove(j.waiting)
		j.waiting = nil
	}
	m.unset(j)
}

// hold puts a job nowhere: an update decides.
func (m *machine) hold(j *job) {
	m.unplace(j)
	j.busy = true
}

// postpone tries again in a while what an update could not do. A firing that was settled is not delivered again until then.
func (m *machine) postpone(c change) {
	j := c.job
	m.unplace(j)
	if j.run.Firing != nil {
		j.pending = &c
	}
	m.set(j, &m.onStore, clockTime(m.space.Now().Add(time.Second)))
}

// clockTime is a time of the store's clock as one of a job's clock.
func clockTime(t db.Time) time.Time { return time.Unix(0, int64(t)).UTC() }

// timers are jobs by time, the earliest first.
type timers []*job

func (t timers) Len() int           { return len(t) }
func (t timers) Less(i, j int) bool { return t[i].at.Before(t[j].at) }
func (t timers) Swap(i, j int) {
	t[i], t[j] = t[j], t[i]
	t[i].index, t[j].index = i, j
}

// Push is of heap.Interface.
func (t *timers) Push(x any) {
	j := x.(*job)
	j.index = len(*t)
	*t = append(*t, j)
}

// Pop is of heap.Interface.
func (t *timers) Pop() any {
	last := len(*t) - 1
	j := (*t)[last]
	(*t)[last] = nil
	*t = (*t)[:last]
	return j
}

func (m *machine) set(j *job, on *timers, at time.Time) {
	m.unset(j)
	j.on, j.at = on, at
	heap.Push(on, j)
	if j.index == 0 {
		select {
		case m.wake <- struct{}{}:
		default:
		}
	}
}

func (m *machine) unset(j *job) {
	if j.on != nil {
		heap.Remove(j.on, j.index)
		j.on = nil
	}
}

// begin makes the records of a job that is created now.
func (m *machine) begin(in *createIn, tx *db.Tx) (j records, err error) {
	earlier, wall := m.clock.look()
	c := contentOf(in)
	c.Serial, c.Origin, c.End = tx.NextID(), earlier, c.Until
	switch {
	case c.Cron != "":
		c.Origin = wall // what was due before, by the clock that who creates it sees, is not the job's
	case c.Every != 0:
		c.Origin = clockTime(tx.Now())
		if !c.Until.IsZero() {
			c.End = c.Origin.Add(c.Until.Sub(wall))
		}
	}
	j.content, j.run = c, run{Serial: c.Serial}
	j.times, err = c.trigger().Times(c.Origin)
	switch {
	case err != nil:
		return j, err
	case !c.Until.IsZero() && c.Until.Before(earlier):
		return j, fmt.Errorf("%w: the job ends at %s, which is past", components.ErrInvalid, c.Until.Format(time.RFC3339))
	case !c.At.IsZero() && !c.At.After(earlier): // at once
		j.run.Fired, j.run.Firing = 1, &firing{ID: tx.NextID(), Due: c.At}
		return j, nil
	}
	first, ok := j.times.After(c.Origin)
	if !ok || !c.End.IsZero() && first.After(c.End) {
		return j, fmt.Errorf("%w: the job never fires: it ends at %s, before it is due for the first time", components.ErrInvalid, c.Until.Format(time.RFC3339))
	}
	j.run.Next = first
	return j, nil
}

// after is when a job is due after a time of its clock, when it has fired so often; zero: never.
func (j *job) after(at time.Time, fired int64) time.Time {
	if j.content.Repeats > 0 && fired >= int64(j.content.Repeats) {
		return time.Time{}
	}
	next, ok := j.times.After(at)
	if !ok || !j.content.End.IsZero() && next.After(j.content.End) {
		return time.Time{}
	}
	return next
}

// missed is a firing to make of all that is due at now, by the job's clock; false: there is none, they are to be skipped.
func (j *job) missed(now time.Time) (due time.Time, fires bool) {
	end, n := now, 1
	if !j.content.End.IsZero() && j.content.End.Before(now) {
		end = j.content.End
	}
	if j.content.Missed == schedule.All {
		n = schedule.MaxBacklog
	}
	due = j.times.Latest(j.run.Next, end, n)
	return due, j.content.Missed != schedule.Skip || now.Sub(due) <= j.content.SkipAfter
}
