package servers

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// leftovers watches what servers may leave behind: files in the temporary folder, processes, shared memory.
type leftovers struct {
	t      *testing.T
	tmp    string
	shared map[string]bool // in /dev/shm and of System V, before
	pids   map[int]bool    // that were seen of it
}

// watch makes a temporary folder of its own for what is started from now on.
func watch(t *testing.T) *leftovers {
	t.Helper()
	tmp, err := os.MkdirTemp("", "servers-test-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(tmp) })
	if err := os.Chmod(tmp, 0o755); err != nil {
		t.Fatal(err)
	}
	t.Setenv("TMPDIR", tmp)
	return &leftovers{t: t, tmp: tmp, shared: shared(t), pids: map[int]bool{}}
}

// shared are the segments that processes share, by their places.
func shared(t *testing.T) map[string]bool {
	t.Helper()
	all := map[string]bool{}
	files, _ := filepath.Glob("/dev/shm/*")
	for _, f := range files {
		all[f] = true
	}
	text, err := os.ReadFile("/proc/sysvipc/shm")
	if err != nil {
		t.Fatal(err)
	}
	for l := range strings.Lines(string(text)) {
		if c := strings.Fields(l); c[0] != "key" {
			all["segment "+c[1]+" made by "+c[4]] = true
		}
	}
	return all
}

func (l *leftovers) see(s *Server) {
	for _, n := range s.Nodes {
		for _, pid := range tree(n.cmd.Process.Pid) {
			l.pids[pid] = true
		}
	}
}

// nothing fails the test for what is left. Segments of others, which come and go, do not count.
func (l *leftovers) nothing(s *Server) {
	l.t.Helper()
	files, err := filepath.Glob(l.tmp + "/*")
	if err != nil || len(files) > 0 {
		l.t.Errorf("left in the temporary folder: %v %v", files, err)
	}
	for pid := range l.pids {
		if _, _, alive := stat(fmt.Sprintf("/proc/%d/stat", pid)); alive {
			l.t.Errorf("process %d is left", pid)
		}
		if of, _ := filepath.Glob(fmt.Sprintf("/tmp/hsperfdata_*/%d", pid)); len(of) > 0 {
			l.t.Errorf("left: %v", of)
		}
	}
	for _, pid := range mentioning(l.tmp) {
		l.t.Errorf("process %d is left, or started by what is", pid)
	}
	for segment := range shared(l.t) {
		for pid := range l.pids {
			if !l.shared[segment] && strings.HasSuffix(segment, fmt.Sprintf(" made by %d", pid)) {
				l.t.Errorf("left: %s", segment)
			}
		}
		if !l.shared[segment] && strings.Contains(segment, "PostgreSQL") {
			l.t.Errorf("left: %s", segment)
		}
	}
	if s == nil {
		return
	}
	for _, n := range s.Nodes {
		for _, p := range append([]string{n.Addr}, n.atPorts()...) {
			if !free(port(p)) {
				l.t.Errorf("%s is in use", p)
			}
		}
	}
}

func (n *Node) atPorts() (all []string) {
	for _, p := range n.Ports {
		all = append(all, local(p))
	}
	return all
}

// mentioning are the other processes whose arguments or environment have the text: daemons that have left the tree, too.
func mentioning(text string) (pids []int) {
	files, _ := filepath.Glob("/proc/[0-9]*/environ")
	for _, f := range files {
		var pid int
		if _, err := fmt.Sscanf(f, "/proc/%d/environ", &pid); err != nil || pid == os.Getpid() {
			continue
		}
		environ, _ := os.ReadFile(f)
		arguments, _ := os.ReadFile(filepath.Join(filepath.Dir(f), "cmdline"))
		if strings.Contains(string(environ)+string(arguments), text) {
			pids = append(pids, pid)
		}
	}
	return pids
}

// TestLeft: what a run has left is found, processes and folders, and folders are removed; what another one has is not looked at.
func TestLeft(t *testing.T) {
	watch(t)
	defer func(limit time.Duration) { stopTime = limit }(stopTime)
	stopTime = 200 * time.Millisecond
	t.Setenv(Mark, "one")
	one, held, err := folder("x")
	if err != nil {
		t.Fatal(err)
	}
	server := exec.Command("sleep", "60")
	server.Env = append(os.Environ(), nodeDir+"="+one)
	if err := server.Start(); err != nil {
		t.Fatal(err)
	}
	defer server.Wait()
	defer server.Process.Kill()
	if left := Left("another"); len(left) > 0 {
		t.Errorf("another run has left %q", left)
	}
	if left := Left("one"); len(left) != 1 || !strings.HasSuffix(left[0], ": sleep 60 ") {
		t.Errorf("while the folder is in use, left are %q", left)
	}
	held.Close()
	if left := Left("one"); len(left) != 2 || left[1] != "folder "+one {
		t.Errorf("left are %q", left)
	}
	server.Process.Kill()
	server.Wait()
	if left := Left("one"); len(left) > 0 {
		t.Errorf("then left are %q", left)
	}
}
