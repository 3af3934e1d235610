package file_test

import (
	"bufio"
	"fmt"
	"io"
	"os"
	"os/exec"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/outrigger-mesh/outrigger/components/registry"
)

// process is a sidecar of its own.
type process struct {
	*exec.Cmd
	stdin io.Closer
	child int // what it has started
}

func start(t *testing.T, dir, address string, forks bool) *process {
	t.Helper()
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), childDir+"="+dir, childAddress+"="+address)
	if forks {
		cmd.Env = append(cmd.Env, childForks+"=1")
	}
	cmd.Stderr = t.Output()
	stdin, err := cmd.StdinPipe()
	must(t, err)
	out, err := cmd.StdoutPipe()
	must(t, err)
	must(t, cmd.Start())
	p := &process{Cmd: cmd, stdin: stdin}
	t.Cleanup(p.kill)
	line, err := bufio.NewReader(out).ReadString('\n')
	must(t, err)
	if _, err := fmt.Sscanf(line, "registered %d", &p.child); err != nil {
		t.Fatalf("the sidecar says %q: %v", line, err)
	}
	return p
}

func (p *process) kill() {
	_ = p.Process.Kill() // it may have ended
	_ = p.Wait()
	p.stdin.Close()
}

func TestKilledSidecarIsNoticed(t *testing.T) {
	dir := t.TempDir()
	d := open(t, dir, nil)
	v := watch(t, d)
	p, other := start(t, dir, "10.0.0.1:1", false), start(t, dir, "10.0.0.2:1", false)
	v.want(t, "10.0.0.1:1 10.0.0.2:1")
	p.kill()
	v.want(t, "10.0.0.2:1")
	other.kill()
	v.want(t, "")
	eventually(t, func() error {
		if r, l := files(t, dir, "records/*"), files(t, dir, "locks/*"); len(r) != 0 || len(l) != 1 {
			return fmt.Errorf("left are %q and %q, want one lock", r, l)
		}
		return nil
	})
}

func TestStoppedSidecarIsAlive(t *testing.T) {
	dir := t.TempDir()
	v := watch(t, open(t, dir, nil))
	p := start(t, dir, "10.0.0.1:1", false)
	v.want(t, "10.0.0.1:1")
	must(t, p.Process.Signal(syscall.SIGSTOP))
	time.Sleep(300 * time.Millisecond) // many checks
	v.want(t, "10.0.0.1:1")
	must(t, p.Process.Signal(syscall.SIGCONT))
	p.kill()
	v.want(t, "")
}

func TestWhatASidecarStartsDoesNotKeepItsLock(t *testing.T) {
	dir := t.TempDir()
	v := watch(t, open(t, dir, nil))
	p := start(t, dir, "10.0.0.1:1", true)
	v.want(t, "10.0.0.1:1")
	t.Cleanup(func() { must(t, syscall.Kill(p.child, syscall.SIGKILL)) })
	p.kill()
	must(t, syscall.Kill(p.child, 0)) // it outlives the sidecar
	v.want(t, "")
}

// TestRestartAtTheSameAddress: however collectors and newcomers meet, the address of a sidecar that lives stays listed.
func TestRestartAtTheSameAddress(t *testing.T) {
	dir := t.TempDir()
	collectors := []registry.Driver{open(t, dir, nil), open(t, dir, nil), open(t, dir, nil)}
	for range 5 {
		p := start(t, dir, "10.0.0.1:1", false)
		p.kill()
		next := start(t, dir, "10.0.0.1:1", false)
		for _, d := range collectors {
			watch(t, d).want(t, "10.0.0.1:1")
		}
		time.Sleep(60 * time.Millisecond) // some checks more
		for _, d := range collectors {
			watch(t, d).want(t, "10.0.0.1:1")
		}
		next.kill()
	}
}

// TestReRegistrationMeetsCollectors: records that one keeps registering are never taken for dead by others that collect.
func TestReRegistrationMeetsCollectors(t *testing.T) {
	dir := t.TempDir()
	v := watch(t, open(t, dir, nil))
	a := open(t, dir, nil)
	put(t, a, "10.0.0.9:1")
	v.want(t, "10.0.0.9:1")
	var busy sync.WaitGroup
	for range 2 {
		busy.Go(func() {
			for range 5 {
				p := start(t, dir, "10.0.0.1:1", false)
				p.kill()
			}
		})
	}
	busy.Go(func() {
		for range 50 {
			put(t, a, "10.0.0.9:1")
			time.Sleep(5 * time.Millisecond)
		}
	})
	busy.Wait()
	v.want(t, "10.0.0.9:1")
	v.mu.Lock()
	defer v.mu.Unlock()
	for _, list := range v.seen[1:] {
		if list != "10.0.0.9:1" && list != "10.0.0.1:1 10.0.0.9:1" {
			t.Errorf("a list was %q: the living one was not in it", list)
		}
	}
}
