package main

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"
)

const (
	committed = "STATE_COMMITTED"
	aborted   = "STATE_ABORTED"
)

// verdict is what was found.
type verdict struct {
	committed, aborted, unfinished, doubled, half int
	money                                         int // that has come, or gone
	faults                                        []string
	why                                           map[string]int // some were aborted
}

// reasons are why transfers were aborted, the most frequent first.
func (v *verdict) reasons() string {
	all := slices.SortedFunc(maps.Keys(v.why), func(a, b string) int {
		return cmp.Or(cmp.Compare(v.why[b], v.why[a]), cmp.Compare(a, b))
	})
	for i, why := range all {
		all[i] = fmt.Sprint(why, " ", v.why[why])
	}
	return strings.Join(all, ", ")
}

func (v *verdict) fault(count *int, format string, args ...any) {
	*count++
	v.faults = append(v.faults, fmt.Sprintf(format, args...))
}

// judge compares what was noted with what has become of each transfer.
func judge(r *run, l *ledger, states map[string]string) (v verdict) {
	known := map[string]bool{}
	v.why = map[string]int{}
	for i := range r.Transfers {
		t := &r.Transfers[i]
		known[t.GID] = true
		v.judge(t, states[t.GID], l.notes[t.GID])
	}
	for _, gid := range slices.Sorted(maps.Keys(l.notes)) {
		if !known[gid] {
			v.fault(&v.half, "half: there is a note of %s, which nobody began", gid)
		}
	}
	for _, gid := range slices.Sorted(maps.Keys(states)) {
		if !known[gid] {
			v.fault(&v.half, "half: %s is %s, and nobody began it", gid, states[gid])
		}
	}
	sum := 0
	for _, account := range slices.Sorted(maps.Keys(l.balances)) {
		has := l.balances[account]
		sum += has
		if noted := r.Money + l.moved[account]; has != noted {
			v.fault(&v.half, "half: account %s has %d, by its notes %d", account, has, noted)
		}
	}
	v.money = sum - r.Accounts*r.Money
	return v
}

// judge judges one transfer. An effect that was not noted is there 0 times.
func (v *verdict) judge(t *transfer, state string, notes map[string]int) {
	debit, credit := fmt.Sprint(t.From, " ", -t.Amount), fmt.Sprint(t.To, " ", t.Amount)
	undebit, uncredit := fmt.Sprint(t.From, " ", t.Amount), fmt.Sprint(t.To, " ", -t.Amount)
	may := map[string]bool{}
	once := func(what string) bool {
		may[what] = true
		return notes[what] == 1
	}
	back := func(done, undone string) bool { // neither or both
		may[done], may[undone] = true, true
		return notes[done] == notes[undone]
	}
	ok := false
	switch state {
	case committed:
		v.committed++
		switch t.Pattern {
		case "saga":
			ok = once("debit action "+debit) && once("credit action "+credit)
		case "tcc":
			ok = once("debit try "+debit) && once("credit confirm "+credit)
		case "message":
			ok = once(debit) && once("credit action "+credit)
		}
	case aborted:
		v.aborted++
		v.why[t.Pattern+" "+cmp.Or(t.Expected, "else")]++
		switch t.Pattern {
		case "saga":
			ok = back("debit action "+debit, "debit compensation "+undebit) && back("credit action "+credit, "credit compensation "+uncredit)
		case "tcc":
			ok = back("debit try "+debit, "debit cancel "+undebit)
		case "message":
			ok = true
		}
	case "": // nobody has been told that it began
		ok = !t.Report.Begun && t.Report.State == ""
	default:
		v.fault(&v.unfinished, "unfinished: %s is %s", t.GID, state)
		return
	}
	twice := false
	for what, times := range notes {
		twice = twice || times > 1
		ok = ok && may[what]
	}
	switch {
	case twice:
		v.fault(&v.doubled, "doubled: %+v is %q, with %v", *t, state, notes)
	case !ok || t.Report.State != "" && t.Report.State != state:
		v.fault(&v.half, "half: %+v is %q, with %v", *t, state, notes)
	}
}
