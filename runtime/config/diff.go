package config

import (
	"maps"
	"reflect"
	"slices"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v4"

	"github.com/outrigger-mesh/outrigger/components"
)

// Changes are what a reload has to do, sorted.
type Changes struct {
	// Changed are components whose driver, limits or options as they are written differ. One that is not listed may still
	// need another driver: when a secret that it refers to has another value, which its Resolve tells.
	Added, Removed, Changed []components.ID
	// Settings are those that changed and can be applied while the sidecar runs, such as telemetry.log.level.
	Settings []string
}

// Diff compares a configuration with the one that runs. live names the settings that the caller applies while it runs, or
// whole sections of them. Each other setting that changed is a fault, at its position in the new file: it needs a restart.
func Diff(running, next *Config, live ...string) (Changes, error) {
	var c Changes
	c.components(running, next)
	paths, err := changedSettings(running, next)
	if err != nil {
		return c, err
	}
	var faults Faults
	for _, path := range paths {
		if slices.ContainsFunc(live, func(l string) bool { return path == l || strings.HasPrefix(path, l+".") }) {
			c.Settings = append(c.Settings, path)
			continue
		}
		faults = append(faults, next.source.settingFault(path, "this change needs a restart"))
	}
	return c, faults.err()
}

func (c *Changes) components(running, next *Config) {
	key := func(id components.ID) string { return id.Capability + "/" + id.Name }
	old := map[string]Component{}
	for _, component := range running.Components {
		old[key(component.ID)] = component
	}
	for _, component := range next.Components {
		before, known := old[key(component.ID)]
		delete(old, key(component.ID))
		switch {
		case !known:
			c.Added = append(c.Added, component.ID)
		case !before.same(component):
			c.Changed = append(c.Changed, component.ID)
		}
	}
	for _, name := range slices.Sorted(maps.Keys(old)) {
		c.Removed = append(c.Removed, old[name].ID)
	}
}

// same compares what is known without asking for secrets.
func (c Component) same(other Component) bool {
	return c.ID == other.ID && c.Required == other.Required && c.Limits == other.Limits && c.SameOptions(other)
}

// SameOptions tells whether two components have the same driver and options as they are written, without asking for secrets.
func (c Component) SameOptions(other Component) bool {
	if c.options == nil || other.options == nil { // not from a file
		return c.Driver == other.Driver && c.options == other.options
	}
	return c.Driver == other.Driver && reflect.DeepEqual(c.options.value, other.options.value)
}

// changedSettings are the paths of the settings that differ; a list counts as one setting.
func changedSettings(running, next *Config) ([]string, error) {
	a, err := running.settings()
	if err != nil {
		return nil, err
	}
	b, err := next.settings()
	if err != nil {
		return nil, err
	}
	before, after, changed := map[string]string{}, map[string]string{}, map[string]bool{}
	leaves(a, nil, before)
	leaves(b, nil, after)
	for path, value := range after {
		if old, known := before[path]; !known || old != value {
			changed[listOf(path)] = true
		}
	}
	for path := range before {
		if _, still := after[path]; !still {
			changed[listOf(path)] = true
		}
	}
	return slices.Sorted(maps.Keys(changed)), nil
}

// listOf cuts a path off at the index of its first list.
func listOf(path string) string {
	names := strings.Split(path, ".")
	for i, name := range names {
		if _, err := strconv.Atoi(name); err == nil {
			return strings.Join(names[:i], ".")
		}
	}
	return path
}

// leaves collects the single values below n.
func leaves(n *yaml.Node, path []string, into map[string]string) {
	switch n.Kind {
	case yaml.MappingNode:
		for k, v := range pairs(n) {
			leaves(v, append(slices.Clip(path), k.Value), into)
		}
	case yaml.SequenceNode:
		for i, item := range n.Content {
			leaves(item, append(slices.Clip(path), strconv.Itoa(i)), into)
		}
	default:
		into[strings.Join(path, ".")] = n.Value
	}
}
