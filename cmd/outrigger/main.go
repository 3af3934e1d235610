// Command outrigger is the sidecar and the tools around it.
package main

import (
	"fmt"
	"io"
	"os"
	"slices"
	"strings"

	_ "github.com/outrigger-mesh/outrigger/components/all"
	"github.com/outrigger-mesh/outrigger/runtime/hint"
)

func main() { os.Exit(dispatch(os.Args[1:], os.Stdout, os.Stderr)) }

func dispatch(args []string, out, errs io.Writer) int {
	help := []string{"help", "-h", "-help", "--help"}
	if len(args) == 0 || slices.Contains(help, args[0]) {
		if len(args) < 2 || args[0] != "help" || slices.Contains(help, args[1]) {
			usage(out)
			return exitOK
		}
		args = []string{args[1], "-h"}
	}
	if args[0] == "--version" || args[0] == "-version" {
		args[0] = "version"
	}
	if c := commandOf(args[0]); c.run != nil {
		return c.run(args[1:], out, errs)
	}
	names := []string{}
	for _, c := range commands() {
		names = append(names, c.name)
	}
	fmt.Fprintf(errs, "outrigger: unknown command %q%s; outrigger -h tells what each does\n", args[0], hint.For(args[0], names))
	return exitStart
}

// commandOf is the command of a name; without a run if there is none.
func commandOf(name string) command {
	for _, c := range commands() {
		if c.name == name {
			return c
		}
	}
	return command{}
}

func usage(out io.Writer) {
	fmt.Fprintln(out, "outrigger: a sidecar that does an application's middleware and its service mesh")
	for _, c := range commands() {
		fmt.Fprintf(out, "  outrigger %s\n      %s\n", strings.TrimSpace(fmt.Sprintf("%-10s %s", c.name, c.usage)), c.what)
	}
	fmt.Fprintln(out, "outrigger COMMAND -h tells its flags.")
	fmt.Fprintln(out, "Exit codes: 0 all is well; 1 faults were found or a check failed; 2 it could not start; run with CMD ends with CMD's.")
}
