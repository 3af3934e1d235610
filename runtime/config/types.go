package config

import (
	"encoding"
	"reflect"
	"strings"
)

// field is one that YAML can name.
type field struct {
	name, doc string
	index     []int
	typ       reflect.Type
}

// fieldsOf lists what the library would fill of a struct: `yaml:"name"`, the lower-case name without a tag, and what is inline.
func fieldsOf(t reflect.Type) []field {
	var all []field
	for i := range t.NumField() {
		f := t.Field(i)
		name, rest, _ := strings.Cut(f.Tag.Get("yaml"), ",")
		if name == "-" || !f.IsExported() {
			continue
		}
		if strings.Contains(","+rest+",", ",inline,") && f.Type.Kind() == reflect.Struct {
			for _, inner := range fieldsOf(f.Type) {
				inner.index = append([]int{i}, inner.index...)
				all = append(all, inner)
			}
			continue
		}
		if name == "" {
			name = strings.ToLower(f.Name)
		}
		all = append(all, field{name: name, doc: f.Tag.Get("doc"), index: []int{i}, typ: f.Type})
	}
	return all
}

func fieldNames(t reflect.Type) []string {
	if t == nil || t.Kind() != reflect.Struct {
		return nil
	}
	var names []string
	for _, f := range fieldsOf(t) {
		names = append(names, f.name)
	}
	return names
}

// isSetting tells the sections of Config from those that hold components.
func isSetting(name string) bool {
	for _, f := range fieldsOf(reflect.TypeFor[Config]()) {
		if f.name == name {
			return true
		}
	}
	return false
}

// isText says whether values of a type are written as one text that the type reads itself, like components.Size.
func isText(t reflect.Type) bool {
	return reflect.PointerTo(t).Implements(reflect.TypeFor[encoding.TextUnmarshaler]())
}

// typesOf finds each type that a value is made of by the name that the library calls it in its errors.
func typesOf(v any) map[string]reflect.Type {
	known := map[string]reflect.Type{}
	var visit func(reflect.Type)
	visit = func(t reflect.Type) {
		if _, seen := known[t.String()]; seen {
			return
		}
		known[t.String()] = t
		switch t.Kind() {
		case reflect.Pointer, reflect.Slice, reflect.Array:
			visit(t.Elem())
		case reflect.Map:
			visit(t.Key())
			visit(t.Elem())
		case reflect.Struct:
			for _, f := range fieldsOf(t) {
				visit(f.typ)
			}
		}
	}
	visit(reflect.TypeOf(v))
	return known
}
