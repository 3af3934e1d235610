package main

import (
	"context"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"text/tabwriter"

	"github.com/outrigger-mesh/outrigger/runtime/telemetry/admin"
)

func statusCommand(args []string, out, errs io.Writer) int {
	f := flagSet("status", errs)
	where := placeFlags(f)
	var port *int
	portFlag(f, "admin-port", "admin port of the sidecar on this machine", &port)
	format := outputFlag(f, "json")
	if code, ends := parse(f, args, 0); ends {
		return code
	}
	ctx, cancel := context.WithTimeout(context.Background(), findTime)
	defer cancel()
	at, err := findAdmin(ctx, where, port)
	if err != nil {
		fmt.Fprintln(errs, "outrigger status:", err)
		return exitStart
	}
	var info admin.Info
	ready, err := at.ask(ctx, &info)
	if err != nil {
		fmt.Fprintln(errs, "outrigger status:", err)
		return exitStart
	}
	if *format == "json" {
		printJSON(out, info)
	} else {
		printInfo(out, info, ready)
	}
	if ready != "" {
		return exitFaults
	}
	return exitOK
}

func printInfo(out io.Writer, i admin.Info, notReady string) {
	state := "ready"
	if notReady != "" {
		state = notReady
	}
	fmt.Fprintf(out, "%s: %s\nversion %s, configuration %d", i.App, state, i.Version, i.Config.Generation)
	if i.Config.LastError != "" {
		fmt.Fprintf(out, "; the last reload failed: %s", i.Config.LastError)
	}
	fmt.Fprintf(out, "\naddress for others %s\n", i.Advertise)
	if i.TLS != "" {
		fmt.Fprintln(out, mutualTLS(i))
	}
	printPolicies(out, i.Policies)
	t := tabwriter.NewWriter(out, 0, 8, 2, ' ', 0)
	for _, name := range slices.Sorted(maps.Keys(i.Ports)) {
		fmt.Fprintf(t, "port\t%s\t%d\n", name, i.Ports[name])
	}
	for _, c := range i.Components {
		fmt.Fprintln(t, strings.TrimSuffix(strings.Join([]string{c.Capability, c.Name, c.Driver, c.State, c.Error}, "\t"), "\t"))
	}
	for _, o := range i.Offers {
		state := "announced"
		if !o.Announced {
			state = "not announced: " + o.Error
		}
		fmt.Fprintf(t, "offers\t%s\tport %d: %s\n", o.Name, o.Port, state)
	}
	for _, s := range i.Services {
		more := ""
		if s.Held > 0 {
			more = fmt.Sprintf(", held: %d (the registry has dropped them all at once)", s.Held)
		}
		if s.Stale {
			more += ", from the disk (the registry does not answer)"
		}
		fmt.Fprintf(t, "service\t%s\tinstances: %d%s\n", s.Name, s.Instances, more)
	}
	t.Flush()
}

func mutualTLS(i admin.Info) string {
	text := "mutual TLS " + i.TLS
	if i.Identity != "" {
		text += " " + i.Identity
	}
	if i.TLSError != "" {
		text += ": " + i.TLSError
	}
	return text
}

func printPolicies(out io.Writer, p admin.Policies) {
	if p.Source != "" {
		fmt.Fprintf(out, "policies of the mesh from %s, version %s", p.Source, p.Version)
		if p.Stale {
			fmt.Fprint(out, " (kept from before the start: it has not been asked since)")
		}
		fmt.Fprintln(out)
	}
	if p.Refused != "" {
		fmt.Fprintf(out, "newer policies of the mesh were refused:\n%s\n", p.Refused)
	}
	if p.Error != "" {
		fmt.Fprintf(out, "policies of the mesh cannot be followed: %s\n", p.Error)
	}
}
