package config

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"github.com/outrigger-mesh/outrigger/components"
)

// Fault is one thing that is wrong in a configuration, in the user's terms. Its text holds no value that came from a reference.
type Fault struct {
	File         string // or the flag that is to blame
	Line, Column int    // from 1; 0: the fault is not in a text
	Message      string
}

func (f Fault) String() string {
	if f.Line == 0 {
		return f.File + ": " + f.Message
	}
	return fmt.Sprintf("%s:%d:%d: %s", f.File, f.Line, f.Column, f.Message)
}

// Faults are all that is wrong, in the order of the file. As an error it prints one a line and is of the kind ErrInvalid.
type Faults []Fault

func (f Faults) Error() string {
	lines := make([]string, len(f))
	for i, fault := range f {
		lines[i] = fault.String()
	}
	return strings.Join(lines, "\n")
}

// Unwrap answers the kind.
func (f Faults) Unwrap() error { return components.ErrInvalid }

// err sorts the faults, drops repeats, and is nil when there are none.
func (f Faults) err() error {
	if len(f) == 0 {
		return nil
	}
	slices.SortStableFunc(f, func(a, b Fault) int {
		return cmp.Or(cmp.Compare(a.File, b.File), cmp.Compare(a.Line, b.Line), cmp.Compare(a.Column, b.Column))
	})
	return slices.Compact(f)
}
