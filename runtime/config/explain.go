package config

import (
	"fmt"
	"maps"
	"reflect"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"go.yaml.in/yaml/v4"

	"github.com/outrigger-mesh/outrigger/components"
	"github.com/outrigger-mesh/outrigger/runtime/hint"
)

// The wording of the library, which has no fields for what it says.
var (
	unknownField = regexp.MustCompile(`(?s)^field (.*) not found in type (\S+)$`)
	wrongType    = regexp.MustCompile("(?s)^cannot construct (\\S+)(?: `.*`)? into (.+?)(?: \\(TextUnmarshaler\\))?$")
)

// explain puts a fault of the library into the user's terms.
func (l *loader) explain(at int, f *yaml.LoadError, known map[string]reflect.Type) string {
	if m := unknownField.FindStringSubmatch(f.Message); m != nil {
		return l.explainField(at, known[m[2]])
	}
	subject := l.subject(at)
	if m := wrongType.FindStringSubmatch(f.Message); m != nil {
		return subject + ": " + l.explainType(at, m[1], m[2], known[m[2]])
	}
	return subject + ": " + f.Message
}

func (l *loader) explainField(at int, in reflect.Type) string {
	path := l.tree.path(at)
	name, names := path[len(path)-1], fieldNames(in)
	if len(path) == 1 {
		names = slices.Concat(names, slices.Collect(maps.Keys(l.catalogs)))
	}
	slices.Sort(names)
	component, field := l.owner(at)
	what := hint.For(name, names)
	if component != "" {
		component += ": "
		if len(path) == 3 && slices.Contains(l.optionNames(path[0], path[1]), name) {
			what = " (it is an option of the driver: write it under options)"
		}
	}
	kind := "field"
	if len(path) == 1 {
		kind = "section"
	}
	return fmt.Sprintf("%sunknown %s %q%s", component, kind, field, what)
}

// optionNames are those of the driver that a component names.
func (l *loader) optionNames(capability, name string) []string {
	_, driver := find(l.tree.root, capability, name, "driver")
	if driver == nil {
		return nil
	}
	defaults, _ := l.catalogs[capability].Defaults(driver.Value)
	return fieldNames(reflect.TypeOf(defaults))
}

func (l *loader) explainType(at int, tag, name string, want reflect.Type) string {
	n := l.tree.places[at].node
	if ref := l.tree.places[at].ref; ref.hasSecret() {
		return fmt.Sprintf("%s: a secret can stand only where a text is expected", clip(ref.raw))
	}
	value := fmt.Sprintf("%q", clip(n.Value))
	if n.Kind != yaml.ScalarNode {
		return fmt.Sprintf("expected %s, found %s", wanted(want), shape(n))
	}
	if want == nil {
		return fmt.Sprintf("%s does not fit here", value)
	}
	switch kind := want.Kind(); {
	case want == reflect.TypeFor[time.Duration]():
		if strings.Trim(n.Value, "0123456789") == "" && n.Value != "" {
			return fmt.Sprintf("%s is not a duration: write %ss or %sms", value, clip(n.Value), clip(n.Value))
		}
		return fmt.Sprintf("%s is not a duration: write 5s, 500ms or 1h30m", value)
	case kind >= reflect.Int && kind <= reflect.Uint64 && (tag == "!!int" || tag == "!!float" && looksTyped(n.Value) && !strings.ContainsAny(n.Value, ".eE")):
		return fmt.Sprintf("%s is out of range", value)
	case kind == reflect.Struct || kind == reflect.Map || kind == reflect.Slice || kind == reflect.Array:
		return fmt.Sprintf("expected %s, found %s", wanted(want), value)
	case kind == reflect.Bool && strictBool(n.Value) != "":
		return fmt.Sprintf("%s is not true or false: write %s", value, strictBool(n.Value))
	case n.Style&(yaml.SingleQuotedStyle|yaml.DoubleQuotedStyle) != 0 && wouldFit(n.Value, kind):
		return fmt.Sprintf("%s is a text: write it without quotes", value)
	}
	return fmt.Sprintf("%s is not %s", value, wanted(want))
}

// wouldFit tells whether a text would be what is wanted if it were not quoted.
func wouldFit(text string, kind reflect.Kind) bool {
	var err error
	switch {
	case kind == reflect.Bool:
		return text == "true" || text == "false"
	case kind == reflect.Float32 || kind == reflect.Float64:
		_, err = strconv.ParseFloat(text, 64)
	default:
		_, err = strconv.ParseInt(text, 10, 64)
	}
	return err == nil
}

// wanted names what a type is written as.
func wanted(t reflect.Type) string {
	if t == nil {
		return "a single value"
	}
	switch kind := t.Kind(); {
	case t == reflect.TypeFor[time.Duration]():
		return "a duration such as 5s"
	case t == reflect.TypeFor[components.Size]():
		return "a size such as 64MiB"
	case isText(t) || kind == reflect.String:
		return "a text"
	case kind == reflect.Bool:
		return "true or false"
	case kind >= reflect.Int && kind <= reflect.Uint64:
		return "a whole number"
	case kind == reflect.Float32 || kind == reflect.Float64:
		return "a number"
	case kind == reflect.Slice || kind == reflect.Array:
		return "a list"
	case kind == reflect.Struct || kind == reflect.Map:
		return "a map"
	}
	return "a single value"
}

// shape names what a node of the tree is, and shows of a reference no more than the reference.
func (l *loader) shape(n *yaml.Node) string {
	if n.Kind == yaml.ScalarNode {
		return l.shown(n.Line)
	}
	return shape(n)
}

// shape names what a node of the file is.
func shape(n *yaml.Node) string {
	switch n.Kind {
	case yaml.MappingNode:
		return "a map"
	case yaml.SequenceNode:
		return "a list"
	case yaml.ScalarNode:
		return fmt.Sprintf("%q", clip(n.Value))
	}
	return "something else"
}
