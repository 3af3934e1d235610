package main

import (
	"fmt"
	"io/fs"
	"regexp"
	"strings"

	shopfiles "github.com/outrigger-mesh/outrigger/examples/shop/configs"
)

// drivers are what components become, by capability, and the variables of the environment that say where their servers are.
type drivers struct {
	of        map[string]string
	variables []string
}

var variable = regexp.MustCompile(`\$\{env:(OUTRIGGER_\w+)\}`)

// driversOn reads one of the files in configs/on; the empty name is what is embedded.
func driversOn(name string) (drivers, error) {
	d := drivers{of: map[string]string{}}
	if name == "" {
		return d, nil
	}
	text, err := shopfiles.FS.ReadFile("on/" + name + ".yaml")
	if err != nil {
		all, _ := fs.Glob(shopfiles.FS, "on/*.yaml")
		return d, fmt.Errorf("-on: there is no %q; there are %s", name, strings.ReplaceAll(strings.ReplaceAll(strings.Join(all, " "), "on/", ""), ".yaml", ""))
	}
	for line := range strings.Lines(string(text)) {
		if capability, value, ok := strings.Cut(strings.TrimSpace(line), ": "); ok && !strings.HasPrefix(line, "#") {
			d.of[capability] = value
		}
	}
	for _, found := range variable.FindAllStringSubmatch(string(text), -1) {
		d.variables = append(d.variables, found[1])
	}
	return d, nil
}

var component = regexp.MustCompile(`^(  [a-z]+: )\{.*\}( *#.*)?$`)

// in is a configuration of the shop with these drivers. What the till keeps is its own wherever the rest of the shop runs; settings that
// are no files are changed there.
func (d drivers) in(name, text string) string {
	if name == "till.yaml" {
		if settings := d.of["config"]; settings != "" {
			text += "config:\n  settings: " + settings + "\n"
		}
		d.of = map[string]string{"registry": d.of["registry"]}
	}
	lines, capability := strings.Split(text, "\n"), ""
	for i, line := range lines {
		if head, ok := strings.CutSuffix(line, ":"); ok {
			capability = head
		}
		if value := d.of[capability]; value != "" {
			lines[i] = component.ReplaceAllString(line, "${1}"+strings.ReplaceAll(value, "$", "$$"))
		}
	}
	return strings.Join(lines, "\n")
}
