package config

import (
	"encoding"
	"fmt"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/outrigger-mesh/outrigger/runtime/hint"
)

// field is one that YAML can name.
type field struct {
	name  string
	tag   reflect.StructTag
	index []int
	typ   reflect.Type
}

// enum are the values that a text may have: `enum:"text,json"`; nil: any.
func (f field) enum() []string {
	if list, ok := f.tag.Lookup("enum"); ok {
		return strings.Split(list, ",")
	}
	return nil
}

// complaint says what is wrong with a value by its type and tags alone: a negative duration, or a text that is not in the enum.
func (f field) complaint(v reflect.Value) string {
	if d, ok := v.Interface().(time.Duration); ok && d < 0 {
		return "is negative"
	}
	if allowed := f.enum(); allowed != nil && !slices.Contains(allowed, v.String()) {
		return "is not known"
	}
	return ""
}

// suggest hints at the values of the enum, if there is one.
func (f field) suggest(spelt string) string {
	if allowed := f.enum(); allowed != nil {
		return hint.For(spelt, allowed)
	}
	return ""
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
		all = append(all, field{name: name, tag: f.Tag, index: []int{i}, typ: f.Type})
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

// visit calls each for the single values of a struct that YAML can name, with the field that each belongs to.
func visit(v reflect.Value, each func(path []string, f field, v reflect.Value)) {
	visitBelow(v, nil, field{}, each)
}

func visitBelow(v reflect.Value, path []string, f field, each func([]string, field, reflect.Value)) {
	below := func(v reflect.Value, name string, f field) { visitBelow(v, append(slices.Clip(path), name), f, each) }
	switch kind := v.Kind(); {
	case kind == reflect.Invalid:
	case kind == reflect.Pointer || kind == reflect.Interface:
		visitBelow(v.Elem(), path, f, each)
	case kind == reflect.Struct && !isText(v.Type()):
		for _, f := range fieldsOf(v.Type()) {
			below(v.FieldByIndex(f.index), f.name, f)
		}
	case kind == reflect.Slice || kind == reflect.Array:
		for i := range v.Len() {
			below(v.Index(i), strconv.Itoa(i), f)
		}
	case kind == reflect.Map:
		for _, k := range v.MapKeys() {
			below(v.MapIndex(k), fmt.Sprint(k.Interface()), f)
		}
	default:
		each(path, f, v)
	}
}
