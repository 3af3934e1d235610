package components

import (
	"fmt"
	"reflect"
	"strings"
	"time"
)

// Option is one field of an Options struct as users know it.
type Option struct {
	Name    string `json:"name"` // a field of a struct within has the names of both, with a dot between
	Type    string `json:"type"` // a Go type, or duration, size or secret
	Default string `json:"default"`
	What    string `json:"what"` // its doc tag
}

// Options describes an Options struct, in the order of its fields: those with a yaml tag.
func Options(defaults any) []Option {
	return optionsOf(reflect.ValueOf(defaults), "")
}

func optionsOf(v reflect.Value, prefix string) []Option {
	all := []Option{}
	for i := range v.NumField() {
		field, value := v.Type().Field(i), v.Field(i)
		name, _, _ := strings.Cut(field.Tag.Get("yaml"), ",")
		if name == "" || name == "-" {
			continue
		}
		if _, isText := value.Interface().(fmt.Stringer); value.Kind() == reflect.Struct && !isText {
			all = append(all, optionsOf(value, prefix+name+".")...)
			continue
		}
		all = append(all, Option{prefix + name, typeName(field.Type), fmt.Sprint(value.Interface()), field.Tag.Get("doc")})
	}
	return all
}

func typeName(t reflect.Type) string {
	switch t {
	case reflect.TypeFor[Size]():
		return "size"
	case reflect.TypeFor[Secret]():
		return "secret"
	case reflect.TypeFor[time.Duration]():
		return "duration"
	}
	if t.Kind() == reflect.String { // whatever it is called in Go
		return "string"
	}
	return t.String()
}
