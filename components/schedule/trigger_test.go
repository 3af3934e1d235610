package schedule_test

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/outrigger-mesh/outrigger/components"
	"github.com/outrigger-mesh/outrigger/components/schedule"
)

func times(t *testing.T, trigger schedule.Trigger) schedule.Times {
	t.Helper()
	all, err := trigger.Times(moment(t, "2026-01-01T00:00:00Z"))
	if err != nil {
		t.Fatalf("%+v: %v", trigger, err)
	}
	return all
}

func moment(t *testing.T, text string) time.Time {
	t.Helper()
	at, err := time.Parse(time.RFC3339Nano, text)
	if err != nil {
		t.Fatal(err)
	}
	return at
}

// TestCron lists, for each table, moments in their order: each one is the next after the one before.
func TestCron(t *testing.T) {
	const (
		berlin = "Europe/Berlin"       // 2026: forward on March 29th at 01:00 UTC, back on October 25th at 01:00 UTC
		york   = "America/New_York"    // forward on March 8th at 07:00 UTC, back on November 1st at 06:00 UTC
		howe   = "Australia/Lord_Howe" // half an hour: back on April 4th at 15:00 UTC, forward on October 3rd at 15:30 UTC
	)
	for _, tc := range []struct{ name, cron, zone, moments string }{
		{"each minute", "* * * * *", "", "2026-01-01T00:00:30Z 2026-01-01T00:01:00Z 2026-01-01T00:02:00Z"},
		{"a fraction after it is not before it", "* * * * *", "", "2026-01-01T00:00:00.000000001Z 2026-01-01T00:01:00Z"},
		{"seconds", "*/20 * * * * *", "", "2026-01-01T00:00:00Z 2026-01-01T00:00:20Z 2026-01-01T00:00:40Z 2026-01-01T00:01:00Z"},
		{"steps from a number", "7/20 * * * *", "", "2026-01-01T00:00:00Z 2026-01-01T00:07:00Z 2026-01-01T00:27:00Z 2026-01-01T00:47:00Z 2026-01-01T01:07:00Z"},
		{"lists and ranges", "0 9-11,17 * * *", "", "2026-01-01T09:00:00Z 2026-01-01T10:00:00Z 2026-01-01T11:00:00Z 2026-01-01T17:00:00Z 2026-01-02T09:00:00Z"},
		{"weekdays by name", "0 8 * * mon-FRI", "", "2026-01-02T08:00:00Z 2026-01-05T08:00:00Z"},
		{"Sunday is 7, too", "0 8 * * 7", "", "2026-01-01T00:00:00Z 2026-01-04T08:00:00Z 2026-01-11T08:00:00Z"},
		{"either day", "0 0 13 * FRI", "", "2026-02-06T00:00:00Z 2026-02-13T00:00:00Z 2026-02-20T00:00:00Z 2026-02-27T00:00:00Z 2026-03-06T00:00:00Z"},
		{"both days where one begins with a star", "0 0 */2 * MON", "", "2026-01-01T00:00:00Z 2026-01-05T00:00:00Z 2026-01-19T00:00:00Z"},
		{"leap days", "0 0 29 2 *", "", "2026-01-01T00:00:00Z 2028-02-29T00:00:00Z 2032-02-29T00:00:00Z"},
		{"leap days across a year that has none", "0 0 29 FEB *", "", "2096-03-01T00:00:00Z 2104-02-29T00:00:00Z"},
		{"months by name", "0 0 1 jan,Jul *", "", "2026-01-01T00:00:00Z 2026-07-01T00:00:00Z 2027-01-01T00:00:00Z"},
		{"hourly", "@hourly", "", "2026-01-01T00:59:59Z 2026-01-01T01:00:00Z 2026-01-01T02:00:00Z"},
		{"daily", "@daily", berlin, "2026-01-01T00:00:00Z 2026-01-01T23:00:00Z 2026-01-02T23:00:00Z"},
		{"weekly", "@weekly", "", "2026-01-01T00:00:00Z 2026-01-04T00:00:00Z"},
		{"monthly", "@monthly", "", "2026-01-01T00:00:00Z 2026-02-01T00:00:00Z"},
		{"yearly", "@yearly", "", "2026-01-01T00:00:00Z 2027-01-01T00:00:00Z"},

		{"left out by Berlin", "30 2 * * *", berlin, "2026-03-28T01:30:00Z 2026-03-29T01:30:00Z 2026-03-30T00:30:00Z"},
		{"left out by New York", "30 2 * * *", york, "2026-03-07T07:30:00Z 2026-03-08T07:30:00Z 2026-03-09T06:30:00Z"},
		{"left out by Lord Howe", "15 2 * * *", howe, "2026-10-02T15:45:00Z 2026-10-03T15:45:00Z 2026-10-04T15:15:00Z"},
		{"the first minute that is left out", "0 2 * * *", berlin, "2026-03-28T01:00:00Z 2026-03-29T01:00:00Z 2026-03-30T00:00:00Z"},
		{"the first minute after", "0 3 * * *", berlin, "2026-03-28T02:00:00Z 2026-03-29T01:00:00Z 2026-03-30T01:00:00Z"},
		{"left out and there at one moment fire once", "0,30 2,3 * * *", berlin,
			"2026-03-29T00:59:00Z 2026-03-29T01:00:00Z 2026-03-29T01:30:00Z 2026-03-30T00:00:00Z"},
		{"in between what is left out", "45 3 29 3 *", berlin, "2026-03-29T01:30:00Z 2026-03-29T01:45:00Z"},
		{"left out, asked for amid it", "50 2 29 3 *", berlin, "2026-03-29T01:20:00Z 2026-03-29T01:50:00Z 2027-03-29T00:50:00Z"},
		{"each half hour goes on evenly", "*/30 * * * *", berlin, "2026-03-29T00:30:00Z 2026-03-29T01:00:00Z 2026-03-29T01:30:00Z 2026-03-29T02:00:00Z"},

		{"twice in Berlin", "30 2 * * *", berlin, "2026-10-24T00:30:00Z 2026-10-25T00:30:00Z 2026-10-26T01:30:00Z"},
		{"twice in New York", "30 1 * * *", york, "2026-10-31T05:30:00Z 2026-11-01T05:30:00Z 2026-11-02T06:30:00Z"},
		{"twice on Lord Howe", "45 1 * * *", howe, "2026-04-03T14:45:00Z 2026-04-04T14:45:00Z 2026-04-05T15:15:00Z"},
		{"the hour that comes twice", "0 * * * *", berlin, "2026-10-24T23:00:00Z 2026-10-25T00:00:00Z 2026-10-25T02:00:00Z 2026-10-25T03:00:00Z"},
		{"asked for amid the second time", "0 2 25 10 *", berlin, "2026-10-25T01:10:00Z 2027-10-25T00:00:00Z"},
		{"the half hour that comes twice", "*/15 * * * *", howe, "2026-04-04T14:30:00Z 2026-04-04T14:45:00Z 2026-04-04T15:30:00Z 2026-04-04T15:45:00Z"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			all := times(t, schedule.Trigger{Cron: tc.cron, Zone: tc.zone})
			moments := strings.Fields(tc.moments)
			at := moment(t, moments[0])
			for _, want := range moments[1:] {
				next, ok := all.After(at)
				if at = moment(t, want); !ok || !next.Equal(at) {
					t.Fatalf("%v, want %v", next, at)
				}
			}
		})
	}
}

