package local

import (
	"container/heap"
	"errors"
	"time"

	"github.com/outrigger-mesh/outrigger/components"
	"github.com/outrigger-mesh/outrigger/components/internal/store/db"
	"github.com/outrigger-mesh/outrigger/components/schedule"
)

const (
	maxRound = 512         // jobs that are dealt with at once
	farOff   = time.Minute // when there is nothing to wait for but that the wall clock is set
)

// fireAll does what is due until the store ends.
func (m *machine) fireAll() {
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-m.ctx.Done():
			return
		case <-m.wake:
		case <-timer.C:
		}
		if m.ctx.Err() == nil {
			timer.Reset(m.round())
		}
	}
}

// change is what an update makes of a job that is busy meanwhile.
type change struct {
	job    *job
	base   uint64 // the revision that it is made of
	run    run
	forget bool
}

func (j *job) change(r run) change { return change{job: j, base: j.run.Revision, run: r} }

// round does what is due now, and says how long there is nothing more to do.
func (m *machine) round() time.Duration {
	wall, now := m.clock.now(), m.space.Now()
	m.mu.Lock()
	var changes []change
	changes = m.pop(&m.onStore, clockTime(now), changes, wall, now)
	changes = m.pop(&m.onWall, wall, changes, wall, now)
	wait := m.wait(wall, now)
	m.mu.Unlock()
	m.change(changes)
	if len(changes) >= maxRound {
		wait = 0
	}
	return wait
}

// wait is how long until the next timer. It is not known beforehand when the wall clock will show a time, nor when the store's will: it goes
// on while the machine sleeps, and what waits here does not.
func (m *machine) wait(wall time.Time, now db.Time) time.Duration {
	wait := farOff
	if len(m.onStore) > 0 {
		wait = min(wait, m.onStore[0].at.Sub(clockTime(now)), lookAgain)
	}
	if len(m.onWall) > 0 {
		wait = min(wait, m.onWall[0].at.Sub(wall), lookAgain)
	}
	return max(wait, 0)
}

// pop takes the timers that are over, and answers what is to be written for it.
func (m *machine) pop(t *timers, clock time.Time, changes []change, wall time.Time, now db.Time) []change {
	for len(*t) > 0 && !(*t)[0].at.After(clock) && len(changes) < maxRound {
		j := (*t)[0]
		heap.Pop(t)
		j.on = nil
		f := j.run.Firing
		switch {
		case j.pending != nil:
			c := *j.pending
			m.hold(j)
			changes = append(changes, c)
		case j.claim != nil: // the sidecar says nothing: it may be frozen
			m.place(j)
		case f != nil && j.waiting == nil: // the delay is over
			m.place(j)
		case f != nil: // nobody came
			changes = append(changes, m.drop(j, wall, now))
		case j.run.Next.IsZero():
			m.hold(j)
			changes = append(changes, change{job: j, base: j.run.Revision, forget: true})
		case j.clock(wall, now).Before(j.run.Next):
			m.place(j)
		default:
			changes = append(changes, m.fire(j, wall, now))
		}
	}
	return changes
}

// clock is the job's own: the wall's, or the store's.
func (j *job) clock(wall time.Time, now db.Time) time.Time {
	if j.content.trigger().OnWall() {
		return wall
	}
	return clockTime(now)
}

// fire makes a firing of a job that is due.
func (m *machine) fire(j *job, wall time.Time, now db.Time) change {
	m.hold(j)
	r, clock := j.run, j.clock(wall, now)
	due, fires := j.missed(clock)
	if !fires {
		r.Next = j.after(clock, r.Fired)
		return j.changed(r, now)
	}
	f := &firing{Due: due}
	if !j.content.trigger().OnWall() {
		f.Due = m.clock.of(db.Time(due.UnixNano()))
	}
	if j.content.Missed == schedule.Skip {
		f.DropAt = now.Add(j.content.SkipAfter - clock.Sub(due))
	}
	r.Firing = f
	r.Fired++
	r.Next = j.after(due, r.Fired)
	return j.change(r)
}

// drop takes back a firing that nobody came for.
func (m *machine) drop(j *job, wall time.Time, now db.Time) change {
	m.hold(j)
	r := j.run
	r.Firing = nil
	r.Fired--
	r.Next = j.after(j.clock(wall, now), r.Fired)
	return j.changed(r, now)
}

// settled is the run of a job whose firing is done with. What was due meanwhile was missed.
func (j *job) settled(wall time.Time, now db.Time) change {
	r, clock := j.run, j.clock(wall, now)
	r.Last, r.Firing = r.Firing.Due, nil
	if j.content.Missed == schedule.Skip && !r.Next.IsZero() && !r.Next.After(clock) {
		r.Next = j.after(clock, r.Fired)
	}
	return j.changed(r, now)
}

// changed is a run without a firing.
func (j *job) changed(r run, now db.Time) change {
	if r.Next.IsZero() {
		r.Over = now
	}
	return j.change(r)
}

// change writes what becomes of jobs that are busy with it. What it cannot write is tried again in a while.
func (m *machine) change(all []change) {
	if len(all) == 0 {
		return
	}
	durability := db.OS
	for _, c := range all {
		if c.job.content.Durability != db.OS {
			durability = db.Disk
		}
	}
	err := m.space.Update(m.ctx, durability, func(tx *db.Tx) error {
		for _, c := range all {
			if err := m.changeOne(tx, c); err != nil {
				return err
			}
		}
		return nil
	})
	if was := m.unwritten.Swap(err != nil); err != nil && !was && m.ctx.Err() == nil {
		m.log.Warn("firings could not be written down; it is tried again until they can", "op", "fire", "jobs", len(all), "err", err)
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, c := range all {
		if c.job.busy && c.job.run.Revision == c.base && m.jobs[c.job.key] == c.job {
			m.postpone(c)
		}
	}
}

// changeOne does nothing for a job that is not what the change was made of any more.
func (m *machine) changeOne(tx *db.Tx, c change) error {
	key, r := c.job.key, c.run
	var there run
	ok, err := get(tx, key, runKey(key), &there)
	if errors.Is(err, components.ErrDamaged) {
		tx.Then(func() { m.without(key, c.job, err) })
		return nil
	}
	if err != nil || !ok || there.Revision != c.base {
		return err
	}
	if c.forget {
		m.erase(tx, key)
		return nil
	}
	if r.Firing != nil && r.Firing.ID == 0 {
		f := *r.Firing
		f.ID = tx.NextID()
		r.Firing = &f
	}
	if err := m.writeRun(tx, key, &r); err != nil {
		return err
	}
	tx.Then(func() {
		m.mu.Lock()
		defer m.mu.Unlock()
		if m.jobs[key] == c.job {
			m.apply(c.job, r)
		}
	})
	return nil
}
