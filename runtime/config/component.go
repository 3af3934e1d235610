package config

import (
	"errors"
	"fmt"
	"reflect"
	"regexp"
	"strings"

	"go.yaml.in/yaml/v4"

	"github.com/outrigger-mesh/outrigger/components"
	"github.com/outrigger-mesh/outrigger/runtime/hint"
)

var componentName = regexp.MustCompile(`^[a-z0-9-]{1,63}$`)

// written is a component as the file has it.
type written struct {
	Driver   string    `yaml:"driver" doc:"which implementation it is"`
	Required bool      `yaml:"required" doc:"the sidecar does not start without it"`
	Limits   limits    `yaml:"limits" doc:"what keeps a slow back end from holding more than its share"`
	Options  yaml.Node `yaml:"options" doc:"what the driver is told"`
}

type limits struct {
	Concurrency int `yaml:"concurrency" doc:"calls under way at once"`
	Queue       int `yaml:"queue" doc:"calls that wait for one of those to end"`
}

// freshComponent is one that says nothing.
func freshComponent() written {
	return written{Limits: limits{Concurrency: 1024, Queue: 4096}}
}

// section reads the components of one capability.
func (l *loader) section(s [2]*yaml.Node) []Component {
	capability := s[0].Value
	if s[1].Kind != yaml.MappingNode {
		l.fault(s[1].Line, "%s: expected a map of components by name, found %s", capability, l.shape(s[1]))
		return nil
	}
	var all []Component
	for name, body := range pairs(s[1]) {
		if !componentName.MatchString(name.Value) {
			l.fault(name.Line, "%s: a name is made of a-z, 0-9 and -, at most 63 of them", l.subject(name.Line))
		}
		all = append(all, l.component(capability, name, body)) // also with faults: others may refer to it
	}
	return all
}

func (l *loader) component(capability string, name, body *yaml.Node) Component {
	place := l.tree.places[name.Line]
	c := Component{ID: components.ID{Capability: capability, Name: name.Value},
		Position: fmt.Sprintf("%s:%d:%d", l.file, place.line, place.column)}
	if body.Kind != yaml.MappingNode {
		hint := ""
		if name.Value == "driver" && body.Kind == yaml.ScalarNode { // what is written when the name was forgotten
			hint = fmt.Sprintf(" (a component has a name: write default: {driver: %s})", clip(l.spelt(body.Line)))
		}
		l.fault(body.Line, "%s: expected a map with driver and options, found %s%s", l.subject(name.Line), l.shape(body), hint)
		return c
	}
	w := freshComponent()
	l.noSecrets(body, "options")
	if l.decode(body, &w); w.Driver == "" {
		if !l.tree.places[body.Line].faulty && !l.faultyAt(body, "driver") && !l.misspelt(body, "driver") {
			l.fault(name.Line, "%s: driver is missing%s", l.subject(name.Line), hint.For("", l.catalogs[capability].Drivers()))
		}
		return c
	}
	c.Driver, c.Required, c.Limits = w.Driver, w.Required, components.Limits(w.Limits)
	for field, value := range map[string]int{"concurrency": w.Limits.Concurrency, "queue": w.Limits.Queue} {
		if _, n := find(body, "limits", field); n != nil && value < 1 && !l.tree.places[n.Line].faulty {
			l.fault(n.Line, "%s: %s is less than 1", l.subject(n.Line), l.shown(n.Line))
		}
	}
	l.options(&c, name, body)
	return c
}

// options checks what the driver is given, and leaves c.Resolve to make it anew.
func (l *loader) options(c *Component, name, body *yaml.Node) {
	catalog := l.catalogs[c.Capability]
	if _, ok := catalog.Defaults(c.Driver); !ok {
		_, n := find(body, "driver")
		l.fault(n.Line, "%s %q: unknown driver %s%s", c.Capability, c.Name, l.shown(n.Line), hint.For(l.spelt(n.Line), catalog.Drivers()))
		return
	}
	key, node := find(body, "options")
	if node == nil {
		key, node = name, &yaml.Node{Kind: yaml.MappingNode, Tag: "!!map", Line: name.Line, Column: 1}
	}
	if node.Kind != yaml.MappingNode {
		l.fault(node.Line, "%s %q: options: expected a map, found %s", c.Capability, c.Name, l.shape(node))
		return
	}
	o := &optionsOf{driver: c.Driver, catalog: catalog, node: node, tree: &l.tree}
	_, err := catalog.Decode(c.Driver, func(into any) error {
		detach(into)
		if !l.decode(node, into) {
			return errFaulty
		}
		o.value = reflect.ValueOf(into).Elem().Interface()
		return nil
	})
	c.options, c.Resolve, c.Secrets = o, o.resolve, o.collect()
	if err != nil && !errors.Is(err, errFaulty) && !o.faulty() {
		l.invalid(c, key, err)
	}
	if o.value != nil {
		l.values(node, o.value)
	}
}

func (l *loader) faultyAt(n *yaml.Node, path ...string) bool {
	_, value := find(n, path...)
	return value != nil && l.tree.places[value.Line].faulty
}

// misspelt tells whether a fault has been noted of a key of n that is nearly the given one.
func (l *loader) misspelt(n *yaml.Node, key string) bool {
	for k := range pairs(n) {
		if l.tree.places[k.Line].faulty && hint.Nearest(k.Value, []string{key}) == key {
			return true
		}
	}
	return false
}

// errFaulty stops a decoding whose faults are noted.
var errFaulty = errors.New("faults were found")

// invalid notes what Validate refuses, at the field that a fault begins with if it is written. While a secret is not
// known, what quotes its reference may be right once it is.
func (l *loader) invalid(c *Component, key *yaml.Node, err error) {
	for _, one := range parts(err) {
		text := strings.ReplaceAll(one.Error(), "\n", "; ")
		if len(c.options.secrets) > 0 && strings.Contains(text, "${secret:") {
			continue
		}
		at := key.Line
		field, _, _ := strings.Cut(text, " ")
		if _, n := find(c.options.node, strings.Split(strings.TrimSuffix(field, ":"), ".")...); n != nil {
			at = n.Line
		}
		l.fault(at, "%s %q: %s", c.Capability, c.Name, c.options.redact(text, nil))
	}
}

// parts answers the errors that errors.Join put together.
func parts(err error) []error {
	many, ok := err.(interface{ Unwrap() []error })
	if !ok {
		return []error{err}
	}
	all := many.Unwrap()
	if joined := errors.Join(all...); joined == nil || joined.Error() != err.Error() {
		return []error{err} // fmt.Errorf with several %w, which is one
	}
	var flat []error
	for _, one := range all {
		flat = append(flat, parts(one)...)
	}
	return flat
}

// noSecrets refuses references to secrets below n, but for what is under the key except.
func (l *loader) noSecrets(n *yaml.Node, except string) {
	if ref := l.tree.places[n.Line].ref; ref.hasSecret() {
		l.fault(n.Line, "%s: %s: a secret can be referred to only in the options of a component", l.subject(n.Line), clip(ref.raw))
	}
	if n.Kind == yaml.SequenceNode {
		for _, child := range n.Content {
			l.noSecrets(child, "")
		}
	}
	for k, v := range pairs(n) {
		if k.Value != except {
			l.noSecrets(v, "")
		}
	}
}
