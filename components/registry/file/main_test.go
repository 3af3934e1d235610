package file_test

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/exec"
	"testing"
	"time"

	"github.com/outrigger-mesh/outrigger/components"
	"github.com/outrigger-mesh/outrigger/components/registry"
	"github.com/outrigger-mesh/outrigger/components/registry/file"

	"go.uber.org/goleak"
)

// What makes this test binary a sidecar: the folder and the address to register, and whether to start a process of its own.
const (
	childDir     = "OUTRIGGER_REGISTRY_TEST_DIR"
	childAddress = "OUTRIGGER_REGISTRY_TEST_ADDRESS"
	childForks   = "OUTRIGGER_REGISTRY_TEST_FORKS"
)

func TestMain(m *testing.M) {
	if dir := os.Getenv(childDir); dir != "" {
		if err := sidecar(dir, os.Getenv(childAddress), os.Getenv(childForks) != ""); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		return
	}
	goleak.VerifyTestMain(m)
}

// sidecar registers, says so, and waits until its standard input ends.
func sidecar(dir, address string, forks bool) error {
	env := components.Env{Logger: slog.New(slog.NewTextHandler(os.Stderr, nil))}
	d, err := file.Open(context.Background(), env, file.Options{Dir: dir, Check: 20 * time.Millisecond})
	if err != nil {
		return err
	}
	if err := d.Register(context.Background(), registry.Record{Service: stock, Address: address, Weight: 100}); err != nil {
		return err
	}
	pid := 0
	if forks {
		cmd := exec.Command("sleep", "60")
		if err := cmd.Start(); err != nil {
			return err
		}
		pid = cmd.Process.Pid
	}
	fmt.Println("registered", pid)
	_, err = io.Copy(io.Discard, os.Stdin)
	return err
}
