package main

import (
	"bufio"
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"runtime"
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
	unit                    bool // what tests say that pass is not shown

	blamed map[string]bool             // packages with a test that failed
	began  map[string]time.Time        // tests that run and are no subtests
	took   map[string]time.Duration    // those that have ended, and packages
	said   map[string]*strings.Builder // by tests
	faults []string                    // what those that failed have said, and unit tests that were skipped
	lines  []string                    // all that was printed
	shown  []string                    // what tests that passed say that they show
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
			if text = e.Output; t.unit && (e.Test != "" || text == "PASS\n") {
				text = ""
			}
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
	case "skip":
		if said := t.said[name]; said != nil && t.unit { // nothing is skipped silently
			t.faults = append(t.faults, fmt.Sprintf("--- skipped: %s\n%s", name, said))
		}
		delete(t.said, name)
	case "fail":
		if e.Test == "" && t.unit { // the binary may have died in tests, whose end is not told
			for test, said := range t.said {
				if strings.HasPrefix(test, name+" ") {
					t.faults = append(t.faults, fmt.Sprintf("--- without an end: %s\n%s", test, said))
					delete(t.said, test)
				}
			}
		}
		if said := t.said[name]; said != nil {
			t.faults = append(t.faults, fmt.Sprintf("--- %s\n%s", name, said))
		}
		fallthrough
	case "pass":
		if e.Action == "pass" {
			t.show(e, name)
		}
		if e.Test == "" {
			t.took[name] = time.Duration(e.Elapsed * float64(time.Second))
		} else if !strings.Contains(e.Test, "/") {
			t.took[name] = e.Time.Sub(t.began[name]) // its Elapsed leaves out subtests that run beside each other
		}
		delete(t.said, name)
	}
}

// featureLine is what a test logs of the protocols for which it shows something.
var featureLine = regexp.MustCompile(`(?m)^    \w+_test\.go:\d+: (feature: .*)$`)

// show keeps what a test says that it shows, since it has passed: as docgen reads it.
func (t *tally) show(e event, name string) {
	said := t.said[name]
	if said == nil || strings.Contains(e.Test, "/") {
		return
	}
	_, folder, _ := strings.Cut(e.Package, "/outrigger/")
	for _, m := range featureLine.FindAllStringSubmatch(said.String(), -1) {
		t.shown = append(t.shown, folder+"\t"+e.Test+"\t"+m[1])
	}
}

func (t *tally) saveFeatures(path string) error {
	slices.Sort(t.shown)
	text := strings.Join(append(t.shown, ""), "\n")
	return errors.Join(os.MkdirAll(filepath.Dir(path), 0o755), os.WriteFile(path, []byte(text), 0o644))
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

// within tells how long the packages took, all in all, that fit what is before the last "=", and fails if that is longer than what is behind it.
func (t *tally) within(limit string, out io.Writer) error {
	if limit == "" {
		return nil
	}
	at := max(strings.LastIndex(limit, "="), 0)
	most, err := time.ParseDuration(strings.TrimPrefix(limit[at:], "="))
	names, e := regexp.Compile(limit[:at])
	if err = errors.Join(err, e); err != nil {
		return err
	}
	total := time.Duration(0)
	for name, took := range t.took {
		if !strings.Contains(name, " ") && names.MatchString(name) { // not a test
			total += took
		}
	}
	fmt.Fprintf(out, "time %6.1f s all of %s, at most %s\n", total.Seconds(), names, most)
	if total > most && busy() {
		fmt.Fprintln(out, "which does not count: the machine was busy with others")
	} else if total > most {
		return fmt.Errorf("%s took %s, longer than %s", names, total.Round(time.Second), most)
	}
	return nil
}

// busy answers whether more was to be done in the last quarter of an hour than tests by themselves have a machine do.
func busy() bool {
	text, err := os.ReadFile("/proc/loadavg")
	var one, five, fifteen float64
	if err == nil {
		_, err = fmt.Sscan(string(text), &one, &five, &fifteen)
	}
	return err == nil && fifteen > 5*float64(runtime.NumCPU())
}

// blame says again what the tests that failed have said.
func (t *tally) blame(out io.Writer) {
	for _, said := range t.faults {
		fmt.Fprint(out, said)
	}
}
