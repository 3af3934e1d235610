package integration

import (
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/outrigger-mesh/outrigger/integration/harness"
)

// TestSocketsOfSystemd stops and starts sidecars whose sockets somebody else holds: no connection is refused in between.
func TestSocketsOfSystemd(t *testing.T) {
	config := "registry: {default: {driver: file, options: {dir: " + t.TempDir() + "}}}\ndrain: {propagation: 100ms, quiet: 100ms, max: 2s}\n"
	startInstanceWith(t, "echo", "one", config)
	dir := t.TempDir()
	o := harness.Options{App: "caller", DataDir: dir, Config: config, Passed: map[string]*os.File{}}
	addresses := map[string]string{}
	for _, name := range []string{"outbound", "grpc", "socket"} {
		network, address := "tcp", "127.0.0.1:0"
		if name == "socket" {
			network, address = "unix", filepath.Join(dir, "run", "default", "caller.sock")
			if err := os.MkdirAll(filepath.Dir(address), 0o700); err != nil {
				t.Fatal(err)
			}
		}
		ln, err := net.Listen(network, address)
		if err != nil {
			t.Fatal(err)
		}
		defer ln.Close()
		addresses[name] = ln.Addr().String()
		f, err := ln.(interface{ File() (*os.File, error) }).File()
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		o.Passed[name] = f
	}
	s := harness.Start(t, o)
	if s.Outbound != addresses["outbound"] || s.GRPC != addresses["grpc"] {
		t.Fatalf("it listens on %s and %s, it was passed %v", s.Outbound, s.GRPC, addresses)
	}
	(&pair{client: s.Client()}).published(t, "echo", 1)
	for range 2 {
		if code := s.Stop(); code != 0 {
			t.Errorf("exit code %d\n%s", code, s.Output())
		}
		called := make(chan error, 2)
		go func() { called <- dialCaller(t, addresses["outbound"]).call() }()
		nc, err := net.Dial("unix", addresses["socket"])
		if err != nil {
			t.Fatal(err)
		}
		nc.Close()
		s = harness.Start(t, o)
		if err := <-called; err != nil {
			t.Error(err)
		}
	}
	o.Passed = map[string]*os.File{"grpcc": o.Passed["grpc"]}
	o.App = "other"
	if _, err := harness.TryStart(t, o); err == nil || !strings.Contains(err.Error(), "FileDescriptorName=") || !strings.Contains(err.Error(), "exit status 2") {
		t.Error(err)
	}
}
