package main

import (
	"fmt"
	"io"
	"strings"
	"text/tabwriter"

	"github.com/outrigger-mesh/outrigger/components"
)

// driverDoc is what is told of a driver, from its code.
type driverDoc struct {
	Capability string              `json:"capability"`
	Driver     string              `json:"driver"`
	Guarantees string              `json:"guarantees,omitempty"`
	Options    []components.Option `json:"options"`
}

func componentsCommand(args []string, out, errs io.Writer) int {
	f := flagSet("components", errs)
	format := outputFlag(f, "json")
	name := ""
	if len(args) > 0 && !strings.HasPrefix(args[0], "-") { // NAME may come before the flags
		name, args = args[0], args[1:]
	}
	words := 0
	if name == "" {
		words = 1
	}
	if code, ends := parse(f, args, words); ends {
		return code
	}
	if name == "" {
		name = f.Arg(0)
	}
	docs := describe(name)
	if len(docs) == 0 {
		var have []string
		for _, d := range describe("") {
			have = append(have, d.Capability+"/"+d.Driver)
		}
		fmt.Fprintf(errs, "outrigger components: there is no capability or driver %q (have %s)\n", name, strings.Join(have, ", "))
		return exitFaults
	}
	if *format == "json" {
		return printJSON(out, docs)
	}
	for _, d := range docs {
		printDriver(out, d)
	}
	return exitOK
}

// describe finds the drivers of a capability, those of a driver's name, one written CAPABILITY/DRIVER, or all.
func describe(name string) []driverDoc {
	var all []driverDoc
	for _, c := range components.Catalogs() {
		for _, driver := range c.Drivers() {
			if name != "" && name != c.Capability() && name != driver && name != c.Capability()+"/"+driver {
				continue
			}
			options, _ := c.Defaults(driver)
			d := driverDoc{Capability: c.Capability(), Driver: driver, Options: components.Options(options)}
			if g, ok := options.(components.Describer); ok {
				d.Guarantees = g.Guarantees()
			}
			all = append(all, d)
		}
	}
	return all
}

func printDriver(out io.Writer, d driverDoc) {
	fmt.Fprintf(out, "%s: driver %s\n", d.Capability, d.Driver)
	for line := range strings.Lines(d.Guarantees) {
		fmt.Fprintf(out, "  %s\n", strings.TrimRight(line, "\n"))
	}
	t := tabwriter.NewWriter(out, 0, 8, 2, ' ', 0)
	for _, o := range d.Options {
		if o.Type == "secret" { // it has no default, and would be shown as if it had
			o.Default = ""
		}
		fmt.Fprintf(t, "  %s\t%s\t%s\t%s\n", o.Name, o.Type, o.Default, o.What)
	}
	t.Flush()
	fmt.Fprintln(out)
}
