package main

import (
	"bufio"
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"time"
)

// event is what go test -json (go doc test2json) writes a line of.
type event struct {
	Time                          time.Time
	Action, Package, Test, Output string
	Elapsed                       float64 // s
}

// tally counts tests, subtests among them. A package that fails without a test of it that did, as one that cannot be built, is
// one that failed.
type tally struct {
	passed, failed, skipped int

	blamed map[string]bool             // packages with a test that failed
	began  map[string]time.Time        // tests that run and are no subtests
	took   map[string]time.Duration    // those that have ended, and packages
	said   map[string]*strings.Builder // by tests
	faults []string                    // what those that failed have said
	lines  []string                    // all that was printed
}

func (t *tally) String() string {
	return fmt.Sprintf("suite: %d passed, %d failed, %d skipped", t.passed, t.failed, t.skipped)
}

// read counts the events and copies what they say has been printed, and lines that are no events.
func (t *tally) read(events io.Reader, out io.Writer) error {
	t.blamed, t.began, t.took, t.said = map[string]bool{}, map[string]time.Time{}, map[string]time.Duration{}, map[string]*strings.Builder{}
	for lines := bufio.NewReader(events); ; {
		line, err := lines.ReadBytes('\n')
		text := string(line)
		var e event
		if json.Unmarshal(line, &e) == nil && e.Action != "" {
			t.count(e)
			text = e.Output
		}
		if strings.HasPrefix(text, "=== ") { // which test begins, pauses or goes on
			text = ""
		}
		if text != "" {
			t.lines = append(t.lines, strings.TrimSuffix(text, "\n"))
		}
		if _, err := io.WriteString(out, text); err != nil {
			return err
		}
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
	}
}

func (t *tally) count(e event) {
	t.keep(e)
	switch {
	case e.Action == "fail" && (e.Test != "" || !t.blamed[e.Package]):
		t.failed++
		t.blamed[e.Package] = true
	case e.Test == "":
	case e.Action == "pass":
		t.passed++
	case e.Action == "skip":
		t.skipped++
	}
}

// keep remembers how long things took, and what tests said.
func (t *tally) keep(e event) {
	name := strings.TrimSpace(e.Package[strings.LastIndex(e.Package, "/outrigger/")+1:] + " " + e.Test)
	switch e.Action {
	case "run", "cont":
		t.began[name] = e.Time
	case "output":
		if e.Test != "" && !strings.HasPrefix(e.Output, "=== ") {
			if t.said[name] == nil {
				t.said[name] = &strings.Builder{}
			}
			t.said[name].WriteString(e.Output)
		}
	case "fail":
		if said := t.said[name]; said != nil {
			t.faults = append(t.faults, fmt.Sprintf("--- %s\n%s", name, said))
		}
		fallthrough
	case "pass":
		if e.Test == "" {
			t.took[name] = time.Duration(e.Elapsed * float64(time.Second))
		} else if !strings.Contains(e.Test, "/") {
			t.took[name] = e.Time.Sub(t.began[name]) // its Elapsed leaves out subtests that run beside each other
		}
		delete(t.said, name)
	}
}

// told is how short a test must be not to be among the times.
const told = time.Second

// times tells how long packages and tests took, the slowest first.
func (t *tally) times(out io.Writer) {
	for _, name := range slices.SortedFunc(maps.Keys(t.took), func(a, b string) int { return cmp.Or(cmp.Compare(t.took[b], t.took[a]), cmp.Compare(a, b)) }) {
		if took := t.took[name]; took >= told {
			fmt.Fprintf(out, "time %6.1f s %s\n", took.Seconds(), name)
		}
	}
}

// blame says again what the tests that failed have said.
func (t *tally) blame(out io.Writer) {
	for _, said := range t.faults {
		fmt.Fprint(out, said)
	}
}
