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
	"syscall"

	"github.com/outrigger-mesh/outrigger/runtime"
	"github.com/outrigger-mesh/outrigger/runtime/config"
)

// flagSet makes a command's flags: faults are told once, and end the command with 2.
func flagSet(name string, errs io.Writer) *flag.FlagSet {
	f := flag.NewFlagSet("outrigger "+name, flag.ContinueOnError)
	f.SetOutput(errs)
	return f
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
	portFlag(f, "app-port", "where the application listens on this machine", &o.AppPort)
	f.StringVar(&o.AppProtocol, "app-protocol", "", "what the application speaks on its port: http or grpc")
	f.StringVar(&o.DataDir, "data-dir", "", "folder of the sidecar's state")
	portFlag(f, "grpc-port", "of the gRPC API; 0 picks one", &o.GRPCPort)
	portFlag(f, "http-port", "of the HTTP/JSON API; 0 picks one", &o.HTTPPort)
	portFlag(f, "admin-port", "of probes, metrics and info; 0 picks one", &o.AdminPort)
	portFlag(f, "inbound-port", "for calls from other sidecars; 0 picks one", &o.InboundPort)
	portFlag(f, "outbound-port", "for the application's calls in its own protocol; 0 picks one", &o.OutboundPort)
	return o
}

func runCommand(args []string, out, errs io.Writer) int {
	f := flagSet("run", errs)
	path := f.String("config", "", "configuration file; without one the embedded defaults")
	overrides := overrideFlags(f)
	if err := f.Parse(args); errors.Is(err, flag.ErrHelp) {
		return exitOK
	} else if err != nil {
		return exitStart
	}
	load := func() (*config.Config, error) { return config.Load(*path, *overrides, config.Environment{}) }
	c, err := load()
	if err != nil {
		fmt.Fprintln(errs, err)
		return exitStart
	}
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, syscall.SIGINT)
	defer stop()
	reload := make(chan os.Signal, 1)
	signal.Notify(reload, syscall.SIGHUP)
	err = runtime.Run(ctx, runtime.Options{Config: c, Load: load, Reload: reload, Version: version(), Command: f.Args(), Out: out})
	var child *runtime.ChildExit
	switch {
	case err == nil:
		return exitOK
	case errors.As(err, &child):
		if err.Error() != child.Error() { // more went wrong than its end
			fmt.Fprintln(errs, "outrigger:", err)
		}
		return child.Code
	}
	fmt.Fprintln(errs, "outrigger:", err)
	if errors.Is(err, runtime.ErrStart) {
		return exitStart
	}
	return exitFaults
}
