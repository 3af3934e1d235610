// Package harness builds the binary and runs sidecars and applications for black-box tests. Everything it starts ends with the
// test, by its own process id.
package harness

import (
	"bufio"
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	client "github.com/outrigger-mesh/outrigger/sdk/go"
)

// Root is the top of the source tree.
func Root() string {
	dir, err := os.Getwd()
	for err == nil {
		if _, e := os.Stat(filepath.Join(dir, "go.mod")); e == nil {
			return dir
		}
		up := filepath.Dir(dir)
		if up == dir {
			err = errors.New("no go.mod above the working folder")
		}
		dir = up
	}
	panic(err)
}

// given is the variable with the path of a sidecar that has been built already.
const given = "OUTRIGGER_BINARY"

var built string // by this process, or copied: other users may run it in the temporary folder

var binary = sync.OnceValues(func() (string, error) {
	path := filepath.Join(os.TempDir(), fmt.Sprintf("outrigger-test-%d", os.Getpid()))
	command := []string{"go", "build", "-trimpath", "-o", path, "./cmd/outrigger"}
	if from := os.Getenv(given); from != "" {
		command = []string{"cp", from, path}
	}
	built = path
	return path, run(command...)
})

func run(command ...string) error {
	c := exec.Command(command[0], command[1:]...)
	c.Dir = Root()
	c.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := c.CombinedOutput(); err != nil {
		return fmt.Errorf("%q: %w\n%s", command, err, out)
	}
	return nil
}

// Failpoints builds a sidecar that stops, or kills itself, where it is told to: package failpoint.
func Failpoints(t testing.TB) (path string) {
	t.Helper()
	path = filepath.Join(t.TempDir(), "outrigger-failpoints")
	if err := run("go", "build", "-tags", "failpoints", "-ldflags", "-s -w", "-o", path, "./cmd/outrigger"); err != nil {
		t.Fatal(err)
	}
	return path
}

// Binary is the path of the sidecar: a copy of the one that OUTRIGGER_BINARY names, or else one that is built, once in a test process. Main takes
// it away again.
func Binary(t testing.TB) string {
	t.Helper()
	path, err := binary()
	if err != nil {
		t.Fatal(err)
	}
	return path
}

// Main is for TestMain: it runs the tests and removes the binary.
func Main(m *testing.M) int {
	code := m.Run()
	if built != "" {
		os.Remove(built)
	}
	return code
}

// Options say how a sidecar is started; its ports are always free ones.
type Options struct {
	Binary   string // Binary's unless set
	App      string // "": as Config says; then there is no Client
	AppPort  int
	Protocol string // of the application; grpc unless set
	DataDir  string // a folder of the test's unless set; sidecars that are to find each other share one
	Config   string // YAML; "" starts on embedded defaults
	Args     []string
	Command  []string // the application, as a child of the sidecar
	Env      []string
	User     *syscall.Credential
	Passed   map[string]*os.File // sockets that it is passed as systemd does, by name
}

// Sidecar is one that runs.
type Sidecar struct {
	GRPC, HTTP, Outbound, Inbound, Admin string // HOST:PORT
	Socket                               string
	DataDir                              string
	Options                              Options

	t    testing.TB
	cmd  *exec.Cmd
	out  *tail
	done chan struct{}
	err  error
}

