package config

import (
	"fmt"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v4"
)

// Dump writes the effective configuration as YAML that Load would take: every setting and option with its default filled
// in, secrets masked, and each value that comes from a reference as that reference.
func Dump(c *Config) ([]byte, error) {
	root, err := c.settings()
	if err != nil {
		return nil, err
	}
	c.restoreSettings(root)
	var section *yaml.Node
	for _, component := range c.Components {
		if section == nil || last(root).Value != component.Capability {
			section = &yaml.Node{Kind: yaml.MappingNode}
			root.Content = append(root.Content, scalar(component.Capability), section)
		}
		body, err := component.dump()
		if err != nil {
			return nil, fmt.Errorf("%s %q: %w", component.Capability, component.Name, err)
		}
		section.Content = append(section.Content, scalar(component.Name), body)
	}
	return yaml.Dump(root)
}

// last is the last key of a map.
func last(n *yaml.Node) *yaml.Node {
	if len(n.Content) < 2 {
		return &yaml.Node{}
	}
	return n.Content[len(n.Content)-2]
}

// settings is everything but the components, as a map.
func (c *Config) settings() (*yaml.Node, error) {
	var n yaml.Node
	if err := n.Dump(*c); err != nil {
		return nil, fmt.Errorf("write the settings: %w", err)
	}
	return &n, nil
}

func (c Component) dump() (*yaml.Node, error) {
	var options, body yaml.Node
	if err := options.Dump(c.options.value); err != nil {
		return nil, fmt.Errorf("write the options: %w", err)
	}
	escape(&options)
	restore(c.options.tree, &options, c.options.node)
	if err := body.Dump(written{Driver: c.Driver, Required: c.Required, Limits: limits(c.Limits), Options: options}); err != nil {
		return nil, fmt.Errorf("write the component: %w", err)
	}
	return &body, nil
}

// restoreSettings is restore for all but what a flag has overwritten.
func (c *Config) restoreSettings(root *yaml.Node) {
	given := map[*yaml.Node]yaml.Node{}
	for path := range c.source.flags {
		if _, n := find(root, strings.Split(path, ".")...); n != nil {
			given[n] = *n
		}
	}
	escape(root)
	restore(&c.source.tree, root, c.source.tree.root)
	for n, value := range given {
		*n = value
	}
	inherit(root, c.source.tree.root)
}

// inherit shows what a service has from its application as the application's setting is shown: that may be a reference.
func inherit(root, from *yaml.Node) {
	_, services := find(root, "app", "services")
	for i := range services.Content {
		for _, name := range []string{"port", "protocol"} {
			_, own := find(from, "app", "services", strconv.Itoa(i), name)
			_, shown := find(services.Content[i], name)
			if _, of := find(root, "app", name); own == nil || own.Value == "" || own.Value == "0" {
				*shown = *of
			}
		}
	}
}

// escape keeps the texts below n from being read as references.
func escape(n *yaml.Node) {
	if n.Kind == yaml.ScalarNode {
		n.Value = strings.ReplaceAll(n.Value, "${", "$${")
	}
	for _, v := range pairs(n) {
		escape(v)
	}
	if n.Kind == yaml.SequenceNode {
		for _, item := range n.Content {
			escape(item)
		}
	}
}

func scalar(text string) *yaml.Node {
	return &yaml.Node{Kind: yaml.ScalarNode, Tag: "!!str", Value: text}
}

// restore replaces the values of into whose counterparts in from have references by those references.
func restore(t *tree, into, from *yaml.Node) {
	if ref := t.places[from.Line].ref; ref.refers() {
		*into = *scalar(ref.raw)
		return
	}
	for k, v := range pairs(from) {
		if _, same := find(into, k.Value); same != nil {
			restore(t, same, v)
		}
	}
	if from.Kind == yaml.SequenceNode && into.Kind == yaml.SequenceNode {
		for i := range min(len(from.Content), len(into.Content)) {
			restore(t, into.Content[i], from.Content[i])
		}
	}
}
