package servers

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"

	"github.com/outrigger-mesh/outrigger/integration/harness"
)

// Composed is the variable of the environment with the names of the kinds that are started as services of integration/docker-compose.yml, by
// docker-compose, with blanks between them. All others, and those with settings of their own, are processes of this machine.
const Composed = "OUTRIGGER_COMPOSED"

// Projects is the variable with what the names of their projects begin with.
const Projects = "OUTRIGGER_PROJECTS"

// ComposeFile is that file, from the top of the tree.
const ComposeFile = "integration/docker-compose.yml"

// service is what tests need to know of one of the file's.
type service struct {
	start func(ctx context.Context, s *Server, n *Node) error // sets what is asked, and by whom
	after func(s *Server, ctx context.Context) error          // once it answers; nil: nothing
}

var services = map[string]service{
	"redis": {start: func(_ context.Context, s *Server, n *Node) error {
		n.ask = func(ctx context.Context) (string, int, error) { return s.askRedis(ctx, n) }
		return nil
	}},
	"etcd": {start: func(_ context.Context, _ *Server, n *Node) error {
		n.ask = func(ctx context.Context) (string, int, error) { return askEtcd(ctx, "http://"+n.Addr) }
		return nil
	}},
	"postgres": {start: func(ctx context.Context, s *Server, n *Node) error {
		s.users()
		s.User = "postgres"
		n.ask = s.askPostgres(n)
		return psqlClient.Need(ctx)
	}, after: (*Server).limitPostgres},
}

// Services are the kinds that can be Composed.
func Services() []string {
	names := []string{}
	for name := range services {
		names = append(names, name)
	}
	return slices.Sorted(slices.Values(names))
}

// IsComposed tells whether a kind is started so.
func IsComposed(name string) bool {
	_, can := services[name]
	return can && slices.Contains(strings.Fields(os.Getenv(Composed)), name)
}

var projects atomic.Int64

// compose brings up the service of the server's name in a project of its own.
func (s *Server) compose(ctx context.Context) error {
	outside, err := freePort()
	if err != nil {
		return err
	}
	n, err := s.node(s.Name, outside, program{product: s.Name, limit: 2 * time.Minute})
	if err != nil {
		return err
	}
	if err := services[s.Name].start(ctx, s, n); err != nil {
		return err
	}
	b := &box{project: fmt.Sprintf("%s%d-%d", cmp.Or(os.Getenv(Projects), "outrigger"), os.Getpid(), projects.Add(1)), service: s.Name,
		env: append(os.Environ(), fmt.Sprintf("OUTRIGGER_%s_PORT=%d", strings.ToUpper(s.Name), outside), "OUTRIGGER_POSTGRES_PASSWORD="+s.Password)}
	n.box = b
	s.Nodes = append(s.Nodes, n)
	if outer() >= 0 { // the engine publishes it in the network that this process came from
		if b.relay, err = relayTo(n.Addr); err != nil {
			return err
		}
	}
	if err := b.up(ctx); err != nil {
		return fmt.Errorf("%w\nis the image there? make integration NATIVE=1 needs none", err)
	}
	if err := n.awaken(ctx); err != nil {
		return err
	}
	if after := services[s.Name].after; after != nil {
		return after(s, ctx)
	}
	return nil
}

// box is the container of a node.
type box struct {
	project, service, id string
	env                  []string
	relay                net.Listener // nil: there is none
}

func (b *box) compose(ctx context.Context, args ...string) (string, error) {
	return b.run(ctx, append([]string{"docker-compose", "-p", b.project, "-f", filepath.Join(harness.Root(), ComposeFile)}, args...)...)
}

func (b *box) run(ctx context.Context, args ...string) (string, error) {
	cmd := exec.CommandContext(ctx, args[0], args[1:]...)
	cmd.Env = b.env
	out, err := cmd.Output()
	if exit := (*exec.ExitError)(nil); errors.As(err, &exit) {
		err = fmt.Errorf("%s: %w: %s", strings.Join(args, " "), err, exit.Stderr)
	}
	return strings.TrimSpace(string(out)), err
}

