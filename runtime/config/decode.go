package config

import (
	"errors"
	"reflect"
	"slices"
	"strconv"

	"go.yaml.in/yaml/v4"
)

// decode fills into, which has the defaults, from a part of the tree, and tells whether there was no fault.
func (l *loader) decode(n *yaml.Node, into any) bool {
	faults := l.attempt(n, into)
	known := typesOf(into)
	for _, f := range faults[:min(len(faults), maxFaults)] {
		if at := f.Mark.Line; at < 0 || at >= len(l.tree.places) {
			l.faultAt(1, 1, "%s", f.Message)
		} else if !l.tree.places[at].faulty {
			l.fault(at, "%s", l.explain(at, f, known))
		}
	}
	return len(faults) == 0
}

// attempt is decode without words. A value from a reference is a text first; where no text fits, it is tried as what
// it looks like, and where that does not fit either, it is put back as it was written, so that no fault can show it.
func (l *loader) attempt(n *yaml.Node, into any) []*yaml.LoadError {
	faults := once(n, into)
	if retyped := l.change(faults, asItLooks); len(retyped) > 0 {
		faults = once(n, into)
	}
	hidden := l.change(faults, l.asWritten)
	if len(hidden) == 0 {
		return faults
	}
	faults = once(n, into)
	for _, at := range hidden {
		if !slices.ContainsFunc(faults, func(f *yaml.LoadError) bool { return f.Mark.Line == at }) {
			faults = append(faults, &yaml.LoadError{Message: "the value does not fit", Mark: yaml.Mark{Line: at}})
		}
	}
	return faults
}

// asItLooks lets the library take a text for a number or a bool.
func asItLooks(n *yaml.Node) bool {
	if !looksTyped(n.Value) {
		return false
	}
	n.Tag, n.Style = "", 0
	return true
}

func (l *loader) asWritten(n *yaml.Node) bool {
	n.Value, n.Tag, n.Style = l.tree.places[n.Line].ref.raw, "!!str", yaml.DoubleQuotedStyle
	return true
}

// change alters the nodes with references among those that faults name, and answers their places.
func (l *loader) change(faults []*yaml.LoadError, alter func(*yaml.Node) bool) (altered []int) {
	for _, f := range faults {
		if at := f.Mark.Line; at >= 0 && at < len(l.tree.places) {
			if p := l.tree.places[at]; p.ref.refers() && !p.faulty && alter(p.node) {
				altered = append(altered, at)
			}
		}
	}
	return altered
}

// strictly is how the library decodes. Keys are known to be unique, and its own check takes the square of their number.
func strictly(n *yaml.Node, into any) error {
	return n.Load(into, yaml.WithKnownFields(), yaml.WithUniqueKeys(false))
}

// once is one run of the library, and what it would let pass.
func once(n *yaml.Node, into any) []*yaml.LoadError {
	return append(run(n, into), loose(n, reflect.TypeOf(into))...)
}

func run(n *yaml.Node, into any) []*yaml.LoadError {
	err := strictly(n, into)
	if err == nil {
		return nil
	}
	if many := (*yaml.LoadErrors)(nil); errors.As(err, &many) {
		return many.Errors
	}
	if one := (*yaml.LoadError)(nil); errors.As(err, &one) {
		return []*yaml.LoadError{one}
	}
	return []*yaml.LoadError{{Message: err.Error(), Mark: yaml.Mark{Line: n.Line}}}
}

// looksTyped says whether a text could be a number or a bool. Nothing else of what YAML makes of a bare word is wanted.
func looksTyped(s string) bool {
	if _, err := strconv.ParseFloat(s, 64); err == nil {
		return true
	}
	if _, err := strconv.ParseInt(s, 0, 64); err == nil {
		return true
	}
	return slices.Contains([]string{"true", "True", "TRUE", "false", "False", "FALSE"}, s)
}
