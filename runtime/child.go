package runtime

import (
	"context"
	"errors"
	"fmt"
	"io"
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
	exit  *ChildExit // once ended is closed
	err   error      // then what went wrong besides
}

// startChild runs the command with env added to the sidecar's own. It has a process group of its own, so that a terminal's
// Ctrl-C reaches the sidecar first, which drains before it passes the signal on.
func startChild(command, env []string) (*child, error) {
	c := &child{cmd: exec.Command(command[0], command[1:]...), ended: make(chan struct{})}
	c.cmd.Env = append(os.Environ(), env...)
	c.cmd.Stdout, c.cmd.Stderr = os.Stdout, os.Stderr
	c.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if err := c.start(); err != nil {
		return nil, fmt.Errorf("the application cannot be started: %w", err)
	}
	go func() {
		c.exit, c.err = exitOf(c.cmd.Wait())
		close(c.ended)
	}()
	return c, nil
}

// start hands the sidecar's input on. A terminal it reads itself and passes on what comes: the kernel stops a process of another
// group than the terminal's own that reads from it.
func (c *child) start() error {
	if info, err := os.Stdin.Stat(); err != nil || info.Mode()&os.ModeCharDevice == 0 {
		c.cmd.Stdin = os.Stdin
		return c.cmd.Start()
	}
	in, err := c.cmd.StdinPipe()
	if err != nil {
		return err
	}
	if err := c.cmd.Start(); err != nil {
		return err
	}
	go func() { // as long as the process: a read of a terminal cannot be broken off
		io.Copy(in, os.Stdin)
		in.Close()
	}()
	return nil
}

func exitOf(err error) (*ChildExit, error) {
	var exit *exec.ExitError
	if !errors.As(err, &exit) {
		return &ChildExit{}, err
	}
	if s, ok := exit.Sys().(syscall.WaitStatus); ok && s.Signaled() {
		return &ChildExit{128 + int(s.Signal())}, nil
	}
	return &ChildExit{exit.ExitCode()}, nil
}

func (c *child) hasEnded() bool {
	select {
	case <-c.ended:
		return true
	default:
		return false
	}
}

// stop passes sig on, waits, and ends the application by force when ctx does.
func (c *child) stop(ctx context.Context, sig syscall.Signal) error {
	if c.hasEnded() {
		return c.err
	}
	c.signal(sig)
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

func (s *sidecar) startChild(context.Context) error {
	if len(s.opts.Command) == 0 {
		return nil
	}
	s.starting.Lock() // a signal that comes as soon as the process is there finds it
	defer s.starting.Unlock()
	c, err := startChild(s.opts.Command, []string{
		"OUTRIGGER_GRPC_ADDR=" + s.sockets.grpc.Addr().String(),
		"OUTRIGGER_HTTP_ADDR=" + s.sockets.http.Addr().String(),
		"OUTRIGGER_OUTBOUND_ADDR=" + s.sockets.outbound.Addr().String(),
		"OUTRIGGER_SOCKET=" + socketOf(s.sockets.unix),
		"OUTRIGGER_APP_ID=" + s.app.App,
		"OUTRIGGER_APP_NAMESPACE=" + s.app.Namespace,
		"OUTRIGGER_DATA_DIR=" + s.dataDir,
	})
	if err != nil {
		return err
	}
	s.child.Store(c)
	go func() {
		<-c.ended
		s.childDone <- nil // its end is the sidecar's, and no failure of it
	}()
	return nil
}

// childGone is closed when the application that the sidecar started has ended; without one it never is.
func (s *sidecar) childGone() <-chan struct{} {
	if c := s.child.Load(); c != nil {
		return c.ended
	}
	return nil
}

func (s *sidecar) childEnded() bool {
	c := s.child.Load()
	return c != nil && c.hasEnded()
}

// withChildExit adds to what went wrong how the application ended.
func (s *sidecar) withChildExit(err error) error {
	if !s.childEnded() {
		return err
	}
	exit := s.child.Load().exit
	if err == nil {
		return exit
	}
	return errors.Join(err, exit)
}
