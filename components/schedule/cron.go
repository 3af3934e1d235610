package schedule

import (
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/outrigger-mesh/outrigger/components"
)

// field is one of a cron expression.
type field struct {
	name     string
	min, max int
	names    []string // of the values from min on, in capitals
}

// The fields in their order. Sunday is 0 and 7.
var fields = [...]field{
	{"second", 0, 59, nil}, {"minute", 0, 59, nil}, {"hour", 0, 23, nil}, {"day of month", 1, 31, nil},
	{"month", 1, 12, []string{"JAN", "FEB", "MAR", "APR", "MAY", "JUN", "JUL", "AUG", "SEP", "OCT", "NOV", "DEC"}},
	{"day of week", 0, 7, []string{"SUN", "MON", "TUE", "WED", "THU", "FRI", "SAT"}},
}

var macros = map[string]string{
	"@hourly": "0 * * * *", "@daily": "0 0 * * *", "@weekly": "0 0 * * 0", "@monthly": "0 0 1 * *", "@yearly": "0 0 1 1 *",
}

// set is the values that a field allows, a bit each.
type set uint64

func (s set) has(n int) bool { return s>>n&1 == 1 }

// table is a cron expression that was read.
type table struct {
	second, minute, hour, day, month, weekday set

	// bothDays is that a day must be allowed by both of its fields: one of them begins with *. Otherwise either is enough.
	bothDays bool
}

// parse reads an expression. Errors name the field and what is wrong with it.
func parse(expression string) (*table, error) {
	text := strings.TrimSpace(expression)
	if strings.HasPrefix(text, "@") {
		m, ok := macros[text]
		if !ok {
			return nil, invalid("cron %.64q: there are @hourly, @daily, @weekly, @monthly and @yearly", expression)
		}
		text = m
	}
	if len(text) > components.MaxKey {
		return nil, invalid("cron: the expression is longer than %d bytes", components.MaxKey)
	}
	parts := strings.Fields(text)
	if len(parts) == len(fields)-1 {
		parts = append([]string{"0"}, parts...)
	}
	if len(parts) != len(fields) {
		return nil, invalid("cron %.64q: %d fields are neither 5 (minute, hour, day of month, month, day of week) nor 6 (second first)",
			expression, len(parts))
	}
	t := &table{}
	for i, to := range []*set{&t.second, &t.minute, &t.hour, &t.day, &t.month, &t.weekday} {
		var err error
		if *to, err = fields[i].parse(parts[i]); err != nil {
			return nil, invalid("cron %.64q: %s field %.64q: %w", expression, fields[i].name, parts[i], err)
		}
	}
	if t.weekday.has(7) {
		t.weekday |= 1
	}
	t.bothDays = strings.HasPrefix(parts[3], "*") || strings.HasPrefix(parts[5], "*")
	if _, ok := t.next(cycle, cycle.AddDate(400, 0, 0)); !ok {
		return nil, invalid("cron %.64q: it never fires: there is no such day", expression)
	}
	return t, nil
}

// cycle is where a cycle of the calendar begins: it repeats itself after 400 years.
var cycle = time.Date(2000, 1, 1, 0, 0, 0, 0, time.UTC)

func (f field) parse(text string) (set, error) {
	var all set
	for item := range strings.SplitSeq(text, ",") {
		s, err := f.item(item)
		if err != nil {
			return 0, err
		}
		all |= s
	}
	return all, nil
}

// item reads *, N, N-M, and each with /STEP. N/STEP goes from N to the end.
func (f field) item(text string) (s set, err error) {
	span, by, stepped := strings.Cut(text, "/")
	step := 1
	if stepped {
		if step, err = strconv.Atoi(by); err != nil || step < 1 || step > f.max {
			return 0, fmt.Errorf("the step %q is not between 1 and %d", by, f.max)
		}
	}
	first, last := f.min, f.max
	if span != "*" {
		from, to, ranged := strings.Cut(span, "-")
		if first, err = f.value(from); err != nil {
			return 0, err
		}
		switch {
		case ranged:
			if last, err = f.value(to); err != nil {
				return 0, err
			}
		case !stepped:
			last = first
		}
		if first > last {
			return 0, fmt.Errorf("%s comes after %s", from, to)
		}
	} else if f.name == "day of week" {
		last-- // Sunday once
	}
	for n := first; n <= last; n += step {
		s |= 1 << n
	}
	return s, nil
}

func (f field) value(text string) (int, error) {
	for i, name := range f.names {
		if strings.EqualFold(text, name) {
			return f.min + i, nil
		}
	}
	n, err := strconv.ParseUint(text, 10, 16)
	switch {
	case err != nil && f.names != nil:
		return 0, fmt.Errorf("%q is neither a number nor one of %s to %s", text, f.names[0], f.names[len(f.names)-1])
	case err != nil:
		return 0, fmt.Errorf("%q is not a number", text)
	case int(n) < f.min || int(n) > f.max:
		return 0, fmt.Errorf("%d is not between %d and %d", n, f.min, f.max)
	}
	return int(n), nil
}

// next is the first time from from on, and before the other, that a clock on the wall shows when the table has it. Both are
// given, as is the answer, as if the clock were UTC's.
func (t *table) next(from, before time.Time) (time.Time, bool) {
	at := from.Truncate(time.Second)
	if at.Before(from) {
		at = at.Add(time.Second)
	}
	for at.Before(before) {
		year, month, day := at.Date()
		hour, minute, second := at.Clock()
		switch {
		case !t.month.has(int(month)):
			at = time.Date(year, month+1, 1, 0, 0, 0, 0, time.UTC)
		case !t.onDay(at):
			at = time.Date(year, month, day+1, 0, 0, 0, 0, time.UTC)
		case !t.hour.has(hour):
			at = time.Date(year, month, day, hour+1, 0, 0, 0, time.UTC)
		case !t.minute.has(minute):
			at = time.Date(year, month, day, hour, minute+1, 0, 0, time.UTC)
		case !t.second.has(second):
			at = at.Add(time.Second)
		default:
			return at, true
		}
	}
	return time.Time{}, false
}

func (t *table) onDay(at time.Time) bool {
	day, weekday := t.day.has(at.Day()), t.weekday.has(int(at.Weekday()))
	if t.bothDays {
		return day && weekday
	}
	return day || weekday
}
