package config

import (
	"reflect"
	"slices"

	"go.yaml.in/yaml/v4"
)

// What the library takes for a bool though it is a text since YAML 1.2, in quotes too. The schema does not have it so.
var (
	looseYes = []string{"y", "Y", "yes", "Yes", "YES", "on", "On", "ON"}
	looseNo  = []string{"n", "N", "no", "No", "NO", "off", "Off", "OFF"}
)

// looseBools finds such texts where a type has a bool, and complains of them in the words of the library.
func looseBools(n *yaml.Node, t reflect.Type) (faults []*yaml.LoadError) {
	for t.Kind() == reflect.Pointer {
		t = t.Elem()
	}
	below := func(n *yaml.Node, t reflect.Type) { faults = append(faults, looseBools(n, t)...) }
	switch kind := t.Kind(); {
	case isText(t):
	case kind == reflect.Bool:
		if n.Kind == yaml.ScalarNode && n.Tag == "!!str" && strictBool(n.Value) != "" {
			faults = append(faults, &yaml.LoadError{Message: "cannot construct !!str into bool", Mark: yaml.Mark{Line: n.Line}})
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
