package schedule

import (
	"errors"
	"sync"
	"time"
)

// atlas has the zones that were asked for, shared by all jobs of the process: to find one reads files, and it takes some kilobytes. They
// never change. A name can be written in many ways that find the same file (Europe//Berlin), so they are bounded: what does not fit is
// found anew each time.
type atlas struct {
	most int

	mu    sync.Mutex
	known map[string]*time.Location
}

// loaded holds more than the data base has names.
var loaded = atlas{most: 1000, known: map[string]*time.Location{}}

var errLocal = errors.New("Local is not the same everywhere")

func (a *atlas) find(name string) (*time.Location, error) {
	if name == "Local" {
		return nil, errLocal
	}
	a.mu.Lock()
	zone := a.known[name]
	a.mu.Unlock()
	if zone != nil {
		return zone, nil
	}
	zone, err := time.LoadLocation(name)
	if err != nil {
		return nil, err
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	if len(a.known) < a.most {
		a.known[name] = zone
	}
	return zone, nil
}

// horizon is how far ahead a table is looked through, in years: a whole cycle of the calendar.
const horizon = 400

// stretch is a time during which the clocks of a zone go evenly.
type stretch struct {
	begin, end     time.Time     // zero: it has none
	offset, before time.Duration // from UTC, and what that was before begin
}

func stretchAt(at time.Time, zone *time.Location) stretch {
	begin, end := at.In(zone).ZoneBounds()
	s := stretch{begin: begin.UTC(), end: end.UTC(), offset: offsetAt(at, zone)}
	if s.before = s.offset; !begin.IsZero() {
		s.before = offsetAt(begin.Add(-1), zone)
	}
	return s
}

func offsetAt(at time.Time, zone *time.Location) time.Duration {
	_, seconds := at.In(zone).Zone()
	return time.Duration(seconds) * time.Second
}

// after is the first time after the given one at which the table is due in the zone.
func (t *table) after(at time.Time, zone *time.Location) (time.Time, bool) {
	from := at.UTC().Truncate(time.Second).Add(time.Second)
	limit := from.AddDate(horizon, 0, 0)
	for from.Before(limit) {
		s := stretchAt(from, zone)
		if s.end.IsZero() || s.end.After(limit) {
			s.end = limit
		}
		if due, ok := s.next(t, from); ok {
			return due, true
		}
		from = s.end
	}
	return time.Time{}, false
}

// next is the first time of the stretch, from from on, at which the table is due. When the clocks had been set back, what they show
// a second time does not count. When they had been set forward, what they left out is due when it would have been had they not.
func (s stretch) next(t *table, from time.Time) (time.Time, bool) {
	shown := from.Add(s.offset)
	if again := s.begin.Add(s.before); !s.begin.IsZero() && shown.Before(again) {
		shown = again
	}
	due, ok := t.next(shown, s.end.Add(s.offset))
	due = due.Add(-s.offset)
	if s.before >= s.offset {
		return due, ok
	}
	leftOut, found := t.next(from.Add(s.before), s.begin.Add(s.offset))
	if leftOut = leftOut.Add(-s.before); found && (!ok || leftOut.Before(due)) {
		return leftOut, true
	}
	return due, ok
}
