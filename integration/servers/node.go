package servers

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"maps"
	"net"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"slices"
	"strconv"
	"sync"
	"syscall"
	"time"
)

// Node is a process of a server, with the processes that it has started itself. Its methods may be called concurrently.
type Node struct {
	Name  string
	Addr  string         // HOST:PORT that clients use
	Ports map[string]int // its other ports, by what they are for
	Dir   string         // its data; it outlives Kill and Stop
	Log   string         // path of what it prints, over all its starts

	program
	box *box // nil: its process is a child of this one

	mu      sync.Mutex
	cmd     *exec.Cmd
	done    chan struct{} // closed when cmd has ended
	pid     int
	version string
}

// program is how a node is run and asked.
type program struct {
	product string // its name in the line that tells of it
	role    string // "" for one that clients keep their data in
	silent  bool   // one that does not say its version
	args    []string
	env     []string
	user    string // that it runs as when root starts it, since it refuses root
	limit   time.Duration
	// ask is answered once it is ready: with the version that it says it is, and its process id, 0 if it does not say that.
	ask func(context.Context) (version string, pid int, err error)
	// tidy removes what a killed one leaves outside its folder.
	tidy func() error
	stop syscall.Signal // that it ends in order by; SIGTERM unless set
}

// askTime is one question's at most: a server that starts may take connections and not answer.
const askTime = 3 * time.Second

// stopTime is what a server has to end in order.
var stopTime = 30 * time.Second

// againTime is after how long it is asked again: Redis goes on when it is asked while it writes an append-only file for the first time.
const againTime = 5 * time.Second

// PID is its process: the one that listens at Addr.
func (n *Node) PID() int { n.mu.Lock(); defer n.mu.Unlock(); return n.pid }

// Version is what it has said.
func (n *Node) Version() string { n.mu.Lock(); defer n.mu.Unlock(); return n.version }

// Command is how it is run, for those who run it otherwise.
func (n *Node) Command() []string { return slices.Clone(n.args) }

// PortNames are those of Ports, sorted.
func (n *Node) PortNames() []string { return slices.Sorted(maps.Keys(n.Ports)) }

// Start runs it on its port and its data and waits until it is ready. It fails if it runs already.
func (n *Node) Start(ctx context.Context) error {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.box != nil {
		if err := n.box.docker("start"); err != nil {
			return err
		}
		return n.awaken(ctx)
	}
	if n.runs() {
		return fmt.Errorf("%s runs already", n.Name)
	}
	if err := n.launch(); err != nil {
		return fmt.Errorf("%s: %w", n.Name, err)
	}
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	go func() {
		select {
		case <-n.done:
			cancel(errors.New("it has ended"))
		case <-ctx.Done():
		}
	}()
	err := until(ctx, n.limit, n.ready)
	if err == nil {
		return nil
	}
	if !n.runs() {
		err = fmt.Errorf("it ended: %s", n.cmd.ProcessState)
	}
	n.end(syscall.SIGKILL)
	return fmt.Errorf("%s: %w\n%s", n.Name, err, n.tail())
}

func (n *Node) launch() error {
	log, err := os.OpenFile(n.Log, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	defer log.Close()
	cmd := exec.Command(n.args[0], n.args[1:]...)
	cmd.Dir, cmd.Env = n.Dir, append(append(os.Environ(), nodeDir+"="+n.Dir), n.env...)
	cmd.Stdout, cmd.Stderr = log, log
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
	if cmd.SysProcAttr.Credential, err = runAs(n.user); err != nil {
		return err
	}
	if err := cmd.Start(); err != nil {
		return err
	}
	done := make(chan struct{})
	n.cmd, n.done, n.pid = cmd, done, cmd.Process.Pid
	go func() { cmd.Wait(); close(done) }()
	return nil
}

// ready asks it and makes sure that who answers at its address is the process that was started, not another on the same port.
func (n *Node) ready(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, askTime)
	defer cancel()
	version, said, err := n.ask(ctx)
	if err != nil {
		return err
	}
	pid, err := listener(tree(n.cmd.Process.Pid), port(n.Addr))
	if err != nil {
		return err
	}
	if said != 0 && said != pid {
		return fmt.Errorf("pid %d listens at %s, who answers there is %d", pid, n.Addr, said)
	}
	n.version, n.pid = version, pid
	return nil
}

// runs answers whether its process has not ended.
func (n *Node) runs() bool {
	if n.cmd == nil {
		return false
	}
	select {
	case <-n.done:
		return false
	default:
		return true
	}
}

// Stop asks it to end in order and waits until it has.
func (n *Node) Stop() error {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.box != nil {
		return n.box.docker("stop")
	}
	sig := n.stop
	if sig == 0 {
		sig = syscall.SIGTERM
	}
	return n.end(sig)
}

