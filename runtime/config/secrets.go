package config

import (
	"slices"
	"strings"

	"github.com/outrigger-mesh/outrigger/runtime/hint"
)

// The capabilities that the sidecar uses itself: ${secret:component/key}, mesh.registry and mesh.policies_from refer to them.
const (
	secretCapability   = "secret"
	registryCapability = "registry"
	configCapability   = "config"
)

// orderSecrets answers the secret components so that each comes after those that it needs itself, and finds references
// that lead nowhere or in a circle.
func (l *loader) orderSecrets(all []Component) []string {
	o := secretOrder{loader: l, needs: map[string][]string{}, state: map[string]visitState{}}
	var names []string
	for _, c := range all {
		if c.Capability == secretCapability {
			names = append(names, c.Name)
			o.needs[c.Name] = c.Secrets
		}
	}
	for _, c := range all {
		if len(c.Secrets) > 0 {
			c.options.references(func(t *template) { o.known(t, names) })
		}
	}
	for _, name := range names {
		o.visit(name)
	}
	return o.order
}

type visitState int

const (
	visiting visitState = iota + 1
	visited
)

// secretOrder is a walk along what secret components need.
type secretOrder struct {
	*loader
	needs map[string][]string
	state map[string]visitState
	path  []string // being visited
	order []string
}

// known holds that a template refers to secret components that there are.
func (o *secretOrder) known(t *template, names []string) {
	for _, p := range t.parts {
		if p.secret == nil {
			continue
		}
		if _, ok := o.needs[p.secret.component]; !ok {
			o.fault(t.at, "%s: unknown secret component %q%s", o.subject(t.at), clip(p.secret.component), hint.For(p.secret.component, names))
		}
	}
}

func (o *secretOrder) visit(name string) {
	if _, known := o.needs[name]; !known || o.state[name] == visited {
		return
	}
	if o.state[name] == visiting {
		key, _ := find(o.tree.root, secretCapability, name)
		circle := append(slices.Clone(o.path[slices.Index(o.path, name):]), name)
		o.fault(key.Line, "%s: circle of references: %s", o.subject(key.Line), strings.Join(circle, " -> "))
		return
	}
	o.state[name] = visiting
	o.path = append(o.path, name)
	for _, need := range o.needs[name] {
		o.visit(need)
	}
	o.path = o.path[:len(o.path)-1]
	o.state[name] = visited
	o.order = append(o.order, name)
}
