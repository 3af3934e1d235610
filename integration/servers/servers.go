// Package servers runs real servers for tests and for people: it installs what is missing, starts them on free ports of 127.0.0.1
// with their data in a temporary folder, waits until they answer, and can stop, kill, freeze and restart each of their processes.
// Nothing of them is left when they are closed: no process, no file.
package servers

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/outrigger-mesh/outrigger/integration/harness"
)

// Server is a server that runs, of one process or more.
type Server struct {
	Name  string
	Nodes []*Node // in the order of their start; the first is one that clients talk to
	Dir   string  // a temporary folder that goes with it

	// User may do all that applications need, Limited only what the kind says of it. Both are empty where anybody may do anything.
	User, Password, Limited, LimitedPassword string
	CA                                       string // path of the certificate, in PEM, that its own are signed by; empty if it has no port with TLS

	settings []string
	held     *os.File // of its folder
}

// Options say how a server is started.
type Options struct {
	Settings []string  // more of its own settings, as its configuration file has them; they win over those of this package
	Here     bool      // as processes of this machine also where it could be Composed
	Output   io.Writer // gets a line for each process, as harness.Server writes it; nil for none
}

// Kind is a server that can be started.
type Kind struct {
	Name  string
	About string // for people, in a line
	// Wild are those that listen on all interfaces whatever they are told. They start only in a process that is Private.
	Wild bool

	install func(context.Context) error // what start needs
	start   func(context.Context, *Server) error
}

// Kinds are all that can be started, by their names.
func Kinds() []Kind {
	return []Kind{
		redisSingle, redisTLS, redisSentinel, redisCluster, redisReplicated, etcdSingle, etcdCluster, postgres, mariadb, kafkaSingle, kafkaCluster, nacos,
		nats, natsCluster, rabbitmq, rabbitCluster, zookeeper, zookeeperEnsemble, dtm, dtmPostgres,
	}
}

// Find is the kind of that name.
func Find(name string) (Kind, error) {
	names := []string{}
	for _, k := range Kinds() {
		if k.Name == name {
			return k, nil
		}
		names = append(names, k.Name)
	}
	return Kind{}, fmt.Errorf("unknown server %q (have %s)", name, strings.Join(names, ", "))
}

// Install makes sure of all that the named server needs: the first time on a machine that takes minutes for some.
func Install(ctx context.Context, name string) error {
	k, err := Find(name)
	if err != nil {
		return err
	}
	if err := k.install(ctx); err != nil {
		return fmt.Errorf("install %s: %w", name, err)
	}
	return nil
}

// Start installs what the named server needs, starts it and waits until all of its processes are ready. Who calls it closes it.
func Start(ctx context.Context, name string, o Options) (*Server, error) {
	k, err := Find(name)
	if err != nil {
		return nil, err
	}
	start := k.start
	if IsComposed(name) && !o.Here && len(o.Settings) == 0 {
		k.Wild, k.install = false, func(context.Context) error { return nil }
		start = func(ctx context.Context, s *Server) error { return s.compose(ctx) }
	}
	if k.Wild && !isPrivate() {
		return nil, fmt.Errorf("%s listens on all interfaces: it starts only in a process that servers.Private has moved to a network of its own", name)
	}
	if err := k.install(ctx); err != nil {
		return nil, fmt.Errorf("install %s: %w", name, err)
	}
	sweep("")
	s := &Server{Name: name, settings: o.Settings}
	if s.Dir, s.held, err = folder(name); err != nil {
		return nil, err
	}
	if err := start(ctx, s); err != nil {
		return nil, errors.Join(fmt.Errorf("start %s: %w", name, err), s.Close())
	}
	if o.Output != nil {
		for _, n := range s.Nodes {
			if !n.silent {
				harness.Server(o.Output, n.product, n.Version(), n.PID())
			}
		}
	}
	return s, nil
}

// Run is Start for a test: the server's lines are printed, and it ends with the test.
func Run(t testing.TB, name string, settings ...string) *Server {
	t.Helper()
	return run(t, name, Options{Settings: settings})
}

