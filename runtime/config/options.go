package config

import (
	"errors"
	"fmt"
	"reflect"
	"slices"
	"strings"

	"go.yaml.in/yaml/v4"

	"github.com/outrigger-mesh/outrigger/components"
)

// optionsOf is what a component's options are made from, as often as they are needed. It is only read after Load.
type optionsOf struct {
	driver  string
	catalog components.Catalog
	node    *yaml.Node
	tree    *tree
	secrets []secretRef
	value   any // the options with each secret as it is written
}

// collect finds the secrets that the options refer to, and the components that hold them, sorted.
func (o *optionsOf) collect() (holders []string) {
	seen := map[secretRef]bool{}
	o.references(func(t *template) {
		for _, p := range t.parts {
			if p.secret != nil && !seen[*p.secret] {
				seen[*p.secret] = true
				o.secrets = append(o.secrets, *p.secret)
				holders = append(holders, p.secret.component)
			}
		}
	})
	slices.Sort(holders)
	return slices.Compact(holders)
}

// references calls each for the values that hold one.
func (o *optionsOf) references(each func(*template)) {
	var visit func(*yaml.Node)
	visit = func(n *yaml.Node) {
		if ref := o.tree.places[n.Line].ref; ref.refers() {
			each(ref)
		}
		for _, child := range n.Content {
			visit(child)
		}
	}
	visit(o.node)
}

// faulty tells whether something that is told of already keeps the options from being what was meant.
func (o *optionsOf) faulty() bool {
	var below func(*yaml.Node) bool
	below = func(n *yaml.Node) bool {
		return o.tree.places[n.Line].faulty || slices.ContainsFunc(n.Content, below)
	}
	return below(o.node)
}

// resolve is Component.Resolve.
func (o *optionsOf) resolve(secret func(component, key string) (string, error)) (any, error) {
	values := make(map[secretRef]string, len(o.secrets))
	var failed []error
	for _, ref := range o.secrets {
		value, err := secret(ref.component, ref.key)
		if err != nil {
			failed = append(failed, fmt.Errorf("%s: %w", ref, err))
		}
		values[ref] = value
	}
	if err := errors.Join(failed...); err != nil {
		return nil, err
	}
	node := clone(o.node)
	o.put(node, values)
	options, err := o.catalog.Decode(o.driver, func(into any) error {
		detach(into)
		if err := strictly(node, into); err != nil {
			return o.misfit(err)
		}
		return nil
	})
	if bad := (*misfit)(nil); err != nil && !errors.As(err, &bad) {
		err = fmt.Errorf("%w: %s", components.ErrInvalid, o.redact(err.Error(), values)) // it may quote a secret
	}
	return options, err
}

// put writes the secrets where they are referred to.
func (o *optionsOf) put(n *yaml.Node, secrets map[secretRef]string) {
	if ref := o.tree.places[n.Line].ref; ref != nil && n.Kind == yaml.ScalarNode {
		n.Value = ref.render(secrets)
	}
	for _, child := range n.Content {
		o.put(child, secrets)
	}
}

// misfit is a secret's value that its field does not take. The library's words for it would show it.
type misfit struct{ text string }

func (m *misfit) Error() string { return m.text }
func (m *misfit) Unwrap() error { return components.ErrInvalid }

func (o *optionsOf) misfit(err error) error {
	var one *yaml.LoadError
	if errors.As(err, &one) && one.Mark.Line >= 0 && one.Mark.Line < len(o.tree.places) {
		if ref := o.tree.places[one.Mark.Line].ref; ref != nil {
			return &misfit{fmt.Sprintf("%s: the value of %s does not fit", strings.Join(o.tree.path(one.Mark.Line)[3:], "."), clip(ref.raw))}
		}
	}
	return &misfit{"the value of a secret does not fit"}
}

// detach gives a copy of a driver's defaults maps and pointers of its own: decoding writes into those it finds.
func detach(into any) {
	var visit func(reflect.Value)
	visit = func(v reflect.Value) {
		switch v.Kind() {
		case reflect.Pointer:
			if !v.IsNil() && v.CanSet() {
				own := reflect.New(v.Type().Elem())
				own.Elem().Set(v.Elem())
				v.Set(own)
			}
			if !v.IsNil() {
				visit(v.Elem())
			}
		case reflect.Map:
			if !v.IsNil() && v.CanSet() {
				own := reflect.MakeMap(v.Type())
				for _, k := range v.MapKeys() {
					own.SetMapIndex(k, v.MapIndex(k))
				}
				v.Set(own)
			}
		case reflect.Struct:
			for i := range v.NumField() {
				visit(v.Field(i))
			}
		}
	}
	visit(reflect.ValueOf(into))
}

// values checks what the types of options say: no duration is negative, and a text with an enum tag is one of those.
func (l *loader) values(node *yaml.Node, options any) {
	visit(reflect.ValueOf(options), func(path []string, f field, v reflect.Value) {
		complaint := f.complaint(v)
		if complaint == "" {
			return
		}
		_, n := find(node, path...)
		if n == nil {
			return // the driver's default
		}
		if p := l.tree.places[n.Line]; !p.faulty && !p.ref.hasSecret() {
			l.fault(n.Line, "%s: %s %s%s", l.subject(n.Line), l.shown(n.Line), complaint, f.suggest(l.spelt(n.Line)))
		}
	})
}
