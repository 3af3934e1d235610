package main

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
)

// event is what go test -json (go doc test2json) writes a line of.
type event struct {
	Action, Package, Test, Output string
}

// tally counts tests, subtests among them. A package that fails without a test of it that did, as one that cannot be built, is
// one that failed.
type tally struct {
	passed, failed, skipped int

	blamed map[string]bool // packages with a test that failed
}

func (t tally) String() string {
	return fmt.Sprintf("suite: %d passed, %d failed, %d skipped", t.passed, t.failed, t.skipped)
}

// read counts the events and copies what they say has been printed, and lines that are no events.
func (t *tally) read(events io.Reader, out io.Writer) error {
	for lines := bufio.NewReader(events); ; {
		line, err := lines.ReadBytes('\n')
		text := string(line)
		var e event
		if json.Unmarshal(line, &e) == nil && e.Action != "" {
			t.count(e)
			text = e.Output
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
	if t.blamed == nil {
		t.blamed = map[string]bool{}
	}
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
