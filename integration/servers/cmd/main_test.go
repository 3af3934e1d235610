package main

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/outrigger-mesh/outrigger/integration/harness"
)

// TestMain is the command itself, when a test has started it as that.
func TestMain(m *testing.M) {
	if os.Getenv("SERVERS_COMMAND") != "" {
		main()
		return
	}
	os.Exit(m.Run())
}

// command runs this program in a temporary folder of its own, in which PostgreSQL's user can walk.
func command(t *testing.T, args ...string) (cmd *exec.Cmd, tmp string) {
	t.Helper()
	tmp, err := os.MkdirTemp("", "servers-cmd-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(tmp) })
	if err := os.Chmod(tmp, 0o755); err != nil {
		t.Fatal(err)
	}
	cmd = exec.Command(os.Args[0], args...)
	cmd.Env = append(os.Environ(), "SERVERS_COMMAND=1", "TMPDIR="+tmp)
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	return cmd, tmp
}

// started waits until it says that all are ready, and answers their addresses. What goes on holds its input open.
func started(t *testing.T, cmd *exec.Cmd) (addrs []string, input io.Closer) {
	t.Helper()
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	cmd.Stderr = os.Stderr
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { cmd.Process.Kill(); cmd.Wait() })
	address := regexp.MustCompile(`^  \S+ \S+ (127\.0\.0\.1:\d+)`)
	for lines := bufio.NewScanner(out); lines.Scan(); {
		fmt.Println(lines.Text())
		if m := address.FindStringSubmatch(lines.Text()); m != nil {
			addrs = append(addrs, m[1])
		}
		if strings.HasPrefix(lines.Text(), "all are ready") {
			return addrs, in
		}
	}
	t.Fatal("it ended before all were ready")
	return nil, nil
}

func answers(addr string) error {
	c, err := net.DialTimeout("tcp", addr, time.Second)
	if err != nil {
		return err
	}
	return c.Close()
}

func folders(t *testing.T, tmp string) []string {
	t.Helper()
	all, err := filepath.Glob(filepath.Join(tmp, "outrigger-servers-*"))
	if err != nil {
		t.Fatal(err)
	}
	return all
}

func down(t *testing.T, addrs []string) {
	t.Helper()
	for _, a := range addrs {
		if answers(a) == nil {
			t.Errorf("%s is left", a)
		}
	}
}

func TestEnds(t *testing.T) {
	for name, end := range map[string]func(*exec.Cmd, io.Closer){
		"at the end of input": func(_ *exec.Cmd, in io.Closer) { in.Close() },
		"at an interrupt":     func(cmd *exec.Cmd, _ io.Closer) { cmd.Process.Signal(os.Interrupt) },
	} {
		t.Run(name, func(t *testing.T) {
			cmd, tmp := command(t, "redis", "redis-tls")
			addrs, in := started(t, cmd)
			if len(addrs) != 2 {
				t.Fatalf("addresses: %v", addrs)
			}
			for _, a := range addrs {
				if err := answers(a); err != nil {
					t.Error(err)
				}
			}
			end(cmd, in)
			if err := cmd.Wait(); err != nil {
				t.Error(err)
			}
			down(t, addrs)
			if left := folders(t, tmp); len(left) > 0 {
				t.Errorf("left: %v", left)
			}
		})
	}
}

// What is killed cannot clean up: its servers end with it, and the next one removes its folders and shared memory.
func TestKilled(t *testing.T) {
	cmd, tmp := command(t, "redis", "postgres")
	addrs, _ := started(t, cmd)
	cmd.Process.Kill()
	cmd.Wait()
	for _, a := range addrs {
		harness.Eventually(t, 20*time.Second, func() error {
			if answers(a) == nil {
				return fmt.Errorf("%s is left", a)
			}
			return nil
		})
	}
	if left := folders(t, tmp); len(left) != 2 {
		t.Errorf("expected two folders, there are %v", left)
	}
	segment := segmentOf(t, tmp)
	next, _ := command(t, "redis", "--", "true")
	next.Env = append(next.Env, "TMPDIR="+tmp)
	if out, err := next.CombinedOutput(); err != nil {
		t.Errorf("%v\n%s", err, out)
	}
	if left := folders(t, tmp); len(left) > 0 {
		t.Errorf("left: %v", left)
	}
	harness.Eventually(t, 20*time.Second, func() error { // it goes with the last process that has it
		if all := segments(t); strings.Contains(all, segment) {
			return fmt.Errorf("the segment%sis left in\n%s", segment, all)
		}
		return nil
	})
}

// segmentOf is the number of the memory that PostgreSQL shares, in a column of /proc/sysvipc/shm.
func segmentOf(t *testing.T, tmp string) string {
	t.Helper()
	files, _ := filepath.Glob(filepath.Join(tmp, "outrigger-servers-*", "postgres", "postmaster.pid"))
	if len(files) != 1 {
		t.Fatalf("postmaster.pid: %v", files)
	}
	text, err := os.ReadFile(files[0])
	if err != nil {
		t.Fatal(err)
	}
	words := strings.Fields(strings.Split(string(text), "\n")[6])
	segment := " " + words[1] + " "
	if all := segments(t); !strings.Contains(all, segment) {
		t.Fatalf("no segment%sin\n%s", segment, all)
	}
	return segment
}

func segments(t *testing.T) string {
	t.Helper()
	text, err := os.ReadFile("/proc/sysvipc/shm")
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

func TestCommand(t *testing.T) {
	cmd, tmp := command(t, "redis", "--", "sh", "-c", `echo "at $OUTRIGGER_REDIS"; exit 7`)
	out, err := cmd.CombinedOutput()
	if cmd.ProcessState.ExitCode() != 7 {
		t.Errorf("%v\n%s", err, out)
	}
	at := regexp.MustCompile(`(?m)^at (127\.0\.0\.1:\d+)$`).FindSubmatch(out)
	if at == nil {
		t.Fatalf("no address in\n%s", out)
	}
	down(t, []string{string(at[1])})
	if left := folders(t, tmp); len(left) > 0 {
		t.Errorf("left: %v", left)
	}
}

func TestUsage(t *testing.T) {
	for args, want := range map[string]string{"": "usage:", "redis nonsense": `unknown server "nonsense" (have redis,`} {
		cmd, _ := command(t, strings.Fields(args)...)
		out, _ := cmd.CombinedOutput()
		if cmd.ProcessState.ExitCode() != 2 || !bytes.Contains(out, []byte(want)) {
			t.Errorf("%q: exit code %d\n%s", args, cmd.ProcessState.ExitCode(), out)
		}
	}
}
