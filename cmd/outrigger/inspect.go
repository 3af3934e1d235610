package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"runtime/debug"
	"strings"
	"time"

	"github.com/outrigger-mesh/outrigger/components"
	"github.com/outrigger-mesh/outrigger/runtime"
	"github.com/outrigger-mesh/outrigger/runtime/config"
)

func checkCommand(args []string, out, errs io.Writer) int {
	f := flagSet("check", errs)
	path := f.String("config", "", "configuration file")
	dial := f.Bool("dial", false, "also open each component (DNS, TCP, TLS, sign-in and permission), look at the files of mesh.tls, and write to the data folder and the access log")
	format := outputFlag(f, "yaml")
	overrides := overrideFlags(f)
	if code, ends := parse(f, args, 0); ends {
		return code
	}
	switch {
	case *path == "":
		fmt.Fprintln(errs, "outrigger check: give the file with -config")
		return exitStart
	case *dial && *format == "yaml":
		fmt.Fprintln(errs, "outrigger check: give -dial or -o yaml, not both")
		return exitStart
	}
	c, err := config.Load(*path, *overrides, config.Environment{})
	if err != nil {
		fmt.Fprintln(out, err)
		return exitFaults
	}
	switch {
	case *dial:
		return dialAll(c, out, errs)
	case *format == "yaml":
		return printConfig(c, out, errs)
	}
	fmt.Fprintf(out, "%s: ok: %d components\n", *path, len(c.Components))
	return exitOK
}

// printConfig shows what the sidecar would run with.
func printConfig(c *config.Config, out, errs io.Writer) int {
	text, err := config.Dump(c)
	if err == nil {
		_, err = out.Write(text)
	}
	if err != nil {
		fmt.Fprintln(errs, "outrigger check:", err)
		return exitFaults
	}
	return exitOK
}

const dialTime = 30 * time.Second

// dialAll prints a line for each place that is written to, for the files of mesh.tls and for each component, in the order of the configuration.
func dialAll(c *config.Config, out, errs io.Writer) int {
	code := exitOK
	for _, place := range runtime.Writable(c) {
		if place.Err != nil {
			fmt.Fprintln(out, c.Fault(place.Setting, place.Err))
			code = exitFaults
			continue
		}
		fmt.Fprintf(out, "%s: %s (%s): ok\n", c.SourcePath, place.Setting, place.Path)
	}
	ctx, cancel := context.WithTimeout(context.Background(), dialTime)
	defer cancel()
	results, err := runtime.Dial(ctx, c)
	switch {
	case err != nil && code != exitOK:
		return code // it has been told
	case err != nil:
		fmt.Fprintln(errs, "outrigger check:", err)
		return exitStart
	}
	faults := runtime.CheckTLS(c)
	for _, fault := range faults {
		fmt.Fprintln(out, fault)
		code = exitFaults
	}
	if len(faults) == 0 && c.Mesh.TLS.On() {
		fmt.Fprintf(out, "%s: mesh.tls (%s): ok\n", c.SourcePath, c.Mesh.TLS.Certificate)
	}
	for _, comp := range c.Components {
		if err := results[comp.ID]; err != nil {
			fmt.Fprintf(out, "%s: %s %q (%s): %v\n", comp.Position, comp.Capability, comp.Name, comp.Driver, err)
			code = exitFaults
			continue
		}
		fmt.Fprintf(out, "%s: %s %q (%s): ok\n", comp.Position, comp.Capability, comp.Name, comp.Driver)
	}
	return code
}

func schemaCommand(args []string, out, errs io.Writer) int {
	if code, ends := parse(flagSet("schema", errs), args, 0); ends {
		return code
	}
	text, err := config.Schema(components.Catalogs())
	if err != nil {
		fmt.Fprintln(errs, "outrigger schema:", err)
		return exitStart
	}
	fmt.Fprintln(out, string(text))
	return exitOK
}

// outputFlag is -o, on commands whose answer a program may read: as text or in another format.
func outputFlag(f *flag.FlagSet, other string) *string {
	format := "text"
	f.Func("o", "text or "+other+" (default text)", func(text string) error {
		if text != "text" && text != other {
			return errors.New("there are text and " + other)
		}
		format = text
		return nil
	})
	return &format
}

func versionCommand(args []string, out, errs io.Writer) int {
	f := flagSet("version", errs)
	format := outputFlag(f, "json")
	if code, ends := parse(f, args, 0); ends {
		return code
	}
	if *format == "json" {
		return printJSON(out, map[string]string{"version": version()})
	}
	fmt.Fprintln(out, "outrigger", version())
	return exitOK
}

// version is the module's, or the commit it was built from.
func version() string {
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return "unknown"
	}
	if v := info.Main.Version; v != "" && v != "(devel)" {
		return strings.TrimPrefix(v, "v")
	}
	for _, s := range info.Settings {
		if s.Key == "vcs.revision" {
			return "devel-" + s.Value[:min(len(s.Value), 12)]
		}
	}
	return "devel"
}

func printJSON(out io.Writer, v any) int {
	e := json.NewEncoder(out)
	e.SetIndent("", "  ")
	if err := e.Encode(v); err != nil {
		return exitFaults
	}
	return exitOK
}
