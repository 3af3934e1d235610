package schedule

import (
	"fmt"
	"time"
	_ "time/tzdata" // for machines and containers without the data base of zones

	"github.com/outrigger-mesh/outrigger/components"
)

// Bounds of intervals.
const (
	MinEvery = time.Millisecond
	MaxEvery = 100 * 366 * 24 * time.Hour
)

// Trigger says when a job fires. One of Cron, Every and At is set.
type Trigger struct {
	// Cron has five fields (minute, hour, day of month, month, day of week), or six with seconds first, or is one of @hourly,
	// @daily, @weekly, @monthly and @yearly. A field is a list of *, N, N-M, each with /STEP if need be; months and days have
	// English names of three letters, too. When neither field of a day begins with *, a day that one of them allows is enough.
	Cron string
	// Zone is the one of Cron, of the IANA data base; empty: UTC.
	Zone string
	// Every is an interval, counted from when the job was created.
	Every time.Duration
	// At is the only time.
	At time.Time
}

// OnWall tells whether the trigger goes by the clock on the wall. The others go by time that passes.
func (t Trigger) OnWall() bool { return t.Every == 0 }

// Times are the moments at which a trigger is due. The zero value has none.
type Times struct {
	cron  *table
	zone  *time.Location
	every time.Duration
	from  time.Time
	at    time.Time
}

// Times reads the trigger of a job that was created at from. It fails with ErrInvalid for one that is not sound, or is never due.
func (t Trigger) Times(from time.Time) (Times, error) {
	switch {
	case t.kinds() == 0:
		return Times{}, invalid("the trigger is missing: one of cron, every and at")
	case t.kinds() > 1:
		return Times{}, invalid("more than one trigger")
	case t.Cron != "" || t.Zone != "":
		return t.cronTimes()
	case t.Every != 0:
		if t.Every < MinEvery || t.Every > MaxEvery {
			return Times{}, invalid("every: an interval of %s is not from %s to %s", t.Every, MinEvery, MaxEvery)
		}
		return Times{every: t.Every, from: from}, nil
	}
	return Times{at: t.At}, nil
}

// Check fails as Times does.
func (t Trigger) Check() error {
	_, err := t.Times(time.Time{})
	return err
}

func (t Trigger) kinds() (n int) {
	for _, set := range []bool{t.Cron != "" || t.Zone != "", t.Every != 0, !t.At.IsZero()} {
		if set {
			n++
		}
	}
	return n
}

func (t Trigger) cronTimes() (Times, error) {
	cron, err := parse(t.Cron)
	if err != nil {
		return Times{}, err
	}
	zone, err := loaded.find(t.Zone)
	if err != nil {
		return Times{}, invalid("cron: there is no time zone %.64q in the IANA data base (such as Europe/Berlin)", t.Zone)
	}
	return Times{cron: cron, zone: zone}, nil
}

// After is the first moment after the given one; false: there is none.
func (t Times) After(at time.Time) (due time.Time, ok bool) {
	switch {
	case t.cron != nil:
		return t.cron.after(at, t.zone)
	case t.every != 0:
		if at.Before(t.from) {
			return t.from.Add(t.every), true
		}
		return t.from.Add((at.Sub(t.from)/t.every + 1) * t.every), true
	}
	return t.at, t.at.After(at)
}

// Latest is the last but n-1 of the moments from first, which is one, to end, or first if they are fewer.
func (t Times) Latest(first, end time.Time, n int) time.Time {
	switch {
	case t.every != 0:
		last := end.Sub(first) / t.every
		return first.Add(max(last-time.Duration(n-1), 0) * t.every)
	case t.cron != nil:
		return t.latest(first, end, n)
	}
	return first
}

// latest looks through the time before end, and through more of it as long as there is too little in it.
func (t Times) latest(first, end time.Time, n int) time.Time {
	for window := time.Minute; ; window *= 4 {
		from := end.Add(-window)
		whole := window <= 0 || !from.After(first) // in the end it is no duration any more
		if whole {
			from = first.Add(-1)
		}
		last := make([]time.Time, 0, n)
		for due, ok := t.After(from); ok && !due.After(end); due, ok = t.After(due) {
			if len(last) == n {
				last = append(last[:0], last[1:]...)
			}
			last = append(last, due)
		}
		if len(last) == n || whole && len(last) > 0 {
			return last[0]
		}
		if whole {
			return first
		}
	}
}

func invalid(format string, args ...any) error {
	return fmt.Errorf("%w: %w", components.ErrInvalid, fmt.Errorf(format, args...))
}
