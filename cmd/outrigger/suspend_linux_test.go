package main

import (
	"fmt"
	"os"
	"strings"
	"syscall"
	"testing"
)

// stopped tells whether a process is, by proc(5).
func stopped(pid string) (bool, error) {
	text, err := os.ReadFile("/proc/" + pid + "/stat")
	if err != nil {
		return false, err
	}
	_, rest, ok := strings.Cut(string(text), ") ")
	if !ok {
		return false, fmt.Errorf("%q is no stat", text)
	}
	return rest[0] == 'T', nil
}

// A terminal's Ctrl-Z stops the sidecar and the application beside it; both go on together. The application waits without a process of its
// own: one that is stopped before it is another program would keep its parent, which waits for that, from being stopped.
func TestSuspend(t *testing.T) {
	s, file := beside(t, `trap 'exit 4' TERM; echo $$ > "$0.new"; mv "$0.new" "$0"; read -r end`)
	pid, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	both := func(want bool) {
		t.Helper()
		eventually(t, func() error {
			for _, p := range []string{fmt.Sprint(s.Process.Pid), strings.TrimSpace(string(pid))} {
				if is, err := stopped(p); err != nil || is != want {
					return fmt.Errorf("process %s: stopped %t, %v", p, is, err)
				}
			}
			return nil
		})
	}
	s.Process.Signal(syscall.SIGTSTP)
	both(true)
	s.Process.Signal(syscall.SIGCONT)
	both(false)
	s.Process.Signal(syscall.SIGTERM)
	exitsWith(t, s, 4)
}
