package main

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// beside runs a sidecar in a process of its own, and a shell script beside it that makes the file $0 once it is up, and ends with it. What the
// script reads comes to its end with the test.
func beside(t *testing.T, script string) (sidecar *exec.Cmd, file string) {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	file = filepath.Join(dir, "up")
	args := []string{"run", "-app-id", "beside", "-data-dir", dir, "-grpc-port", "0", "-http-port", "0", "-admin-port", "0", "-inbound-port", "0", "-outbound-port", "0"}
	sidecar = exec.Command(self, append(args, "--", "sh", "-c", script, file)...)
	sidecar.Env = append(os.Environ(), asCommand+"=1")
	input, err := sidecar.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := sidecar.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		input.Close()
		for range 2 { // the second one ends it at once
			sidecar.Process.Signal(syscall.SIGTERM)
		}
		sidecar.Process.Signal(syscall.SIGCONT)
		sidecar.Wait()
	})
	eventually(t, func() error { _, err := os.Stat(file); return err })
	return sidecar, file
}

func eventually(t *testing.T, ask func() error) {
	t.Helper()
	for late := time.Now().Add(30 * time.Second); ; time.Sleep(5 * time.Millisecond) {
		err := ask()
		if err == nil {
			return
		}
		if time.Now().After(late) {
			t.Fatal(err)
		}
	}
}

func exitsWith(t *testing.T, cmd *exec.Cmd, code int) {
	t.Helper()
	var exit *exec.ExitError
	if err := cmd.Wait(); !errors.As(err, &exit) || exit.ExitCode() != code {
		t.Errorf("ended with %v, want code %d", err, code)
	}
}

// A terminal's Ctrl-\ is the application's to answer: the sidecar passes it on, and ends if the application does.
func TestQuitIsPassedOn(t *testing.T) {
	s, _ := beside(t, `trap 'exit 9' QUIT; : > "$0"; while [ -e "$0" ]; do sleep 0.01; done`)
	s.Process.Signal(syscall.SIGQUIT)
	exitsWith(t, s, 9)

	s, file := beside(t, `trap 'echo told >> "$0"' QUIT; trap 'exit 4' TERM; : > "$0"; while [ -e "$0" ]; do sleep 0.01; done`)
	s.Process.Signal(syscall.SIGQUIT)
	eventually(t, func() error {
		if text, err := os.ReadFile(file); err != nil || !strings.Contains(string(text), "told") {
			return fmt.Errorf("the application has written %q, %v", text, err)
		}
		return nil
	})
	s.Process.Signal(syscall.SIGTERM)
	exitsWith(t, s, 4)
}
