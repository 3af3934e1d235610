package main

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// TestPanics: one of another project's that panics is no fault, and what it said is told; that it ends otherwise is one.
func TestPanics(t *testing.T) {
	dir := t.TempDir()
	p := &process{args: []string{"sh", "-c", "cd " + dir + "; echo begins; mkdir one 2> mkdir.err && { printf 'panic: no base\n\ngoroutine 1\n' >&2; exit 2; }; mkdir two 2> mkdir.err && exit 1; sleep 60"},
		bears: true, over: make(chan struct{}), log: filepath.Join(dir, "log")}
	go p.keep()
	err := eventually(10*time.Second, func() error {
		p.mu.Lock()
		defer p.mu.Unlock()
		if len(p.panics) != 1 || !strings.HasPrefix(p.panics[0], "panic: no base\n\ngoroutine 1") || len(p.strange) != 1 {
			return fmt.Errorf("%q, %q", p.panics, p.strange)
		}
		return nil
	})
	if err != nil {
		t.Error(err)
	}
	p.end()
}

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
