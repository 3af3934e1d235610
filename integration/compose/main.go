// Command compose runs a command, such as the suites, in whose tests the servers of integration/docker-compose.yml are started by
// docker-compose: see integration/servers. Where no container engine runs, root gets one of its own. With -stand-ins, images under the names
// that the file has are built from Debian's packages first, for machines that reach no image registry.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"slices"
	"strings"
	"syscall"

	"github.com/outrigger-mesh/outrigger/integration/harness"
	"github.com/outrigger-mesh/outrigger/integration/servers"
)

func main() {
	standIns := flag.Bool("stand-ins", false, "build the images instead of pulling them")
	flag.Usage = func() {
		fmt.Fprintf(os.Stderr, "usage: compose [-stand-ins] SERVICE... -- COMMAND...\nservices: %s\n", strings.Join(servers.Services(), ", "))
	}
	flag.Parse()
	names, command := flag.Args(), []string(nil)
	if at := slices.Index(names, "--"); at >= 0 {
		names, command = names[:at], names[at+1:]
	}
	if len(names) == 0 || len(command) == 0 {
		flag.Usage()
		os.Exit(2)
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	code, err := run(ctx, names, command, *standIns)
	if err != nil {
		fmt.Fprintln(os.Stderr, "compose:", err)
		code = max(code, 1)
	}
	os.Exit(code)
}

func run(ctx context.Context, names, command []string, standIns bool) (code int, err error) {
	for _, name := range names {
		if !slices.Contains(servers.Services(), name) {
			return 2, fmt.Errorf("unknown service %q (have %s)", name, strings.Join(servers.Services(), ", "))
		}
	}
	if err := os.Chdir(harness.Root()); err != nil {
		return 1, err
	}
	e, err := findEngine(ctx)
	if err != nil {
		return 1, fmt.Errorf("%w\nmake integration NATIVE=1 needs no container engine", err)
	}
	defer func() { err = errors.Join(err, e.close()) }()
	if standIns {
		if err := e.build(ctx, names); err != nil {
			return 1, err
		}
	}
	return e.command(ctx, command, servers.Composed+"="+strings.Join(names, " "), servers.Projects+"="+projects())
}

func (e *engine) command(ctx context.Context, command []string, more ...string) (code int, err error) {
	cmd := exec.CommandContext(ctx, command[0], command[1:]...)
	cmd.Env, cmd.Stdout, cmd.Stderr = append(e.env, more...), os.Stdout, os.Stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGINT) } // and all that it has started
	err = cmd.Run()
	if exit := (*exec.ExitError)(nil); errors.As(err, &exit) {
		return max(exit.ExitCode(), 1), nil
	}
	return 0, err
}