func (b *box) up(ctx context.Context) (err error) {
	if _, err = b.compose(ctx, "up", "-d", b.service); err == nil {
		b.id, err = b.compose(ctx, "ps", "-q", b.service)
	}
	return err
}

// docker has the engine do something to the container.
func (b *box) docker(args ...string) error {
	ctx, cancel := context.WithTimeout(context.Background(), 2*stopTime)
	defer cancel()
	_, err := b.run(ctx, append(append([]string{"docker"}, args...), b.id)...)
	return err
}

// process is the number of its process on this machine.
func (b *box) process(ctx context.Context) (int, error) {
	text, err := b.run(ctx, "docker", "inspect", "-f", "{{.State.Pid}}", b.id)
	if err != nil {
		return 0, err
	}
	return strconv.Atoi(text)
}

// close takes the container down, and what it has stored.
func (b *box) close() error {
	ctx, cancel := context.WithTimeout(context.Background(), 2*stopTime)
	defer cancel()
	if b.id != "" {
		_ = b.docker("unpause") // a frozen one cannot be taken down; others are not paused, which is an error
	}
	_, err := b.compose(ctx, "down", "-v", "-t", "0")
	if b.relay != nil {
		err = errors.Join(err, b.relay.Close())
	}
	return err
}

// awaken waits until a node in a container answers.
func (n *Node) awaken(ctx context.Context) error {
	err := until(ctx, n.limit, func(ctx context.Context) error {
		ctx, cancel := context.WithTimeout(ctx, askTime)
		defer cancel()
		version, _, err := n.ask(ctx)
		if err != nil {
			return err
		}
		pid, err := n.box.process(ctx)
		n.version, n.pid = version, pid
		return err
	})
	if err != nil {
		said, _ := n.box.run(ctx, "docker", "logs", n.box.id)
		err = fmt.Errorf("%s: %w\n%s", n.Name, err, said)
	}
	return err
}

// relayTo listens at an address of this process's network, and passes connections on to the same address of the network that it came from. One that is not to be had
// there is reset.
func relayTo(addr string) (net.Listener, error) {
	ln, err := net.Listen("tcp", addr)
	if err != nil {
		return nil, err
	}
	go func() {
		for {
			in, err := ln.Accept()
			if err != nil {
				return
			}
			go pass(in.(*net.TCPConn), addr)
		}
	}()
	return ln, nil
}

func pass(in *net.TCPConn, addr string) {
	defer in.Close()
	out, err := dialOuter(addr)
	if err != nil {
		_ = in.SetLinger(0)
		return
	}
	defer out.Close()
	ended := make(chan error, 2)
	copied := func(to, from *net.TCPConn) {
		_, err := to.ReadFrom(from)
		if err == nil {
			err = to.CloseWrite()
		}
		ended <- err
	}
	go copied(out, in)
	go copied(in, out)
	for range 2 {
		if err := <-ended; err != nil { // a reset is passed on as one
			_, _ = in.SetLinger(0), out.SetLinger(0)
			return
		}
	}
}

// dialOuter connects in the network that the process came from: a socket is of the network that its thread is in. The thread is brought back,
// and not ended: the death of a thread is that of the processes that it has started.
func dialOuter(addr string) (*net.TCPConn, error) {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	own, err := unix.Open("/proc/thread-self/ns/net", unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, err
	}
	defer unix.Close(own)
	if err := unix.Setns(outer(), unix.CLONE_NEWNET); err != nil {
		return nil, err
	}
	conn, err := net.DialTimeout("tcp", addr, askTime)
	if back := unix.Setns(own, unix.CLONE_NEWNET); back != nil {
		panic(back) // others would go on in the wrong network
	}
	if err != nil {
		return nil, err
	}
	return conn.(*net.TCPConn), nil
}