// RunHere is Run of processes of this machine, for tests of what the service of the compose file does not have.
func RunHere(t testing.TB, name string) *Server {
	t.Helper()
	return run(t, name, Options{Here: true})
}

func run(t testing.TB, name string, o Options) *Server {
	t.Helper()
	o.Output = os.Stdout
	s, err := Start(t.Context(), name, o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	return s
}

// Addr is where clients reach its first node, HOST:PORT.
func (s *Server) Addr() string { return s.Nodes[0].Addr }

// Addrs is where clients reach the nodes that keep their data, or those of another role: sentinel.
func (s *Server) Addrs(role ...string) []string {
	all := []string{}
	for _, n := range s.Nodes {
		if n.role == strings.Join(role, "") {
			all = append(all, n.Addr)
		}
	}
	return all
}

// Node is the one of that name.
func (s *Server) Node(name string) *Node {
	i := slices.IndexFunc(s.Nodes, func(n *Node) bool { return n.Name == name })
	if i < 0 {
		panic(s.Name + " has no node " + name)
	}
	return s.Nodes[i]
}

// Close ends all its processes, frozen ones too, and removes its folder. It may be called again.
func (s *Server) Close() error {
	errs := make([]error, len(s.Nodes))
	var all sync.WaitGroup
	for i, n := range s.Nodes {
		all.Go(func() { errs[i] = n.close() })
	}
	all.Wait()
	errs = append(errs, os.RemoveAll(s.Dir))
	s.held.Close()
	return errors.Join(errs...)
}

// boot starts nodes at once and waits until all are ready: some are only when the others are.
func (s *Server) boot(ctx context.Context, nodes ...*Node) error {
	s.Nodes = append(s.Nodes, nodes...)
	group, ctx := errgroup.WithContext(ctx)
	for _, n := range nodes {
		group.Go(func() error { return n.Start(ctx) })
	}
	return group.Wait()
}

// file writes a file of the server's, below its folder, and answers its path.
func (s *Server) file(name, text string) (string, error) {
	path := filepath.Join(s.Dir, name)
	if err := os.MkdirAll(filepath.Dir(path), 0o711); err != nil {
		return "", err
	}
	return path, os.WriteFile(path, []byte(text), 0o600)
}

// until asks until the answer is nil, and fails with the last answer at the end of the limit or of the context.
func until(ctx context.Context, limit time.Duration, ask func(context.Context) error) error {
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	for last := error(nil); ; {
		err := ask(ctx)
		if err == nil {
			return nil
		}
		if last == nil || ctx.Err() == nil { // why it was cut off at the end tells nothing
			last = err
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("not ready after %s: %w", limit, last)
		case <-time.After(50 * time.Millisecond):
		}
	}
}

// Env is where it is and who may use it, as variables of an environment: OUTRIGGER_REDIS_TLS=HOST:PORT[,HOST:PORT...], and the
// same with _USER, _PASSWORD, _LIMITED_USER, _LIMITED_PASSWORD, _CA, and _AT_NAME for its other ports
// and its sentinels, as far as there are any.
func (s *Server) Env() []string {
	name := func(parts ...string) string {
		return strings.ToUpper(strings.ReplaceAll(strings.Join(append([]string{"outrigger", s.Name}, parts...), "_"), "-", "_")) + "="
	}
	all := []string{name() + strings.Join(s.Addrs(), ",")}
	for _, v := range [][2]string{{"user", s.User}, {"password", s.Password}, {"limited_user", s.Limited}, {"limited_password", s.LimitedPassword}, {"ca", s.CA}} {
		if v[1] != "" {
			all = append(all, name(v[0])+v[1])
		}
	}
	if at := s.Addrs("sentinel"); len(at) > 0 {
		all = append(all, name("at", "sentinel")+strings.Join(at, ","))
	}
	for _, port := range s.Nodes[0].PortNames() {
		at := []string{}
		for _, n := range s.Nodes {
			if n.role == "" {
				at = append(at, local(n.Ports[port]))
			}
		}
		all = append(all, name("at", port)+strings.Join(at, ","))
	}
	return all
}