// Start runs a sidecar and waits until it says that it is ready.
func Start(t testing.TB, o Options) *Sidecar {
	t.Helper()
	s, err := TryStart(t, o)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

const startTime = 30 * time.Second // on a machine that is busy with other tests

// TryStart is Start for one that may fail; the error has what it printed.
func TryStart(t testing.TB, o Options) (*Sidecar, error) {
	t.Helper()
	s, err := Launch(t, o)
	if err != nil {
		return nil, err
	}
	return s, s.Ready()
}

// Launch runs a sidecar and does not wait for it.
func Launch(t testing.TB, o Options) (*Sidecar, error) {
	t.Helper()
	if o.DataDir == "" {
		o.DataDir = t.TempDir()
	}
	if o.Protocol == "" {
		o.Protocol = "grpc"
	}
	s := &Sidecar{t: t, DataDir: o.DataDir, Options: o, out: newTail(), done: make(chan struct{}),
		Socket: filepath.Join(o.DataDir, "run", "default", o.App+".sock")}
	if o.Binary == "" {
		o.Binary = Binary(t)
	}
	s.cmd = exec.Command(o.Binary, o.args(t)...)
	if len(o.Passed) > 0 { // systemd knows the process it passes sockets to; who starts another does not before it runs
		s.cmd = exec.Command("sh", append([]string{"-c", `LISTEN_PID=$$ exec "$0" "$@"`, o.Binary}, o.args(t)...)...)
		names := []string{}
		for name, f := range o.Passed {
			names, s.cmd.ExtraFiles = append(names, name), append(s.cmd.ExtraFiles, f)
		}
		o.Env = append(o.Env, fmt.Sprintf("LISTEN_FDS=%d", len(names)), "LISTEN_FDNAMES="+strings.Join(names, ":"))
	}
	s.cmd.Env = append(os.Environ(), o.Env...)
	s.cmd.Stdout, s.cmd.Stderr = s.out, s.out
	s.cmd.SysProcAttr = &syscall.SysProcAttr{Credential: o.User, Pdeathsig: syscall.SIGKILL}
	if err := s.cmd.Start(); err != nil {
		return nil, err
	}
	go func() { s.err = s.cmd.Wait(); close(s.done) }()
	t.Cleanup(s.Kill)
	return s, nil
}

// Ready waits until it says that it is ready, and fails if it ends before.
func (s *Sidecar) Ready() error {
	select {
	case <-s.out.ready:
	case <-s.done:
		return fmt.Errorf("sidecar %s ended before it was ready: %v\n%s", s.Options.App, s.err, s.Output())
	case <-time.After(startTime):
		return fmt.Errorf("sidecar %s is not ready\n%s", s.Options.App, s.Output())
	}
	return s.parse()
}

func (o Options) args(t testing.TB) []string {
	args := []string{"run", "-data-dir", o.DataDir}
	if o.App != "" {
		args = append(args, "-app-id", o.App, "-app-protocol", o.Protocol)
	}
	if o.AppPort != 0 {
		args = append(args, "-app-port", strconv.Itoa(o.AppPort))
	}
	if o.Config != "" {
		path := filepath.Join(t.TempDir(), cmp.Or(o.App, "sidecar")+".yaml")
		if err := os.WriteFile(path, []byte(o.Config), 0o600); err != nil {
			t.Fatal(err)
		}
		args = append(args, "-config", path)
	}
	given := strings.Join(o.Args, " ")
	for _, flag := range []string{"-grpc-port", "-http-port", "-admin-port", "-inbound-port", "-outbound-port"} {
		if !strings.Contains(given, flag) {
			args = append(args, flag, "0")
		}
	}
	args = append(args, o.Args...)
	if len(o.Command) > 0 {
		args = append(append(args, "--"), o.Command...)
	}
	return args
}

var readyLine = regexp.MustCompile(`is ready: app \S+, grpc (\S+), http (\S+), outbound (\S+), inbound (\S+), admin (\S+), pid`)

func (s *Sidecar) parse() error {
	m := readyLine.FindStringSubmatch(s.Output())
	if m == nil {
		return fmt.Errorf("the ready line has no addresses:\n%s", s.Output())
	}
	s.GRPC, s.HTTP, s.Outbound, s.Inbound, s.Admin = m[1], m[2], m[3], m[4], m[5]
	return nil
}

// PID is the sidecar's process.
func (s *Sidecar) PID() int { return s.cmd.Process.Pid }

// Output is what it has printed lately.
func (s *Sidecar) Output() string { return s.out.String() }

// Signal sends it a signal.
func (s *Sidecar) Signal(sig syscall.Signal) { s.cmd.Process.Signal(sig) }

// Freeze stops it with SIGSTOP, and comes back when each of its threads stands still. SIGCONT wakes it.
func (s *Sidecar) Freeze() {
	s.t.Helper()
	s.Signal(syscall.SIGSTOP)
	Eventually(s.t, 10*time.Second, func() error {
		threads, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/stat", s.PID()))
		if err != nil || len(threads) == 0 {
			return fmt.Errorf("its threads: %q, %v", threads, err)
		}
		for _, path := range threads {
			text, err := os.ReadFile(path)
			if err != nil {
				return err
			}
			if _, state, _ := strings.Cut(string(text), ") "); !strings.HasPrefix(state, "T") {
				return fmt.Errorf("%s: %.40s: not stopped", path, text)
			}
		}
		return nil
	})
}

// Stop asks it to end in order and waits; its exit code is the answer.
func (s *Sidecar) Stop() int {
	s.t.Helper()
	s.Signal(syscall.SIGTERM)
	return s.Wait(time.Minute)
}

// Wait waits for its end and answers its exit code.
func (s *Sidecar) Wait(limit time.Duration) int {
	s.t.Helper()
	select {
	case <-s.done:
	case <-time.After(limit):
		s.t.Errorf("sidecar %s did not end within %s\n%s", s.Options.App, limit, s.Output())
		s.Kill()
	}
	return s.cmd.ProcessState.ExitCode()
}

// Kill ends it at once, if it has not ended.
func (s *Sidecar) Kill() {
	select {
	case <-s.done:
		return
	default:
	}
	s.Signal(syscall.SIGKILL)
	<-s.done
}

// Client is a client of its API, over its socket.
func (s *Sidecar) Client(opts ...client.Option) *client.Client {
	s.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), startTime)
	defer cancel()
	c, err := client.Dial(ctx, append([]client.Option{client.WithSocket(s.Socket), client.WithWait()}, opts...)...)
	if err != nil {
		s.t.Fatalf("%v\n%s", err, s.Output())
	}
	s.t.Cleanup(func() { c.Close() })
	return c
}

