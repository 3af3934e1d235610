package runtime

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"syscall"
)

// ChildExit is how the application ended that the sidecar had started; Code is its exit code, 128 and the signal if one
// ended it.
type ChildExit struct {
	Code int
}

func (e *ChildExit) Error() string { return fmt.Sprintf("the application ended with code %d", e.Code) }

// child is the application as a process of the sidecar's.
type child struct {
	cmd   *exec.Cmd
	ended chan struct{}
	err   error // once ended is closed
}

// startChild runs the command with env added to the sidecar's own. It has a process group of its own, so that a terminal's
// Ctrl-C reaches the sidecar first, which drains before it passes the signal on.
func startChild(command, env []string) (*child, error) {
	c := &child{cmd: exec.Command(command[0], command[1:]...), ended: make(chan struct{})}
	c.cmd.Env = append(os.Environ(), env...)
	c.cmd.Stdin, c.cmd.Stdout, c.cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	c.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if err := c.cmd.Start(); err != nil {
		return nil, fmt.Errorf("the application cannot be started: %w", err)
	}
	go func() {
		c.err = exitOf(c.cmd.Wait())
		close(c.ended)
	}()
	return c, nil
}

func exitOf(err error) error {
	var exit *exec.ExitError
	if !errors.As(err, &exit) {
		return errors.Join(&ChildExit{}, err)
	}
	if s, ok := exit.Sys().(syscall.WaitStatus); ok && s.Signaled() {
		return &ChildExit{128 + int(s.Signal())}
	}
	return &ChildExit{exit.ExitCode()}
}

// stop asks the application to end, waits, and ends it by force when ctx does. One that has ended already has been reported.
func (c *child) stop(ctx context.Context) error {
	select {
	case <-c.ended:
		return nil
	default:
	}
	c.signal(syscall.SIGTERM)
	select {
	case <-c.ended:
		return c.err
	case <-ctx.Done():
	}
	c.signal(syscall.SIGKILL)
	<-c.ended
	return errors.Join(c.err, errors.New("the application did not end in time and was killed"))
}

// signal reaches all processes of the application's group.
func (c *child) signal(s syscall.Signal) { syscall.Kill(-c.cmd.Process.Pid, s) }
