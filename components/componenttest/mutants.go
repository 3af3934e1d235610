// Package componenttest shows that a conformance suite finds faults: it runs the suite against drivers that are broken on
// purpose, and fails unless the suite fails on each.
package componenttest

import (
	"fmt"
	"os"
	"sync"
	"testing"
	"time"
)

// Mutant is one way to break a driver. Break wraps a sound driver, or changes it, so that it breaks one rule.
type Mutant[D any] struct {
	Name  string
	Break func(D) D
}

// variable tells a child process which mutant it is to run, as SUITE/NAME.
const variable = "OUTRIGGER_MUTANT"

// sound is the driver as it is: the suite must pass on it, or its failures on the others would show nothing.
const sound = "none"

// patience is how long one child may take.
const patience = 90 * time.Second

// Catch runs the suite against each broken driver, in a child process of the test binary, and fails unless the suite failed
// there with an assertion: a panic, a timeout or a crash does not count. run runs the suite with breakIt around each driver
// that it opens. Catch is called once for a suite, from a test that does nothing else. It prints who caught each mutant, and
// at last the sum.
func Catch[D any](t *testing.T, suite string, mutants []Mutant[D], run func(t *testing.T, breakIt func(D) D)) {
	t.Helper()
	all := append([]Mutant[D]{{Name: sound, Break: func(d D) D { return d }}}, mutants...)
	if isChild() {
		for _, m := range all {
			if os.Getenv(variable) == suite+"/"+m.Name {
				t.Run(m.Name, func(t *testing.T) { run(t, m.Break) })
			}
		}
		return
	}
	if err := (child{test: t.Name(), suite: suite, name: sound, patience: patience}).passes(); err != nil {
		t.Fatalf("the suite fails on a sound driver: %v", err)
	}
	caught := catchAll(t, suite, mutants)
	fmt.Printf("mutants: %s %d caught, %d missed\n", suite, caught, len(mutants)-caught)
}

func isChild() bool { return os.Getenv(variable) != "" }

// catchAll answers how many were caught. Two children at a time leave a small machine fast enough for the suites' timings.
func catchAll[D any](t *testing.T, suite string, mutants []Mutant[D]) (caught int) {
	t.Helper()
	var mu sync.Mutex
	var running sync.WaitGroup
	places := make(chan struct{}, 2)
	for _, m := range mutants {
		running.Go(func() {
			places <- struct{}{}
			defer func() { <-places }()
			by, err := child{test: t.Name(), suite: suite, name: m.Name, patience: patience}.caught()
			mu.Lock()
			defer mu.Unlock()
			if err != nil {
				t.Errorf("mutant %s/%s: missed: %v", suite, m.Name, err)
				return
			}
			caught++
			fmt.Printf("mutant %s/%s: caught by %s\n", suite, m.Name, by)
		})
	}
	running.Wait()
	return caught
}
