// Package conformance_test starts each real server and runs, with where it is in the environment, the tests of the drivers for it: those
// of the files with the build tag "servers".
package conformance_test

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/outrigger-mesh/outrigger/integration/harness"
	"github.com/outrigger-mesh/outrigger/integration/install"
	"github.com/outrigger-mesh/outrigger/integration/servers"
)

// backEnds are the servers that the tests of the drivers of one back end are told of.
var backEnds = map[string][]string{
	"redis":     {"redis", "redis-tls", "redis-sentinel", "redis-cluster", "redis-cluster-replicas"},
	"etcd":      {"etcd", "etcd-cluster"},
	"postgres":  {"postgres"},
	"kafka":     {"kafka", "kafka-cluster"},
	"nacos":     {"nacos"},
	"nats":      {"nats", "nats-cluster"},
	"rabbitmq":  {"rabbitmq", "rabbitmq-cluster"},
	"zookeeper": {"zookeeper"},
	"dtm":       {"dtm", "dtm-postgres"},
}

// inCompose are the tests of drivers that need no more than the service of the compose file: it has neither TLS nor users, and is no cluster.
var inCompose = map[string]string{"redis": "^TestConformance$/^redis$", "etcd": "^TestConformance$", "postgres": "^TestConformance$"}

func TestMain(m *testing.M) {
	if err := servers.Private(); err != nil { // some listen on all interfaces
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	os.Exit(m.Run())
}

// together is of how many back ends the drivers are tried beside each other: more would be compiled at a time than a small machine can.
const together = 3

// TestDrivers fails where a package of drivers is of no server that is known here, so that none is forgotten.
func TestDrivers(t *testing.T) {
	packages, err := tested(filepath.Join(harness.Root(), "components"))
	if err != nil {
		t.Fatal(err)
	}
	room := make(chan struct{}, together)
	for _, name := range slices.Sorted(maps.Keys(packages)) {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			room <- struct{}{}
			defer func() { <-room }()
			kinds, known := backEnds[name]
			if !known {
				t.Fatalf("no server is known for %s", packages[name])
			}
			if only, part := inCompose[name]; part && servers.IsComposed(name) {
				try(t, []string{name}, packages[name], "-run", only)
				return
			}
			try(t, kinds, packages[name])
		})
	}
}

// tested are the packages that have such tests, by back end: the driver's name, or that of its connection without "conn".
func tested(root string) (map[string][]string, error) {
	all := map[string][]string{}
	err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() || !strings.HasSuffix(path, "_test.go") {
			return err
		}
		text, err := os.ReadFile(path)
		if err != nil || !strings.HasPrefix(string(text), "//go:build servers") {
			return err
		}
		dir, err := filepath.Rel(filepath.Dir(root), filepath.Dir(path))
		name := strings.TrimSuffix(filepath.Base(dir), "conn")
		if pkg := "./" + filepath.ToSlash(dir); err == nil && !slices.Contains(all[name], pkg) {
			all[name] = append(all[name], pkg)
		}
		return err
	})
	return all, err
}

func try(t *testing.T, kinds, packages []string, flags ...string) {
	args := append(append([]string{"go", "test", "-tags", "servers", "-count=1", "-p=1", "-json"}, flags...), packages...)
	// What they are built from may have to be fetched, which the network that they run in does not let through.
	fetch := install.Command(t.Context(), harness.Root(), nil, append([]string{"go", "list", "-deps", "-test", "-tags", "servers"}, packages...)...)
	if out, err := fetch.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	cmd := exec.CommandContext(t.Context(), args[0], args[1:]...)
	cmd.Dir, cmd.Env = harness.Root(), os.Environ()
	for _, kind := range kinds {
		cmd.Env = append(cmd.Env, servers.Run(t, kind).Env()...)
	}
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := show(t, cmd); err != nil {
		t.Error(err)
	}
}

// show runs a go test -json, prints how each test that is none of another's ended, and all that one has printed that fails.
func show(t *testing.T, cmd *exec.Cmd) error {
	events, err := cmd.StdoutPipe()
	if err != nil {
		return err
	}
	cmd.Stderr = os.Stderr
	if err := cmd.Start(); err != nil {
		return err
	}
	ran, bad := map[string]int{}, []error{}
	said := map[string]*strings.Builder{}
	for lines := bufio.NewScanner(events); lines.Scan(); {
		var e struct {
			Action, Package, Test, Output string
			Elapsed                       float64
		}
		if json.Unmarshal(lines.Bytes(), &e) != nil {
			continue
		}
		test, _, within := strings.Cut(e.Test, "/")
		name := e.Package[strings.LastIndex(e.Package, "/components/")+1:] + " " + test
		switch e.Action {
		case "output":
			if said[name] == nil {
				said[name] = &strings.Builder{}
			}
			said[name].WriteString(e.Output)
		case "skip":
			if e.Test != "" {
				bad = append(bad, fmt.Errorf("%s was skipped", name))
			}
		case "pass", "fail":
			if within {
				continue
			}
			if e.Action == "fail" {
				bad = append(bad, fmt.Errorf("%s failed:\n%s", name, said[name]))
			}
			if e.Test != "" {
				ran[e.Package]++
				fmt.Printf("%s %s (%.1f s)\n", name, e.Action, e.Elapsed)
			}
		}
	}
	err = cmd.Wait()
	if len(bad) > 0 {
		err = nil // it says no more
	}
	if len(ran) == 0 {
		bad = append(bad, errors.New("no test ran"))
	}
	return errors.Join(append(bad, err)...)
}