// Kill ends it at once, with all that it has started, and waits until it has.
func (n *Node) Kill() error {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.box != nil {
		return n.box.docker("kill")
	}
	return n.end(syscall.SIGKILL)
}

// end ends it by a signal; what is left of it after stopTime is killed, and that is an error.
func (n *Node) end(sig syscall.Signal) error {
	if !n.runs() {
		return nil
	}
	all := tree(n.cmd.Process.Pid)
	if sig == syscall.SIGKILL {
		signal(all, sig)
	} else {
		signal(all, syscall.SIGCONT)
		signal([]int{n.pid}, sig)
	}
	for late := time.Now().Add(stopTime); ; {
		if gone(all, min(againTime, stopTime)) && n.ended(stopTime) {
			return nil
		}
		if time.Now().After(late) {
			break
		}
		signal([]int{n.pid}, sig)
	}
	signal(all, syscall.SIGKILL)
	gone(all, stopTime)
	n.ended(stopTime)
	return fmt.Errorf("%s did not end within %s of %s", n.Name, stopTime, sig)
}

// ended waits for the process itself, so that no zombie is left of it.
func (n *Node) ended(limit time.Duration) bool {
	select {
	case <-n.done:
		return true
	case <-time.After(limit):
		return false
	}
}

// Freeze stops it and all that it has started where they stand: their connections stay, nobody answers.
func (n *Node) Freeze() error {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.box != nil {
		return n.box.docker("pause")
	}
	if !n.runs() {
		return fmt.Errorf("%s does not run", n.Name)
	}
	all := tree(n.cmd.Process.Pid)
	for before := 0; len(all) != before; all = tree(n.cmd.Process.Pid) { // until none has been started meanwhile
		before = len(all)
		signal(all, syscall.SIGSTOP)
	}
	return nil
}

// Thaw lets a frozen one go on.
func (n *Node) Thaw() error {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.box != nil {
		return n.box.docker("unpause")
	}
	if !n.runs() {
		return fmt.Errorf("%s does not run", n.Name)
	}
	signal(tree(n.cmd.Process.Pid), syscall.SIGCONT)
	return nil
}

func (n *Node) close() error {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.box != nil {
		return n.box.close()
	}
	err := n.end(syscall.SIGKILL)
	if n.tidy != nil {
		err = errors.Join(err, n.tidy())
	}
	return err
}

// tail is the end of its log.
func (n *Node) tail() string {
	text, err := os.ReadFile(n.Log)
	if err != nil {
		return err.Error()
	}
	const most = 4 << 10
	return string(bytes.TrimSpace(text[max(0, len(text)-most):]))
}

// node is a new one of the server's, with a folder and a log of its own, at that port.
func (s *Server) node(name string, port int, p program) (*Node, error) {
	n := &Node{Name: name, Addr: local(port), Ports: map[string]int{}, Dir: filepath.Join(s.Dir, name), Log: filepath.Join(s.Dir, name+".log"), program: p}
	if err := os.MkdirAll(n.Dir, 0o700); err != nil {
		return nil, err
	}
	as, err := runAs(p.user)
	if err != nil {
		return nil, err
	}
	return n, giveTo(as, n.Dir)
}

func giveTo(as *syscall.Credential, path string) error {
	if as == nil {
		return nil
	}
	return os.Chown(path, int(as.Uid), int(as.Gid))
}

// runAs is the user of that name, for root; nil, which means oneself, for others and for no name.
func runAs(name string) (*syscall.Credential, error) {
	if name == "" || os.Geteuid() != 0 {
		return nil, nil
	}
	u, err := user.Lookup(name)
	if err != nil {
		return nil, err
	}
	uid, err := strconv.ParseUint(u.Uid, 10, 32)
	if err != nil {
		return nil, err
	}
	gid, err := strconv.ParseUint(u.Gid, 10, 32)
	return &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}, err
}

// dial connects for one question: the connection ends with the context's deadline, or askTime from now.
func dial(ctx context.Context, addr string) (net.Conn, error) {
	end := time.Now().Add(askTime)
	if at, ok := ctx.Deadline(); ok && at.Before(end) {
		end = at
	}
	conn, err := (&net.Dialer{Deadline: end}).DialContext(ctx, "tcp", addr)
	if err != nil {
		return nil, err
	}
	if err := conn.SetDeadline(end); err != nil {
		return nil, errors.Join(err, conn.Close())
	}
	return conn, nil
}

func local(port int) string { return net.JoinHostPort("127.0.0.1", strconv.Itoa(port)) }

func port(addr string) int {
	_, p, err := net.SplitHostPort(addr)
	if err != nil {
		panic(err)
	}
	n, err := strconv.Atoi(p)
	if err != nil {
		panic(err)
	}
	return n
}