func TestBadTriggersSayWhereAndWhy(t *testing.T) {
	at := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	for name, tc := range map[string]struct {
		trigger schedule.Trigger
		want    string
	}{
		"none":             {schedule.Trigger{}, "the trigger is missing"},
		"two":              {schedule.Trigger{Every: time.Second, At: at}, "more than one trigger"},
		"two with cron":    {schedule.Trigger{Cron: "* * * * *", At: at}, "more than one trigger"},
		"minute":           {schedule.Trigger{Cron: "61 * * * *"}, `minute field "61": 61 is not between 0 and 59`},
		"second":           {schedule.Trigger{Cron: "60 * * * * *"}, `second field "60": 60 is not between 0 and 59`},
		"hour":             {schedule.Trigger{Cron: "0 24 * * *"}, `hour field "24": 24 is not between 0 and 23`},
		"day":              {schedule.Trigger{Cron: "0 0 0 * *"}, `day of month field "0": 0 is not between 1 and 31`},
		"month":            {schedule.Trigger{Cron: "0 0 * 13 *"}, `month field "13": 13 is not between 1 and 12`},
		"month's name":     {schedule.Trigger{Cron: "0 0 * FOO *"}, `month field "FOO": "FOO" is neither a number nor one of JAN to DEC`},
		"weekday":          {schedule.Trigger{Cron: "0 0 * * 8"}, `day of week field "8": 8 is not between 0 and 7`},
		"word":             {schedule.Trigger{Cron: "x * * * *"}, `minute field "x": "x" is not a number`},
		"sign":             {schedule.Trigger{Cron: "-5 * * * *"}, `minute field "-5": "" is not a number`},
		"huge":             {schedule.Trigger{Cron: "99999999999999999999 * * * *"}, `is not a number`},
		"empty in a list":  {schedule.Trigger{Cron: "1,,2 * * * *"}, `minute field "1,,2": "" is not a number`},
		"backwards":        {schedule.Trigger{Cron: "0 17-9 * * *"}, `hour field "17-9": 17 comes after 9`},
		"step of 0":        {schedule.Trigger{Cron: "*/0 * * * *"}, `minute field "*/0": the step "0" is not between 1 and 59`},
		"step of nothing":  {schedule.Trigger{Cron: "*/ * * * *"}, `the step "" is not between 1 and 59`},
		"too few":          {schedule.Trigger{Cron: "* * *"}, "3 fields are neither 5 (minute"},
		"too many":         {schedule.Trigger{Cron: "* * * * * * *"}, "7 fields are neither 5 (minute"},
		"empty":            {schedule.Trigger{Cron: " "}, "0 fields"},
		"long":             {schedule.Trigger{Cron: strings.Repeat("1,", 600) + "1 * * * *"}, "longer than 1024 bytes"},
		"macro":            {schedule.Trigger{Cron: "@reboot"}, "there are @hourly, @daily"},
		"never":            {schedule.Trigger{Cron: "0 0 30 2 *"}, "it never fires"},
		"never, 31st":      {schedule.Trigger{Cron: "0 0 31 4,6,9,11 *"}, "it never fires"},
		"zone":             {schedule.Trigger{Cron: "* * * * *", Zone: "Mars/Olympus"}, `there is no time zone "Mars/Olympus"`},
		"zone of the host": {schedule.Trigger{Cron: "* * * * *", Zone: "Local"}, `there is no time zone "Local"`},
		"zone as a path":   {schedule.Trigger{Cron: "* * * * *", Zone: "../../etc/passwd"}, "there is no time zone"},
		"zone alone":       {schedule.Trigger{Zone: "Europe/Berlin"}, "0 fields"},
		"interval":         {schedule.Trigger{Every: time.Microsecond}, "an interval of 1µs is not from 1ms to"},
		"negative":         {schedule.Trigger{Every: -time.Second}, "an interval of -1s is not from 1ms to"},
		"endless":          {schedule.Trigger{Every: 1<<63 - 1}, "is not from 1ms to"},
	} {
		err := tc.trigger.Check()
		if !errors.Is(err, components.ErrInvalid) || !strings.Contains(err.Error(), tc.want) {
			t.Errorf("%s: %v, want ErrInvalid with %q", name, err, tc.want)
		}
	}
}

