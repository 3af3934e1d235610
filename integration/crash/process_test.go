package main

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"
)

// TestKill: a kill counts only if that is what the process ended by, also where it has just ended and nobody has looked yet.
func TestKill(t *testing.T) {
	if (&process{}).kill() {
		t.Error("what was never started was killed")
	}
	ended := &process{args: []string{"sh", "-c", "exit 3"}}
	_ = ended.once(os.Stderr)
	if ended.kill() {
		t.Error("what had ended was killed")
	}

	unseen := &process{cmd: exec.Command("sh", "-c", "exit 3"), dies: make(chan struct{})}
	if err := unseen.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	if err := eventually(10*time.Second, func() error {
		text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", unseen.pid()))
		if err == nil && !strings.Contains(string(text), ") Z ") {
			err = errors.New("it has not ended")
		}
		return err
	}); err != nil {
		t.Fatal(err)
	}
	time.AfterFunc(50*time.Millisecond, func() { _ = unseen.cmd.Wait(); close(unseen.dies) })
	if unseen.kill() {
		t.Error("what had ended, and nobody had looked, was killed")
	}

	sleeps := &process{args: []string{"sleep", "60"}}
	over := make(chan error, 1)
	go func() { over <- sleeps.once(os.Stderr) }()
	if err := eventually(10*time.Second, func() error {
		if sleeps.pid() == 0 {
			return errors.New("it was not started")
		}
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	if !sleeps.kill() {
		t.Error("what runs was not killed")
	}
	if <-over; sleeps.kill() {
		t.Error("what was killed was killed again")
	}
}
