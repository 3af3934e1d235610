package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"strconv"
	"strings"
	"sync"
	"syscall"

	"github.com/outrigger-mesh/outrigger/runtime"
	"github.com/outrigger-mesh/outrigger/runtime/config"
	"github.com/outrigger-mesh/outrigger/runtime/hint"
	"github.com/outrigger-mesh/outrigger/runtime/processors"
)

// flagSet makes a command's flags: faults are told once, and end the command with 2.
func flagSet(name string, errs io.Writer) *flag.FlagSet {
	f := flag.NewFlagSet("outrigger "+name, flag.ContinueOnError)
	f.SetOutput(errs)
	f.Usage = func() {} // parse says it
	return f
}

// helpOf tells what a command is for, and its flags.
func helpOf(f *flag.FlagSet) {
	fmt.Fprintf(f.Output(), "%s\n  %s\n", usageOf(f), commandOf(strings.Fields(f.Name())[1]).what)
	f.PrintDefaults()
}

func usageOf(f *flag.FlagSet) string {
	c := commandOf(strings.Fields(f.Name())[1])
	return strings.TrimSpace("usage: outrigger " + c.name + " " + c.usage)
}

// flagFault says what is wrong with a flag, and what to write instead.
func flagFault(f *flag.FlagSet, err error) string {
	what := err.Error()
	if name, ok := strings.CutPrefix(what, "flag provided but not defined: -"); ok {
		var names []string
		f.VisitAll(func(one *flag.Flag) { names = append(names, "-"+one.Name) })
		return fmt.Sprintf("unknown flag -%s%s", name, hint.For("-"+name, names))
	}
	if told, ok := strings.CutSuffix(what, ": parse error"); ok { // a duration
		return told + ": write it with a unit, as 30s or 500ms"
	}
	return what
}

const anyWords = -1

// parse reads a command's arguments, flags first and then at most so many words; when they are faulty, or ask for help, the
// command ends with code.
func parse(f *flag.FlagSet, args []string, words int) (code int, ends bool) {
	errs := f.Output()
	f.SetOutput(io.Discard)
	err := f.Parse(args)
	f.SetOutput(errs)
	switch {
	case errors.Is(err, flag.ErrHelp):
		helpOf(f)
		return exitOK, true
	case err != nil:
		fmt.Fprintf(errs, "%s: %s\n%s -h tells the flags\n", f.Name(), flagFault(f, err), f.Name())
		return exitStart, true
	case words != anyWords && f.NArg() > words:
		fmt.Fprintf(errs, "%s: unexpected argument %q; %s\n", f.Name(), f.Arg(words), usageOf(f))
		return exitStart, true
	}
	return exitOK, false
}

// portFlag is a flag that knows whether it was given.
func portFlag(f *flag.FlagSet, name, what string, into **int) {
	f.Func(name, what, func(text string) error {
		n, err := strconv.Atoi(text)
		if err != nil || n < 0 || n > 65535 {
			return errors.New("a port is a number from 0 to 65535")
		}
		*into = &n
		return nil
	})
}

func overrideFlags(f *flag.FlagSet) *config.Overrides {
	o := &config.Overrides{}
	f.StringVar(&o.AppID, "app-id", "", "the application's name")
	portFlag(f, "app-port", "port where the application listens on this machine", &o.AppPort)
	f.StringVar(&o.AppProtocol, "app-protocol", "", "what the application speaks on its port: http, grpc, bolt, dubbo or tcp")
	f.StringVar(&o.DataDir, "data-dir", "", "folder of the sidecar's state")
	portFlag(f, "grpc-port", "port of the gRPC API; 0 picks one", &o.GRPCPort)
	portFlag(f, "http-port", "port of the HTTP/JSON API; 0 picks one", &o.HTTPPort)
	portFlag(f, "admin-port", "port of probes, metrics and info; 0 picks one", &o.AdminPort)
	portFlag(f, "inbound-port", "port for calls from other sidecars; 0 picks one", &o.InboundPort)
	portFlag(f, "outbound-port", "port for the application's calls in its own protocol; 0 picks one", &o.OutboundPort)
	return o
}

func runCommand(args []string, out, errs io.Writer) int {
	f := flagSet("run", errs)
	path := f.String("config", "", "configuration file; without one the embedded defaults")
	overrides := overrideFlags(f)
	replace := f.Bool("replace", false, "take over from the sidecar of this application that runs, without anybody noticing")
	if code, ends := parse(f, args, anyWords); ends {
		return code
	}
	if *replace && f.NArg() > 0 {
		fmt.Fprintln(errs, "outrigger run: -replace does not go with a command: an application stays the child of the sidecar that started it")
		return exitStart
	}
	if n := f.NArg(); n > 0 && (n == len(args) || args[len(args)-n-1] != "--") {
		fmt.Fprintf(errs, "outrigger run: unexpected argument %q: a command to run goes behind --\n", f.Arg(0))
		return exitStart
	}
	load := func() (*config.Config, error) { return config.Load(*path, *overrides, config.Environment{}) }
	c, err := load()
	if err != nil {
		fmt.Fprintln(errs, err)
		return exitStart
	}
	signals := make(chan os.Signal, 8)
	signal.Notify(signals, syscall.SIGTERM, syscall.SIGINT, syscall.SIGHUP)
	if f.NArg() > 0 { // the application's; of a terminal's keys it hears nothing, in a process group of its own
		signal.Notify(signals, syscall.SIGUSR1, syscall.SIGUSR2, syscall.SIGWINCH, syscall.SIGQUIT, syscall.SIGTSTP, syscall.SIGCONT)
	}
	defer signal.Stop(signals)
	ctx, end := context.WithCancel(context.Background())
	var tended sync.WaitGroup
	tended.Go(func() { processors.Tend(ctx) })
	defer tended.Wait()
	defer end()
	err = runtime.Run(context.Background(), runtime.Options{Config: c, Load: load, Signals: signals, Version: version(), Command: f.Args(), Out: out, Replace: *replace})
	return exitCode(err, errs)
}

// Exit codes, the same for each command.
const (
	exitOK     = 0
	exitFaults = 1 // faults were found, or a check or a call failed
	exitStart  = 2 // it could not start, or was called wrongly
)

// exitCode is the application's if that is all there is to say.
func exitCode(err error, errs io.Writer) int {
	if err == nil {
		return exitOK
	}
	if only, ok := err.(*runtime.ChildExit); ok {
		return only.Code
	}
	fmt.Fprintln(errs, "outrigger:", err)
	var child *runtime.ChildExit
	switch {
	case errors.Is(err, runtime.ErrStart): // however the application ended for that
		return exitStart
	case errors.As(err, &child) && child.Code != 0:
		return child.Code
	}
	return exitFaults
}
