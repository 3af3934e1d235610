package main

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// process is one that the demo started. It writes to a file, so that whoever outlives it can still write.
type process struct {
	name  string
	cmd   *exec.Cmd
	log   string        // the file
	ended chan struct{} // closed when it has
}

// start runs a program with env as its whole environment. It gets a process group of its own: Ctrl-C in the terminal reaches
// the demo alone, which ends all others itself.
func start(name, log string, env []string, program string, args ...string) (*process, error) {
	out, err := os.Create(log)
	if err != nil {
		return nil, err
	}
	defer out.Close() // the process has its own by then
	p := &process{name: name, cmd: exec.Command(program, args...), log: log, ended: make(chan struct{})}
	p.cmd.Env, p.cmd.Stdout, p.cmd.Stderr = env, out, out
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if err := p.cmd.Start(); err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	go func() {
		defer close(p.ended)
		_ = p.cmd.Wait() // how it ended is in ProcessState
	}()
	return p, nil
}

// running tells whether it has not ended.
func (p *process) running() bool {
	select {
	case <-p.ended:
		return false
	default:
		return true
	}
}

// exit says how it ended: "0", another code, or the signal that ended it.
func (p *process) exit() string {
	if p.running() {
		return "still running"
	}
	if s, ok := p.cmd.ProcessState.Sys().(syscall.WaitStatus); ok && s.Signaled() {
		return s.Signal().String()
	}
	return strconv.Itoa(p.cmd.ProcessState.ExitCode())
}

// signal is heard only by a process that has not been waited for: no other can have its number.
func (p *process) signal(s syscall.Signal) {
	if p.running() {
		_ = p.cmd.Process.Signal(s) // it fails for one that has ended meanwhile
	}
}

// stop asks it to end, waits, and ends it by force when it takes too long.
func (p *process) stop(ctx context.Context, limit time.Duration) {
	p.signal(syscall.SIGTERM)
	late := time.NewTimer(limit)
	defer late.Stop()
	select {
	case <-p.ended:
	case <-late.C:
		p.kill()
	case <-ctx.Done():
		p.kill()
	}
}

var childLine = regexp.MustCompile(`(?m)^\w+: serving on .*, pid (\d+)$`)

// kill ends it at once, and the application beside it, which is an orphan then.
func (p *process) kill() {
	if !p.running() {
		return
	}
	child := childLine.FindStringSubmatch(p.output())
	p.signal(syscall.SIGKILL)
	<-p.ended
	if child != nil {
		if pid, err := strconv.Atoi(child[1]); err == nil && pid != p.cmd.Process.Pid {
			_ = syscall.Kill(pid, syscall.SIGKILL) // it fails if the orphan has ended by itself
		}
	}
}

// output is what it has written so far.
func (p *process) output() string {
	text, err := os.ReadFile(p.log)
	if err != nil {
		return err.Error()
	}
	return string(text)
}

// line waits for a whole line of its output with the words in it.
func (p *process) line(ctx context.Context, words string) (string, error) {
	for {
		ended := !p.running()
		text := p.output()
		for l := range strings.Lines(text) {
			if strings.Contains(l, words) && strings.HasSuffix(l, "\n") {
				return strings.TrimSpace(l), nil
			}
		}
		if ended {
			return "", fmt.Errorf("%s ended (%s) before it said %q; it said:\n%s", p.name, p.exit(), words, tail(text))
		}
		if err := pause(ctx); err != nil {
			return "", fmt.Errorf("%s did not say %q; it said:\n%s", p.name, words, tail(text))
		}
	}
}

// tail is the last lines of a text.
func tail(text string) string {
	lines := bytes.Split(bytes.TrimSpace([]byte(text)), []byte("\n"))
	return string(bytes.Join(lines[max(len(lines)-8, 0):], []byte("\n")))
}

// pause waits a moment between two looks at something.
func pause(ctx context.Context) error {
	select {
	case <-time.After(20 * time.Millisecond):
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
