package main

import (
	"context"
	"debug/buildinfo"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/outrigger-mesh/outrigger/integration/install"
)

// daprdModule is a module of its own, so that what daprd is made of is no part of ours.
const daprdModule = "integration/bench/dapr"

// daprdBinary is daprd in the cache folder, made anew when its module or Go has changed.
func daprdBinary() (string, error) {
	stamp := runtime.Version()
	for _, name := range []string{"go.mod", "go.sum", "main.go"} {
		text, err := os.ReadFile(filepath.Join(daprdModule, name))
		if err != nil {
			return "", err
		}
		stamp += string(text)
	}
	dir, err := install.Made("daprd", stamp, func(dir string) error {
		fmt.Println("building daprd, which takes some minutes the first time")
		return install.Step(context.Background(), daprdModule, []string{"CGO_ENABLED=0"}, "go", "build", "-trimpath", "-ldflags", "-s -w",
			"-o", filepath.Join(dir, "daprd"), ".")
	})
	return filepath.Join(dir, "daprd"), err
}

type daprd struct {
	*process
	grpc string
}

const (
	daprdComponent = `{"apiVersion": "dapr.io/v1alpha1", "kind": "Component", "metadata": {"name": "` + daprComponent + `"},
  "spec": {"type": "pubsub.in-memory", "version": "v1"}}
`
	// Of its ways to find other applications, one that asks nobody before it is used: the default sends multicasts.
	daprdConfig = `{"apiVersion": "dapr.io/v1alpha1", "kind": "Configuration", "metadata": {"name": "bench"},
  "spec": {"nameResolution": {"component": "kubernetes", "version": "v1"}}}
`
)

// startDaprd starts daprd by itself: no placement, no scheduler, no application port, no metrics, and only
// warnings in its log.
func startDaprd(o options) (*daprd, error) {
	binary, err := daprdBinary()
	if err != nil {
		return nil, err
	}
	info, err := buildinfo.ReadFile(binary)
	if err != nil {
		return nil, err
	}
	for _, m := range info.Deps {
		if strings.HasPrefix(m.Path, "github.com/dapr/") {
			fmt.Printf("daprd is made of %s %s\n", m.Path, m.Version)
		}
	}
	resources, config := filepath.Join(o.dir, "daprd"), filepath.Join(o.dir, "daprd.yaml")
	if err := os.MkdirAll(resources, 0o700); err != nil {
		return nil, err
	}
	if err := os.WriteFile(filepath.Join(resources, "bus.yaml"), []byte(daprdComponent), 0o600); err != nil {
		return nil, err
	}
	if err := os.WriteFile(config, []byte(daprdConfig), 0o600); err != nil {
		return nil, err
	}
	args := []string{"--app-id", "bench", "--resources-path", resources, "--config", config, "--log-level", "warn",
		"--dapr-listen-addresses", "127.0.0.1", "--dapr-internal-grpc-listen-address", "127.0.0.1", "--enable-metrics=false"}
	ports := map[string]string{}
	for _, flag := range []string{"--dapr-grpc-port", "--dapr-http-port", "--dapr-internal-grpc-port"} {
		port, _, err := free()
		if err != nil {
			return nil, err
		}
		ports[flag] = strconv.Itoa(port)
		args = append(args, flag, ports[flag])
	}
	cmd := exec.Command(binary, args...)
	cmd.Env = append(os.Environ(), "DAPR_HOST_IP=127.0.0.1")
	cmd.Stdout, cmd.Stderr = os.Stderr, os.Stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	d := &daprd{process: &process{cmd}, grpc: net.JoinHostPort("127.0.0.1", ports["--dapr-grpc-port"])}
	if err := outboundReady("http://127.0.0.1:" + ports["--dapr-http-port"] + "/v1.0/healthz/outbound"); err != nil {
		d.end()
		return nil, err
	}
	return d, nil
}

func outboundReady(url string) error {
	for began := time.Now(); time.Since(began) < 30*time.Second; time.Sleep(50 * time.Millisecond) {
		res, err := http.Get(url)
		if err != nil {
			continue
		}
		res.Body.Close()
		if res.StatusCode < 300 {
			return nil
		}
	}
	return errors.New("it does not become ready")
}
