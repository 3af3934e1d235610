package config

import (
	"slices"
	"strings"
)

// The two capabilities that the sidecar uses itself: ${secret:component/key} refers to the one, mesh.registry to the other.
const (
	secretCapability   = "secret"
	registryCapability = "registry"
)

// orderSecrets answers the secret components so that each comes after those that it needs itself, and finds references
// that lead nowhere or in a circle.
func (l *loader) orderSecrets(all []Component) []string {
	var names []string
	needs := map[string][]string{}
	for _, c := range all {
		if c.Capability == secretCapability {
			names = append(names, c.Name)
			needs[c.Name] = c.Secrets
		}
	}
	for _, c := range all {
		for _, need := range c.Secrets {
			if !slices.Contains(names, need) {
				l.unknownSecret(c, need, names)
			}
		}
	}
	o := secretOrder{loader: l, needs: needs, done: map[string]bool{}}
	for _, name := range names {
		o.visit(name)
	}
	return o.order
}

func (l *loader) unknownSecret(c Component, name string, names []string) {
	c.options.references(func(t *template) {
		for _, p := range t.parts {
			if p.secret != nil && p.secret.component == name {
				at := slices.IndexFunc(l.tree.places, func(p place) bool { return p.ref == t })
				l.fault(at, "%s: unknown secret component %q%s", l.subject(at), clip(name), suggest(name, names))
			}
		}
	})
}

type secretOrder struct {
	*loader
	needs map[string][]string
	done  map[string]bool
	path  []string
	order []string
}

func (o *secretOrder) visit(name string) {
	if i := slices.Index(o.path, name); i >= 0 {
		key, _ := find(o.tree.root, secretCapability, name)
		circle := append(slices.Clone(o.path[i:]), name)
		o.fault(key.Line, "%s: circle of references: %s", o.subject(key.Line), strings.Join(circle, " -> "))
		return
	}
	if _, known := o.needs[name]; o.done[name] || !known {
		return
	}
	o.path = append(o.path, name)
	for _, need := range o.needs[name] {
		o.visit(need)
	}
	o.path = o.path[:len(o.path)-1]
	o.done[name] = true
	o.order = append(o.order, name)
}