func TestIntervalsAndSingleTimes(t *testing.T) {
	begin := moment(t, "2026-01-01T00:00:00Z")
	every := times(t, schedule.Trigger{Every: 7 * time.Second})
	for after, want := range map[time.Duration]time.Duration{-time.Hour: 7, 0: 7, 6 * time.Second: 7, 7 * time.Second: 14, 20 * time.Second: 21} {
		if next, ok := every.After(begin.Add(after)); !ok || next.Sub(begin) != want*time.Second {
			t.Errorf("after %v: %v, want %ds later", after, next, want)
		}
	}
	once := times(t, schedule.Trigger{At: begin})
	if next, ok := once.After(begin.Add(-1)); !ok || !next.Equal(begin) {
		t.Errorf("before the time: %v, %v", next, ok)
	}
	if next, ok := once.After(begin); ok {
		t.Errorf("after the time there is %v", next)
	}
}

func TestLatest(t *testing.T) {
	first := moment(t, "2026-01-01T00:00:00Z")
	for name, tc := range map[string]struct {
		trigger schedule.Trigger
		end     string
		n       int
		want    string
	}{
		"one interval":             {schedule.Trigger{Every: time.Minute}, "2026-01-01T10:00:30Z", 1, "2026-01-01T10:00:00Z"},
		"a hundred intervals":      {schedule.Trigger{Every: time.Minute}, "2026-01-01T10:00:30Z", 100, "2026-01-01T08:21:00Z"},
		"fewer intervals":          {schedule.Trigger{Every: time.Minute}, "2026-01-01T00:10:30Z", 100, "2026-01-01T00:00:00Z"},
		"the last of a table":      {schedule.Trigger{Cron: "*/5 * * * *"}, "2026-03-01T10:12:00Z", 1, "2026-03-01T10:10:00Z"},
		"a hundred of a table":     {schedule.Trigger{Cron: "*/5 * * * *"}, "2026-03-01T10:12:00Z", 100, "2026-03-01T01:55:00Z"},
		"a hundred seconds":        {schedule.Trigger{Cron: "* * * * * *"}, "2036-01-01T00:00:00Z", 100, "2035-12-31T23:58:21Z"},
		"fewer of a table":         {schedule.Trigger{Cron: "@daily"}, "2026-01-03T12:00:00Z", 100, "2026-01-01T00:00:00Z"},
		"rare":                     {schedule.Trigger{Cron: "@yearly"}, "2029-12-31T00:00:00Z", 1, "2029-01-01T00:00:00Z"},
		"exactly the end":          {schedule.Trigger{Cron: "@daily"}, "2026-01-03T00:00:00Z", 1, "2026-01-03T00:00:00Z"},
		"a single time":            {schedule.Trigger{At: first}, "2026-01-03T00:00:00Z", 1, "2026-01-01T00:00:00Z"},
		"two centuries and a half": {schedule.Trigger{Cron: "@yearly"}, "2276-06-01T00:00:00Z", 2, "2275-01-01T00:00:00Z"},
	} {
		if got := times(t, tc.trigger).Latest(first, moment(t, tc.end), tc.n); !got.Equal(moment(t, tc.want)) {
			t.Errorf("%s: %v, want %s", name, got, tc.want)
		}
	}
}
