package main

import (
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"
)

// verdict is what is found when all is at rest.
type verdict struct {
	committed, aborted, unfinished, doubled, half int
	lost                                          int // money
	faults                                        []string
}

// audit waits until all is at rest, and judges by what the services have noted.
func (b *bank) audit() (v verdict, err error) {
	_ = eventually(patience, func() error {
		out, err := b.list("STATE_PREPARED", "STATE_RUNNING", "STATE_COMMITTING", "STATE_ABORTING")
		if v.unfinished = len(out); err == nil && v.unfinished > 0 {
			err = fmt.Errorf("%d are not at their end", v.unfinished)
		}
		return errors.Join(err, b.late())
	})
	var states map[string]string
	if err := eventually(time.Minute, func() (err error) { states, err = b.list(); return err }); err != nil {
		return v, err
	}
	books := ledger{balances: map[string]int{}, notes: map[string]map[string]int{}}
	for _, s := range b.states {
		if err := eventually(time.Minute, func() error { return books.read(s) }); err != nil {
			return v, err
		}
	}
	for i := range b.plan {
		t := &b.plan[i].transfer
		b.judgeOne(&v, t, states[t.GID], books.notes[t.GID])
		delete(books.notes, t.GID)
	}
	for gid := range books.notes { // of transactions that nobody began
		v.half++
		v.faults = append(v.faults, "half: there is a note of "+gid)
	}
	sum := 0
	for _, n := range books.balances {
		sum += n
	}
	v.lost = accounts*money - sum
	if len(books.balances) != accounts {
		return v, fmt.Errorf("%d accounts are there", len(books.balances))
	}
	return v, nil
}

// late tells whether services still have calls to serve.
func (b *bank) late() error {
	for _, addr := range b.apps {
		res, err := client.Get("http://" + addr + "/late")
		if err != nil {
			return err
		}
		text, err := io.ReadAll(res.Body)
		res.Body.Close()
		if err != nil || string(text) != "0" {
			return fmt.Errorf("%s calls are late: %w", text, err)
		}
	}
	return nil
}

// judgeOne compares what was noted of a transfer with what has become of it.
func (b *bank) judgeOne(v *verdict, t *transfer, state string, notes map[string]int) {
	r, n := b.reported[t.GID], notes // an effect that was not noted is 0
	debit, credit := fmt.Sprint(t.From, " ", -t.Amount), fmt.Sprint(t.To, " ", t.Amount)
	undebit, uncredit := fmt.Sprint(t.From, " ", t.Amount), fmt.Sprint(t.To, " ", -t.Amount)
	known := map[string]bool{}
	has := func(what string, times int) bool {
		known[what] = true
		return n[what] == times
	}
	back := func(done, undone string) bool { return has(done, n[undone]) && has(undone, n[done]) }
	ok := false
	switch {
	case state != committed && state != aborted && state != "": // it is counted already
		return
	case state == committed && t.Pattern == saga:
		ok = has("debit action "+debit, 1) && has("credit action "+credit, 1)
	case state == committed && t.Pattern == tcc:
		ok = has("debit try "+debit, 1) && has("credit confirm "+credit, 1)
	case state == committed:
		ok = has(debit, 1) && has("credit action "+credit, 1)
	case state == aborted && t.Pattern == saga:
		ok = back("debit action "+debit, "debit compensation "+undebit) && back("credit action "+credit, "credit compensation "+uncredit)
	case state == aborted && t.Pattern == tcc:
		ok = back("debit try "+debit, "debit cancel "+undebit)
	case state == aborted || state == "" && !r.Begun && r.State == "": // nobody was told that it began
		ok = true
	}
	twice := false
	for what, times := range n {
		twice = twice || times > 1
		ok = ok && known[what]
	}
	switch state {
	case committed:
		v.committed++
	case aborted:
		v.aborted++
	}
	how := "half"
	switch {
	case twice:
		v.doubled++
		how = "doubled"
	case !ok || r.State != "" && r.State != state:
		v.half++
	default:
		return
	}
	v.faults = append(v.faults, fmt.Sprintf("%s: %+v is %q, reported %+v, with %v", how, *t, state, r, n))
}

func (b *bank) list(states ...string) (all map[string]string, err error) {
	all = map[string]string{}
	for page := ""; ; {
		out, err := b.coord.call(tx+"List", object{"states": states, "pageToken": page})
		if err != nil {
			return nil, err
		}
		list, _ := out["transactions"].([]any)
		for _, one := range list {
			s, _ := one.(object)
			all[text(s, "gid")] = text(s, "state")
		}
		if page = text(out, "nextPageToken"); page == "" {
			return all, nil
		}
	}
}