// RSS is the memory it holds, in bytes.
func (s *Sidecar) RSS() int64 {
	s.t.Helper()
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/statm", s.PID()))
	if err != nil {
		s.t.Fatal(err)
	}
	pages, err := strconv.ParseInt(strings.Fields(string(text))[1], 10, 64)
	if err != nil {
		s.t.Fatal(err)
	}
	return pages * int64(os.Getpagesize())
}

// Eventually asks until the answer is nil, and fails the test with the last answer.
func Eventually(t testing.TB, limit time.Duration, ask func() error) {
	t.Helper()
	var err error
	for end := time.Now().Add(limit); ; time.Sleep(20 * time.Millisecond) {
		if err = ask(); err == nil {
			return
		}
		if time.Now().After(end) {
			t.Fatalf("not so after %s: %v", limit, err)
		}
	}
}

// FreePort is a port that nobody listened on just now.
func FreePort(t testing.TB) int {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	return ln.Addr().(*net.TCPAddr).Port
}

// tail keeps the last part of what a process prints and tells when it is ready.
type tail struct {
	mu    sync.Mutex
	lines []string
	part  []byte
	ready chan struct{}
}

const tailLines = 2000

func newTail() *tail { return &tail{ready: make(chan struct{})} }

func (t *tail) Write(p []byte) (int, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.part = append(t.part, p...)
	scan := bufio.NewScanner(bytes.NewReader(t.part[:bytes.LastIndexByte(t.part, '\n')+1]))
	scan.Buffer(nil, 1<<20)
	for scan.Scan() {
		if readyLine.MatchString(scan.Text()) {
			select {
			case <-t.ready:
			default:
				close(t.ready)
			}
		}
		t.lines = append(t.lines, scan.Text())
	}
	t.part = t.part[bytes.LastIndexByte(t.part, '\n')+1:]
	if over := len(t.lines) - tailLines; over > 0 {
		t.lines = t.lines[over:]
	}
	return len(p), nil
}

func (t *tail) String() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	return strings.Join(t.lines, "\n") + string(t.part)
}
