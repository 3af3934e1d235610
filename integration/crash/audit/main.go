// Audit judges a run of crash when all is at rest: by what the services have noted themselves, by the states of the transactions, and by
// what the initiators were told. It imports nothing but Go's standard library, and no line of those whom it judges.
//
// It ends with 0 if all is well; with 1 if transfers are doubled, half or unfinished, or money has come or gone; with 3 if the ledgers are
// right, but a point was never reached, too few were committed, or a process ended by itself; and with 2 if it could not judge.
package main

import (
	"encoding/json"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"time"
)

// run is what those tell who have made it.
type run struct {
	Accounts, Money int      // how many, and in each at the beginning
	Percent         int      // that have to be committed, of all transfers
	Participants    []string // HTTP APIs of the sidecars that keep their ledgers
	Coordinators    []string // HTTP APIs of the sidecars that know the transactions, each of which knows all
	Transfers       []transfer
	Points          []string // all of which have to be reached
	Hit             string   // a folder with a file for each that was
	Kills           int
	Strange         []string // processes that ended by themselves
	Schedule        string
	Barrier         bool // else points behind it cannot be reached
}

// transfer is one of the plan, and what its initiator was told.
type transfer struct {
	GID, Pattern     string
	From, To, Amount int
	Expected         string // why it may well be aborted, for people; "": it is not expected
	Report           struct {
		Begun bool   // it is acknowledged
		State string // at its end; "": it was not told
	}
}

func main() {
	if len(os.Args) != 2 {
		fmt.Fprintln(os.Stderr, "audit: one argument is wanted, the file that tells of the run")
		os.Exit(2)
	}
	os.Exit(audit(os.Args[1], os.Stdout, os.Stderr))
}

// audit prints what it finds, and answers how to end.
func audit(path string, out, faults io.Writer) int {
	var r run
	text, err := os.ReadFile(path)
	if err == nil {
		err = json.Unmarshal(text, &r)
	}
	var states map[string]string
	if err == nil {
		states, err = r.states()
	}
	var l *ledger
	if err == nil {
		l, err = r.ledgers()
	}
	if err != nil {
		fmt.Fprintln(faults, "audit:", err)
		return 2
	}
	v := judge(&r, l, states)
	var missed []string
	for _, p := range r.Points {
		if _, err := os.Stat(filepath.Join(r.Hit, p)); err != nil {
			missed = append(missed, p)
		}
	}
	fmt.Fprintf(out, "committed %d aborted %d unfinished %d doubled %d half %d kills %d boundaries %d/%d schedule %s\n",
		v.committed, v.aborted, v.unfinished, v.doubled, v.half, r.Kills, len(r.Points)-len(missed), len(r.Points), r.Schedule)
	fmt.Fprintf(out, "money %+d\n", v.money)
	if len(v.why) > 0 {
		fmt.Fprintln(out, "aborted:", v.reasons())
	}
	const most = 10
	for _, f := range v.faults[:min(len(v.faults), most)] {
		fmt.Fprintln(faults, f)
	}
	for _, s := range r.Strange {
		fmt.Fprintln(faults, s)
	}
	few := v.committed*100 < len(r.Transfers)*r.Percent
	if few {
		fmt.Fprintf(faults, "fewer than %d %% of %d are committed\n", r.Percent, len(r.Transfers))
	}
	missing := r.Barrier && len(missed) > 0
	if missing {
		fmt.Fprintln(faults, "never reached:", strings.Join(missed, " "))
	}
	switch {
	case len(v.faults) > 0 || v.money != 0:
		return 1
	case few || missing || len(r.Strange) > 0:
		return 3
	}
	return 0
}

// eventually does something until it goes well, for a while: sidecars may be starting.
func eventually(do func() error) (err error) {
	for end := time.Now().Add(patience); ; time.Sleep(pause) {
		if err = do(); err == nil || time.Now().After(end) {
			return err
		}
	}
}

var patience, pause = time.Minute, 200 * time.Millisecond
