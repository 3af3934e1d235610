// Command compose brings up services of integration/docker-compose.yml, waits until they are healthy, says what they are, runs a
// command that finds them in its environment (OUTRIGGER_REDIS=HOST:PORT and so on, as integration/servers names them), and takes
// them down. Without a command those are the conformance suites of the drivers. Where no container engine runs, root gets one of its own. With -stand-ins, images under the names that the file
// has are built from Debian's packages first, for machines that reach no image registry.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"maps"
	"net"
	"os"
	"os/exec"
	"os/signal"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/outrigger-mesh/outrigger/integration/harness"
)

const (
	file     = "integration/docker-compose.yml"
	healthy  = 2 * time.Minute // that a service has to become so
	password = "compose-outrigger"
)

// service is one that tests can use.
type service struct {
	port    string   // variable of the file that says where it is published
	version string   // a shell asks that in its container; the answer's last word is it
	tests   string   // of its drivers
	env     []string // how it is used, besides its address
}

var services = map[string]service{
	"redis": {"OUTRIGGER_REDIS_PORT", "redis-cli info server | grep ^redis_version: | tr -d '\\r' | tr : ' '", "TestConformance/^redis$", nil},
	"etcd":  {"OUTRIGGER_ETCD_PORT", "etcdctl endpoint status | cut -d, -f3", "TestConformance", nil},
	"postgres": {"OUTRIGGER_POSTGRES_PORT", "PGPASSWORD=" + password + " psql -h 127.0.0.1 -U postgres -Atc 'show server_version' | cut -d' ' -f1",
		"TestConformance", []string{"OUTRIGGER_POSTGRES_USER=postgres", "OUTRIGGER_POSTGRES_PASSWORD=" + password}},
}

func main() {
	standIns := flag.Bool("stand-ins", false, "build the images instead of pulling them")
	flag.Usage = func() {
		fmt.Fprintf(os.Stderr, "usage: compose [-stand-ins] SERVICE... [-- COMMAND...]\nservices: %s\n", strings.Join(slices.Sorted(maps.Keys(services)), ", "))
	}
	flag.Parse()
	names, command := flag.Args(), []string(nil)
	if at := slices.Index(names, "--"); at >= 0 {
		names, command = names[:at], names[at+1:]
	}
	if len(names) == 0 {
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
		if _, known := services[name]; !known {
			return 2, fmt.Errorf("unknown service %q (have %s)", name, strings.Join(slices.Sorted(maps.Keys(services)), ", "))
		}
	}
	if err := os.Chdir(harness.Root()); err != nil {
		return 1, err
	}
	e, err := findEngine(ctx)
	if err != nil {
		return 1, err
	}
	defer func() { err = errors.Join(err, e.close()) }()
	if standIns {
		if err := e.build(ctx, names); err != nil {
			return 1, err
		}
	}
	env, err := ports(names)
	if err != nil {
		return 1, err
	}
	e.env = append(e.env, env...)
	project := "outrigger" + strconv.Itoa(os.Getpid())
	compose := []string{"docker-compose", "-p", project, "-f", file}
	defer func() {
		down := context.WithoutCancel(ctx)
		err = errors.Join(err, e.do(down, append(compose[:len(compose):len(compose)], "down", "-v", "-t", "5")...))
	}()
	if err := e.do(ctx, append(append(compose[:len(compose):len(compose)], "up", "-d"), names...)...); err != nil {
		return 1, err
	}
	for _, name := range names {
		if err := e.await(ctx, compose, name); err != nil {
			return 1, err
		}
	}
	e.env = append(e.env, found(names, e.env)...)
	if len(command) > 0 {
		return e.command(ctx, command)
	}
	for _, name := range names {
		if code, err := e.conformance(ctx, name); code != 0 || err != nil {
			return code, err
		}
	}
	return 0, nil
}

// ports chooses where the services are published.
func ports(names []string) (env []string, err error) {
	env = []string{"OUTRIGGER_POSTGRES_PASSWORD=" + password}
	for _, name := range names {
		ln, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			return nil, err
		}
		defer ln.Close() // not before all are chosen
		env = append(env, fmt.Sprintf("%s=%d", services[name].port, ln.Addr().(*net.TCPAddr).Port))
	}
	return env, nil
}

// await waits until a service is healthy, and prints what it says it is.
func (e *engine) await(ctx context.Context, compose []string, name string) error {
	id, err := e.output(ctx, append(compose[:len(compose):len(compose)], "ps", "-q", name)...)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, healthy)
	defer cancel()
	for state := ""; state != "healthy"; {
		if state, err = e.output(ctx, "docker", "inspect", "-f", "{{.State.Health.Status}}", id); err != nil {
			return err
		}
		if state == "unhealthy" {
			log, _ := e.output(ctx, "docker", "logs", id)
			return fmt.Errorf("%s is not healthy:\n%s", name, log)
		}
		select {
		case <-time.After(200 * time.Millisecond):
		case <-ctx.Done():
			return fmt.Errorf("%s is %s after %s", name, state, healthy)
		}
	}
	pid, err := e.output(ctx, "docker", "inspect", "-f", "{{.State.Pid}}", id)
	if err != nil {
		return err
	}
	said, err := e.output(ctx, "docker", "exec", id, "sh", "-c", services[name].version)
	if err != nil {
		return err
	}
	words, number := strings.Fields(said), 0
	if _, err := fmt.Sscan(pid, &number); err != nil || len(words) == 0 {
		return fmt.Errorf("%s says %q, its process is %q", name, said, pid)
	}
	harness.Server(os.Stdout, name, words[len(words)-1], number)
	return nil
}

// found is where the services are, and how they are used.
func found(names, published []string) (env []string) {
	for _, name := range names {
		s := services[name]
		for _, v := range published {
			if at, ok := strings.CutPrefix(v, s.port+"="); ok {
				env = append(env, "OUTRIGGER_"+strings.ToUpper(name)+"=127.0.0.1:"+at)
			}
		}
		env = append(env, s.env...)
	}
	return env
}

// conformance runs the suites of all drivers of a service.
func (e *engine) conformance(ctx context.Context, name string) (code int, err error) {
	list, err := e.output(ctx, "go", "list", "./components/.../"+name)
	if err != nil {
		return 1, err
	}
	suite := []string{"env", "GOFLAGS=-tags=servers", "go", "run", "./integration/suite", "-only", services[name].tests}
	return e.command(ctx, append(suite, strings.Fields(list)...))
}

func (e *engine) command(ctx context.Context, command []string) (code int, err error) {
	cmd := exec.CommandContext(ctx, command[0], command[1:]...)
	cmd.Env, cmd.Stdout, cmd.Stderr = e.env, os.Stdout, os.Stderr
	err = cmd.Run()
	if exit := (*exec.ExitError)(nil); errors.As(err, &exit) {
		return max(exit.ExitCode(), 1), nil
	}
	return 0, err
}
