package config

import "github.com/outrigger-mesh/outrigger/runtime/mesh"

// ParsePolicies reads policies of the mesh from a text that does not stand in the sidecar's file: the sections defaults, routes and migration as they
// are below mesh. A section that is missing, and what defaults leave out, is as in base. Nothing of this machine is read for it: references
// are faults. name stands where faults name a file; the error is Faults, all that is wrong.
func ParsePolicies(name string, text []byte, base mesh.Policies) (mesh.Policies, error) {
	l := &loader{source: &source{file: name, flags: map[string]string{}}, sealed: true}
	doc := l.parse(text)
	if doc == nil {
		return base, l.faults.err()
	}
	g := grower{loader: l}
	if l.tree.root = g.grow(doc, -1, ""); g.full || l.tree.root == nil {
		return base, l.faults.err()
	}
	p := base
	for section, unset := range map[string]func(){ // no list shares its memory with one of base
		"routes": func() { p.Routes = nil }, "migration": func() { p.Migration = nil }, "defaults.retry.on": func() { p.Defaults.Retry.On = nil },
	} {
		if l.written(section) {
			unset()
		}
	}
	l.decode(l.tree.root, &p)
	k := &check{loader: l}
	k.policies("", &p)
	k.values(p)
	if err := l.faults.err(); err != nil {
		return base, err
	}
	return p, nil
}
