package config

import (
	"fmt"
	"reflect"
	"regexp"
	"slices"

	"go.yaml.in/yaml/v4"
)

// What the library takes for a bool though it is a text since YAML 1.2, in quotes too. The schema does not have it so.
var (
	looseYes = []string{"y", "Y", "yes", "Yes", "YES", "on", "On", "ON"}
	looseNo  = []string{"n", "N", "no", "No", "NO", "off", "Off", "OFF"}
)

// wholeNumber is how a whole number is written. The library takes 010 for 8, 0x1F, 8_080 and 80.0 too: what looks like one number is
// another, or is for no reader of JSON.
var wholeNumber = regexp.MustCompile(`^[-+]?(0|[1-9][0-9]*)$`)

// loose finds such texts where a type has a bool or a whole number, and complains of the former in the words of the library.
func loose(n *yaml.Node, t reflect.Type) (faults []*yaml.LoadError) {
	for t.Kind() == reflect.Pointer {
		t = t.Elem()
	}
	below := func(n *yaml.Node, t reflect.Type) { faults = append(faults, loose(n, t)...) }
	switch kind := t.Kind(); {
	case isText(t):
	case kind == reflect.Bool:
		if n.Kind == yaml.ScalarNode && n.Tag == "!!str" && strictBool(n.Value) != "" {
			faults = append(faults, &yaml.LoadError{Message: "cannot construct !!str into bool", Mark: yaml.Mark{Line: n.Line}})
		}
	case kind >= reflect.Int && kind <= reflect.Uint64:
		if n.Kind == yaml.ScalarNode && (n.Tag == "!!int" || n.Tag == "!!float") && !wholeNumber.MatchString(n.Value) {
			faults = append(faults, &yaml.LoadError{Message: fmt.Sprintf("%.40s is not written as a whole number: use decimal digits alone", n.Value),
				Mark: yaml.Mark{Line: n.Line}})
		}
	case kind == reflect.Struct:
		fields := fieldsOf(t)
		for k, v := range pairs(n) {
			if i := slices.IndexFunc(fields, func(f field) bool { return f.name == k.Value }); i >= 0 {
				below(v, fields[i].typ)
			}
		}
	case kind == reflect.Map:
		for _, v := range pairs(n) {
			below(v, t.Elem())
		}
	case (kind == reflect.Slice || kind == reflect.Array) && n.Kind == yaml.SequenceNode:
		for _, item := range n.Content {
			below(item, t.Elem())
		}
	}
	return faults
}

// strictBool is what to write instead of a text that the library takes for a bool; empty: it does not.
func strictBool(text string) string {
	switch {
	case slices.Contains(looseYes, text):
		return "true"
	case slices.Contains(looseNo, text):
		return "false"
	}
	return ""
}
