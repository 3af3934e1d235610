package componenttest

import (
	"strings"
	"testing"
	"time"
)

// adder is a driver with one rule: it adds.
type adder func(a, b int) int

var broken = []Mutant[adder]{
	{"takes away", func(adder) adder { return func(a, b int) int { return a - b } }},
	{"right by chance", func(adder) adder { return func(a, b int) int { return 2 * a } }},
	{"panics", func(adder) adder { return func(a, b int) int { panic("broken") } }},
	{"hangs", func(adder) adder { return func(a, b int) int { select {} } }},
}

func runSuite(t *testing.T, breakIt func(adder) adder) {
	add := breakIt(func(a, b int) int { return a + b })
	t.Run("Sum", func(t *testing.T) {
		t.Run("Twos", func(t *testing.T) {
			if got := add(2, 2); got != 4 {
				t.Errorf("2 and 2 make %d", got)
			}
		})
	})
}

// TestCatch is both sides: the parent sees one caught, and the children of TestVerdicts come through here.
func TestCatch(t *testing.T) {
	mutants := broken[:1]
	if isChild() {
		mutants = broken
	}
	Catch(t, "adder", mutants, runSuite)
}

func TestVerdicts(t *testing.T) {
	for name, want := range map[string]string{
		"takes away": "", "right by chance": "the suite passed", "panics": "exit status 2", "hangs": "test timed out",
		"unknown": "the suite passed",
	} {
		t.Run(name, func(t *testing.T) {
			by, err := child{test: "TestCatch", suite: "adder", name: name, patience: 3 * time.Second}.caught()
			switch {
			case want == "" && (err != nil || by != "Sum/Twos"):
				t.Errorf("caught by %q, %v; want it caught by Sum/Twos", by, err)
			case want != "" && (err == nil || !strings.Contains(err.Error(), want)):
				t.Errorf("caught by %q, %v; want it missed because %s", by, err, want)
			}
		})
	}
}

func TestSuiteThatDoesNotRunDoesNotPass(t *testing.T) {
	c := child{test: "TestCatch", suite: "another", name: sound, patience: 10 * time.Second}
	if err := c.passes(); err == nil || !strings.Contains(err.Error(), "did not run") {
		t.Errorf("%v, want that the suite did not run", err)
	}
}

func TestFailureIsTheInnermost(t *testing.T) {
	output := "--- FAIL: TestMutants (0.1s)\n    --- FAIL: TestMutants/x (0.1s)\n        --- FAIL: TestMutants/x/B/C (0.1s)\n    --- FAIL: TestMutants/xy/D/E/F (0s)\n--- FAIL: TestOther/x/y/z/q (0s)\n"
	if name, ok := failed(output, "TestMutants/x"); name != "B/C" || !ok {
		t.Errorf("%q, %v", name, ok)
	}
	if name, ok := failed("PASS\nexit 1\n", "TestMutants/x"); ok {
		t.Errorf("found %q where nothing failed", name)
	}
	if name, ok := failed("--- FAIL: TestMutants/x (0.1s)\n", "TestMutants/x"); name != "the suite itself" || !ok {
		t.Errorf("%q, %v", name, ok)
	}
}
