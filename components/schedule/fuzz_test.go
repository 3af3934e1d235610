package schedule

import (
	"slices"
	"testing"
	"time"
)

// zones have every kind of change of their clocks; one has left out a whole day.
var zones = []string{"UTC", "Europe/Berlin", "America/New_York", "Australia/Lord_Howe", "Pacific/Apia", "Africa/Casablanca", "Asia/Kathmandu"}

// FuzzCron holds that what is taken for a table is due when someone who watches the clock on the wall, minute by minute, says so.
func FuzzCron(f *testing.F) {
	for _, cron := range []string{"* * * * *", "30 2 * * *", "0,30 1-3 * * *", "*/7 */2 29 3 SUN", "15 1 * 4,10 *", "@daily", "59 23 31 12 7"} {
		for zone := range zones {
			f.Add(cron, uint8(zone), int64(1774745000)) // the night of March 29th, 2026
			f.Add(cron, uint8(zone), int64(1792880000)) // October 25th
			f.Add(cron, uint8(zone), int64(1325230000)) // when Samoa had no December 30th
		}
	}
	f.Fuzz(func(t *testing.T, cron string, zone uint8, unix int64) {
		all, err := parse(cron)
		if err != nil || all.second != 1 {
			return
		}
		at, err := time.LoadLocation(zones[int(zone)%len(zones)])
		if err != nil {
			t.Fatal(err)
		}
		begin := time.Unix(1<<26+max(unix, -unix)&(1<<32-1), 0).UTC().Truncate(time.Minute)
		last := begin
		for _, want := range watched(all, at, begin, begin.Add(30*time.Hour)) {
			next, ok := all.after(last, at)
			if !ok || !next.Equal(want) {
				t.Fatalf("%q in %s: after %v comes %v, want %v", cron, at, last, next, want)
			}
			last = want
		}
		if next, ok := all.after(last, at); ok && next.Before(begin.Add(30*time.Hour)) {
			t.Fatalf("%q in %s: %v comes after %v, which is the last", cron, at, next, last)
		}
	})
}

// watched are the moments after begin and before end at which one who watches finds the table due.
func watched(all *table, zone *time.Location, begin, end time.Time) (moments []time.Time) {
	shown := func(at time.Time) time.Time {
		wall := at.In(zone)
		return time.Date(wall.Year(), wall.Month(), wall.Day(), wall.Hour(), wall.Minute(), 0, 0, time.UTC)
	}
	is := func(wall time.Time) bool { _, ok := all.next(wall, wall.Add(1)); return ok }
	at := begin.Add(-30 * time.Hour) // to know what was shown before
	latest := shown(at)
	for at = at.Add(time.Minute); at.Before(end); at = at.Add(time.Minute) {
		wall := shown(at)
		if !wall.After(latest) {
			continue
		}
		expected := latest.Add(time.Minute)
		for left := expected; left.Before(wall); left = left.Add(time.Minute) {
			if is(left) {
				moments = append(moments, at.Add(left.Sub(expected)))
			}
		}
		if is(wall) {
			moments = append(moments, at)
		}
		latest = wall
	}
	slices.SortFunc(moments, time.Time.Compare)
	moments = slices.CompactFunc(moments, time.Time.Equal)
	return slices.DeleteFunc(moments, func(m time.Time) bool { return !m.After(begin) || !m.Before(end) })
}

func BenchmarkAfter(b *testing.B) {
	all, err := Trigger{Cron: "0 3 29 2 *", Zone: "Europe/Berlin"}.Times(time.Time{})
	if err != nil {
		b.Fatal(err)
	}
	at := time.Date(2026, 3, 1, 0, 0, 0, 0, time.UTC)
	for b.Loop() {
		all.After(at)
	}
}