// ledger is what the services have.
type ledger struct {
	balances map[string]int
	notes    map[string]map[string]int // by gid: how often "[BRANCH OP] ACCOUNT AMOUNT" was noted
}

// read adds a service's accounts and notes.
func (l *ledger) read(s *api) error {
	found := ledger{map[string]int{}, map[string]map[string]int{}}
	for page := ""; ; {
		out, err := s.call("state.v1.State/List", object{"values": true, "pageToken": page})
		if err != nil {
			return err
		}
		entries, _ := out["entries"].([]any)
		for _, e := range entries {
			entry, _ := e.(object)
			key := text(entry, "key")
			switch words := strings.Split(key, "/"); words[0] {
			case "account":
				item, _ := entry["item"].(object)
				n, _ := strconv.Atoi(decode(item["value"]))
				found.balances[key] = n
			case "note":
				if found.notes[words[1]] == nil {
					found.notes[words[1]] = map[string]int{}
				}
				found.notes[words[1]][strings.TrimLeft(words[2]+" "+words[3]+" "+words[4], " ")]++
			}
		}
		if page = text(out, "nextPageToken"); page == "" {
			break
		}
	}
	maps.Copy(l.balances, found.balances)
	for gid, notes := range found.notes {
		if l.notes[gid] == nil {
			l.notes[gid] = map[string]int{}
		}
		for what, n := range notes {
			l.notes[gid][what] += n
		}
	}
	return nil
}

// judge prints what was found, and says how the run ends.
func (b *bank) judge(v verdict) (code int, err error) {
	var missed, strange []string
	for _, p := range b.points {
		if !reached(b.dir, p) {
			missed = append(missed, p)
		}
	}
	kills := map[string]int{}
	all := 0
	for name, p := range b.processes {
		kind := strings.TrimRight(name, "0123456789 ")
		kills[strings.TrimSuffix(strings.TrimSuffix(kind, " s"), " bank")+map[bool]string{true: " of the initiators"}[strings.HasSuffix(kind, "bank")]] += p.kills
		all += p.kills
		for _, how := range p.strange {
			strange = append(strange, name+" ended by itself: "+how)
		}
	}
	line := fmt.Sprintf("committed %d aborted %d unfinished %d doubled %d half %d kills %d boundaries %d/%d schedule %s",
		v.committed, v.aborted, v.unfinished, v.doubled, v.half, all, len(b.points)-len(missed), len(b.points), b.hash)
	fmt.Println(line)
	took := time.Since(b.begun).Round(time.Second)
	fmt.Printf("money %+d, frozen %d, %s\n", -v.lost, b.frozen, took)
	for _, f := range v.faults[:min(len(v.faults), 10)] {
		fmt.Fprintln(os.Stderr, f)
	}
	faults := v.unfinished+v.doubled+v.half > 0 || v.lost != 0
	few := v.committed*10 < b.n*6
	switch {
	case faults:
		code = 1
	case few || len(strange) > 0 || b.barrier && len(missed) > 0:
		code = 3
	}
	for _, s := range strange {
		fmt.Fprintln(os.Stderr, s)
	}
	if few {
		fmt.Fprintf(os.Stderr, "fewer than 60 %% of %d are committed\n", b.n)
	}
	if len(missed) > 0 && b.barrier {
		fmt.Fprintln(os.Stderr, "never reached:", strings.Join(missed, " "))
	}
	if b.report != "" {
		err = b.write(line, took, kills)
	}
	return code, err
}

// write writes the report.
func (b *bank) write(line string, took time.Duration, kills map[string]int) error {
	var r strings.Builder
	fmt.Fprintf(&r, "# Transfers under kills\n\n`make crash TX=%d SEED=%d`, %s, in %s:\n\n```text\n%s\n```\n\n", b.n, b.seed, time.Now().UTC().Format(time.DateOnly), took, line)
	fmt.Fprintf(&r, "Driver %s. Frozen: a coordinator, for %s with a lease of %s, %d times. Killed:\n\n| process | times |\n|---|---|\n", b.driver, 2*lease, lease, b.frozen)
	for _, kind := range slices.Sorted(maps.Keys(kills)) {
		fmt.Fprintf(&r, "| %s | %d |\n", kind, kills[kind])
	}
	died, reported := 0, 0
	for _, one := range b.reported {
		if one.Died {
			died++
		}
		if one.State != "" {
			reported++
		}
	}
	fmt.Fprintf(&r, "\n%d transfers lost their initiator; of %d the initiator was told the end. Each of the %d boundaries was reached: %s.\n",
		died, reported, len(b.points), strings.Join(b.points, ", "))
	return os.WriteFile(filepath.Clean(b.report), []byte(r.String()), 0o644)
}
