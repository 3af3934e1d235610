// Command cmd starts real servers by their names, prints what they say they are and where they are reached, and ends them at the
// end of its input or an interrupt. With a command after --, it runs that instead of waiting: it finds them in its environment.
package main

import (
	"context"
	"flag"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"strings"
	"syscall"

	"github.com/outrigger-mesh/outrigger/integration/servers"
)

func main() {
	install := flag.Bool("install", false, "install what they need, and start none")
	settings := list{}
	flag.Var(&settings, "set", "one more of the servers' own `settings`, as their configuration file has it; it may be given again")
	flag.Usage = usage
	flag.Parse()
	names, command := split(flag.Args())
	if len(names) == 0 {
		usage()
		os.Exit(2)
	}
	code, err := run(names, command, *install, settings)
	if err != nil {
		fmt.Fprintln(os.Stderr, "servers:", err)
		code = max(code, 1)
	}
	os.Exit(code)
}

// list is a flag that may be given more than once.
type list []string

func (l *list) String() string { return strings.Join(*l, " ") }

func (l *list) Set(one string) error {
	*l = append(*l, one)
	return nil
}

func usage() {
	fmt.Fprintln(os.Stderr, "usage: servers [-install] [-set SETTING]... NAME... [-- COMMAND...]")
	for _, k := range servers.Kinds() {
		fmt.Fprintf(os.Stderr, "  %-15s %s\n", k.Name, k.About)
	}
}

// split takes the arguments apart at --.
func split(args []string) (names, command []string) {
	for i, a := range args {
		if a == "--" {
			return args[:i], args[i+1:]
		}
	}
	return args, nil
}

func run(names, command []string, install bool, settings []string) (code int, err error) {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	wild := false
	for _, name := range names {
		k, err := servers.Find(name)
		if err != nil {
			return 2, err
		}
		wild = wild || k.Wild
	}
	if install {
		for _, name := range names {
			if err := servers.Install(ctx, name); err != nil {
				return 1, err
			}
		}
		return 0, nil
	}
	if wild {
		if err := servers.Private(); err != nil {
			return 1, err
		}
		fmt.Printf("in a network of their own: nsenter --net=/proc/%d/ns/net COMMAND reaches them\n", os.Getpid())
	}
	env := os.Environ()
	for _, name := range names {
		s, failed := servers.Start(ctx, name, servers.Options{Output: os.Stdout, Settings: settings})
		if failed != nil {
			return 1, failed
		}
		defer func() {
			if e := s.Close(); e != nil && err == nil {
				err = e
			}
		}()
		show(os.Stdout, s)
		env = append(env, s.Env()...)
	}
	if len(command) > 0 {
		return follow(command, env)
	}
	ended := make(chan struct{})
	go func() { io.Copy(io.Discard, os.Stdin); close(ended) }()
	fmt.Println("all are ready; they end with an interrupt (Ctrl-C), or when standard input ends")
	select {
	case <-ctx.Done():
	case <-ended:
	}
	return 0, nil
}

func show(out io.Writer, s *servers.Server) {
	for _, n := range s.Nodes {
		fmt.Fprintf(out, "  %s %s %s", s.Name, n.Name, n.Addr)
		for _, name := range n.PortNames() {
			fmt.Fprintf(out, " %s:%d", name, n.Ports[name])
		}
		fmt.Fprintln(out)
	}
	for _, line := range s.Env() {
		fmt.Fprintln(out, "  "+line)
	}
}

// follow runs the command and answers its exit code. An interrupt reaches it, too, and it decides when to end.
func follow(command, env []string) (int, error) {
	cmd := exec.Command(command[0], command[1:]...)
	cmd.Env, cmd.Stdin, cmd.Stdout, cmd.Stderr = env, os.Stdin, os.Stdout, os.Stderr
	err := cmd.Run()
	if cmd.ProcessState == nil {
		return 1, fmt.Errorf("%s: %w", strings.Join(command, " "), err)
	}
	return cmd.ProcessState.ExitCode(), nil
}
