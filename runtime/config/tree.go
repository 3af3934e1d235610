package config

import (
	"slices"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v4"
)

// Bounds of a file. What aliases expand to counts.
const (
	maxBytes  = 1 << 20
	maxValues = 100_000
	maxDepth  = 64
	maxName   = 256
)

// tree is a parsed file that the library can decode: aliases are expanded and references replaced. Each node's Line is
// not that of the file but its number in places, so that an error of the library names its node exactly: positions
// alone would not, since a map begins where its first key does and an alias is what its anchor is.
type tree struct {
	root   *yaml.Node
	places []place
}

// place is where a node stands in the file.
type place struct {
	node         *yaml.Node
	parent       int    // the place of the map or list that it is in; -1: it is the root
	name         string // its key, or its index in a list
	line, column int
	ref          *template // what the value is written as, when that is not the value itself
	faulty       bool      // told of already: nothing that follows from it is worth a word
}

// path names a place: app.services.0.name.
func (t *tree) path(at int) []string {
	var path []string
	for p := t.places[at]; p.parent >= 0; p = t.places[p.parent] {
		path = append(path, p.name)
	}
	slices.Reverse(path)
	return path
}

// find looks for the key and the value at a path below n. What is not written is nil.
func find(n *yaml.Node, path ...string) (key, value *yaml.Node) {
	value = n
	for _, name := range path {
		n, key, value = value, nil, nil
		if n.Kind == yaml.SequenceNode {
			if i, err := strconv.Atoi(name); err == nil && i >= 0 && i < len(n.Content) {
				value = n.Content[i]
			}
		} else {
			for k, v := range pairs(n) {
				if k.Value == name {
					key, value = k, v
				}
			}
		}
		if value == nil {
			break
		}
	}
	return key, value
}

// pairs are the keys and values of a map, in the order of the file.
func pairs(n *yaml.Node) func(yield func(key, value *yaml.Node) bool) {
	return func(yield func(key, value *yaml.Node) bool) {
		for i := 0; i+1 < len(n.Content) && n.Kind == yaml.MappingNode; i += 2 {
			if !yield(n.Content[i], n.Content[i+1]) {
				return
			}
		}
	}
}

// grower makes the tree of a parsed file.
type grower struct {
	*loader
	inside []*yaml.Node // the nodes of the file that are being copied, outermost first
	full   bool         // something was left out: the tree is of no use
}

// grow copies a node of the file, with everything below it. An answer of nil is a fault that was noted.
func (g *grower) grow(n *yaml.Node, parent int, name string) *yaml.Node {
	for ; n.Kind == yaml.AliasNode; n = n.Alias {
		if slices.Contains(g.inside, n.Alias) {
			g.full = true
			g.faultAt(n.Line, n.Column, "the anchor %q is used inside of itself", clip(n.Value))
		}
	}
	if !g.fits(n) {
		return nil
	}
	c := g.plant(n, parent, name)
	g.inside = append(g.inside, n)
	defer func() { g.inside = g.inside[:len(g.inside)-1] }()
	switch n.Kind {
	case yaml.MappingNode:
		g.growMap(n, c)
	case yaml.SequenceNode:
		for i, item := range n.Content {
			if child := g.grow(item, c.Line, strconv.Itoa(i)); child != nil {
				c.Content = append(c.Content, child)
			}
		}
	case yaml.ScalarNode:
		return g.growScalar(c)
	}
	return c
}

// fits refuses what would grow without end or beyond the bounds.
func (g *grower) fits(n *yaml.Node) bool {
	switch {
	case g.full:
	case len(g.tree.places) >= maxValues:
		g.full = true
		g.faultAt(n.Line, n.Column, "the file holds more than %d values, with its aliases expanded", maxValues)
	case len(g.inside) >= maxDepth:
		g.full = true
		g.faultAt(n.Line, n.Column, "values are nested more than %d deep, with aliases expanded", maxDepth)
	default:
		return true
	}
	return false
}

// plant adds a bare copy of n.
func (g *grower) plant(n *yaml.Node, parent int, name string) *yaml.Node {
	c := &yaml.Node{Kind: n.Kind, Style: n.Style &^ yaml.TaggedStyle, Tag: n.ShortTag(), Value: n.Value, Line: len(g.tree.places), Column: 1}
	g.tree.places = append(g.tree.places, place{node: c, parent: parent, name: name, line: n.Line, column: n.Column})
	if n.Style&yaml.TaggedStyle != 0 {
		g.fault(c.Line, "the tag %s is not supported: write the value without it", clip(n.ShortTag()))
		c.Tag = map[yaml.Kind]string{yaml.MappingNode: "!!map", yaml.SequenceNode: "!!seq", yaml.ScalarNode: "!!str"}[n.Kind]
	}
	return c
}

func (g *grower) growMap(n, c *yaml.Node) {
	first := map[string]int{}
	for i := 0; i+1 < len(n.Content) && !g.full; i += 2 {
		key := n.Content[i]
		for key.Kind == yaml.AliasNode {
			key = key.Alias
		}
		if key.Kind != yaml.ScalarNode || key.Value == "" || len(key.Value) > maxName {
			g.faultAt(key.Line, key.Column, "a name of 1 to %d letters is expected before the colon", maxName)
			continue
		}
		merge := key.ShortTag() == "!!merge"
		k := g.plant(key, c.Line, key.Value)
		k.Tag = "!!str"
		if merge {
			g.tree.places[c.Line].faulty = true
			g.fault(k.Line, "merge keys (<<) are not supported: give a whole value an anchor and write *anchor where it is used again")
			continue
		}
		if line, twice := first[key.Value]; twice {
			g.fault(k.Line, "%s is written twice (first in line %d)", g.subject(k.Line), line)
			continue
		}
		first[key.Value] = key.Line
		if value := g.grow(n.Content[i+1], c.Line, key.Value); value != nil {
			c.Content = append(c.Content, k, value)
		}
	}
}

func (g *grower) growScalar(c *yaml.Node) *yaml.Node {
	switch {
	case c.Tag == "!!merge":
		c.Tag = "!!str" // << as a value is a text
	case c.Tag == "!!null" && g.tree.places[c.Line].parent < 0:
		return c // an empty file, which is told of in its own words
	case c.Tag == "!!null":
		g.fault(c.Line, "%s has no value: leave the line out to have the default", g.subject(c.Line))
		g.tree.places[g.tree.places[c.Line].parent].faulty = true
		return nil
	case strings.Contains(c.Value, "$"):
		g.refer(c)
	}
	return c
}

// clone copies a part of the tree, so that a component can put its secrets in.
func clone(n *yaml.Node) *yaml.Node {
	c := *n
	c.Content = make([]*yaml.Node, len(n.Content))
	for i, child := range n.Content {
		c.Content[i] = clone(child)
	}
	return &c
}
