package hint

import (
	"encoding/json"
	"fmt"
	"regexp"
	"strconv"
	"strings"

	"google.golang.org/protobuf/reflect/protoreflect"
)

var unknownField = regexp.MustCompile(`unknown field ("(?:[^"\\]|\\.)*")`)

// JSON says what protojson has against a text that was to be a message of this kind, and what to write instead.
func JSON(err error, text []byte, of protoreflect.MessageDescriptor) string {
	// protojson has now a space and now a non-breaking one there, so that nobody compares its words.
	why := strings.TrimSpace(strings.TrimPrefix(strings.ReplaceAll(err.Error(), "\u00a0", " "), "proto:"))
	switch {
	case strings.Contains(why, "unknown field "):
		m := unknownField.FindStringSubmatch(why)
		if m == nil {
			return why
		}
		name, err := strconv.Unquote(m[1])
		var tree any
		if err != nil || json.Unmarshal(text, &tree) != nil {
			return why
		}
		if in := without(tree, of, name); in != nil {
			return why + For(name, fieldsOf(in))
		}
	case strings.Contains(why, "for bytes field"):
		return why + ": bytes are written in base64"
	case strings.Contains(why, "google.protobuf.Duration"):
		return why + `: write seconds with an s, as "60s" or "0.5s"`
	case strings.Contains(why, "google.protobuf.Timestamp"):
		return why + `: write "2006-01-02T15:04:05Z"`
	}
	return why
}

// without is the first kind of message in the tree that is given a field of this name and has none; nil if there is none.
func without(tree any, of protoreflect.MessageDescriptor, name string) protoreflect.MessageDescriptor {
	object, ok := tree.(map[string]any)
	if !ok || of.ParentFile().Package() == "google.protobuf" { // those have a JSON of their own
		return nil
	}
	if _, given := object[name]; given && fieldOf(of, name) == nil {
		return of
	}
	for key, value := range object {
		f := fieldOf(of, key)
		if f == nil {
			continue
		}
		inner, values := f.Message(), []any{value}
		switch list, isList := value.([]any); {
		case f.IsMap():
			inner, values = f.MapValue().Message(), nil
			entries, _ := value.(map[string]any)
			for _, v := range entries {
				values = append(values, v)
			}
		case isList:
			values = list
		}
		for _, v := range values {
			if inner == nil {
				break
			}
			if found := without(v, inner, name); found != nil {
				return found
			}
		}
	}
	return nil
}

func fieldOf(m protoreflect.MessageDescriptor, name string) protoreflect.FieldDescriptor {
	if f := m.Fields().ByJSONName(name); f != nil {
		return f
	}
	return m.Fields().ByTextName(name)
}

func fieldsOf(m protoreflect.MessageDescriptor) (names []string) {
	for i := range m.Fields().Len() {
		names = append(names, fmt.Sprint(m.Fields().Get(i).Name()))
	}
	return names
}
