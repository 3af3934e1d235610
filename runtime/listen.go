package runtime

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"

	"github.com/outrigger-mesh/outrigger/runtime/config"
)

// sockets are all that the sidecar listens on; they are bound before anything else is started.
type sockets struct {
	grpc, http, outbound, inbound, admin, probes net.Listener
	unix, adminUnix, handover                    net.Listener
	control, sofaOutbound                        net.Listener
	tcp                                          []net.Listener // as in mesh.outbound.tcp
	lock                                         *os.File       // of the unix sockets
	paths                                        []string       // of the unix sockets
	taken                                        []string       // what others have bound

	let  chan struct{} // closed when connections may be accepted; nil: they may from the beginning
	lent atomic.Bool   // another process has the sockets too, and may go on with them: the paths stay
}

// slot is one of the listeners.
type slot struct {
	name       string // in a hand-over, and to systemd
	into       *net.Listener
	address    string // as it is configured; "": not wanted
	what, flag string // for people
	unix       bool   // address is a path
}

func (s *sockets) slots(c *config.Config, dataDir string) []slot {
	all := []slot{
		{"grpc", &s.grpc, c.API.GRPC, "the gRPC API", "-grpc-port (api.grpc)", false},
		{"http", &s.http, c.API.HTTP, "the HTTP API", "-http-port (api.http)", false},
		{"admin", &s.admin, c.Admin.Address, "admin", "-admin-port (admin.address)", false},
		{"inbound", &s.inbound, c.Mesh.Inbound.Address, "inbound", "-inbound-port (mesh.inbound.address)", false},
		{"outbound", &s.outbound, c.Mesh.Outbound.Address, "outbound", "-outbound-port (mesh.outbound.address)", false},
		{"sofarpc-control", &s.control, c.Mesh.SOFARPC.Control, "SOFARPC's control", anotherHost("mesh.sofarpc.control"), false},
		{"sofarpc-outbound", &s.sofaOutbound, c.Mesh.SOFARPC.Outbound, "SOFARPC's outbound", anotherHost("mesh.sofarpc.outbound"), false},
		{"probes", &s.probes, c.Admin.Probes, "probes", "admin.probes", false},
	}
	if s.tcp == nil {
		s.tcp = make([]net.Listener, len(c.Mesh.Outbound.TCP))
	}
	for i, t := range c.Mesh.Outbound.TCP {
		all = append(all, slot{name: "tcp-" + t.Address, into: &s.tcp[i], address: t.Address, what: "tcp of " + t.Service, flag: fmt.Sprintf("mesh.outbound.tcp.%d.address", i)})
	}
	if path := socketPath(c, dataDir); path != "" {
		all = append(all, slot{name: "socket", into: &s.unix, address: path, unix: true},
			slot{name: "operators", into: &s.adminUnix, address: strings.TrimSuffix(path, ".sock") + ".admin.sock", unix: true},
			slot{name: "handover", into: &s.handover, address: handoverPath(path), unix: true})
	}
	return all
}

// anotherHost: what has a port that cannot be changed can be on another address of this machine.
func anotherHost(setting string) string {
	return setting + ": another host, such as 127.0.0.2 with the same port, in both of mesh.sofarpc and in the address of the application's registry \"mesh\""
}

// bind opens all of them or none, and takes those that others have bound. With later, nothing is accepted until accept.
func bind(c *config.Config, dataDir string, given passed, later bool) (_ *sockets, err error) {
	s := &sockets{}
	defer func() {
		if err != nil {
			s.close()
		}
	}()
	if later {
		s.let = make(chan struct{})
		s.lent.Store(true)
	}
	for _, l := range s.slots(c, dataDir) {
		if l.address == "" {
			continue
		}
		if l.name == "socket" {
			if err := s.takeLock(c, l.address, given); err != nil {
				return nil, err
			}
		}
		ln, kept, err := given.listener(l)
		if ln != nil {
			s.taken = append(s.taken, l.name)
		} else if err == nil {
			ln, err = l.listen()
		}
		if err != nil {
			return nil, err
		}
		if u, ok := ln.(*net.UnixListener); ok && !kept {
			u.SetUnlinkOnClose(false) // it is done last, if at all
			s.paths = append(s.paths, l.address)
		}
		if *l.into = ln; later {
			*l.into = &patient{Listener: ln, let: s.let, closed: make(chan struct{})}
		}
	}
	return s, nil
}

func (l slot) listen() (net.Listener, error) {
	if l.unix {
		return listenUnix(l.address)
	}
	ln, err := net.Listen("tcp", l.address)
	if err != nil {
		return nil, clash(l.what, l.address, l.flag, err)
	}
	return ln, nil
}

// takeLock takes the lock beside the unix sockets, which tells those that were left behind from those that are served.
func (s *sockets) takeLock(c *config.Config, path string, given passed) (err error) {
	if s.lock = given.lock(); s.lock != nil {
		return nil
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return fmt.Errorf("folder of the unix socket: %w; give another data folder with -data-dir", err)
	}
	if s.lock, err = os.OpenFile(path+".lock", os.O_CREATE|os.O_RDWR, 0o600); err != nil {
		return err
	}
	return notLocked(c, path, tryLock(s.lock))
}

func tryLock(f *os.File) (err error) {
	for {
		if err = syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); !errors.Is(err, syscall.EINTR) {
			return err
		}
	}
}

// notLocked says what an error of tryLock means.
func notLocked(c *config.Config, path string, err error) error {
	switch {
	case err == nil:
		return nil
	case errors.Is(err, syscall.EWOULDBLOCK):
		return fmt.Errorf("another sidecar serves application %s/%s on %s: give this one another -app-id or -data-dir, or have it take over with -replace",
			c.App.Namespace, c.App.ID, path)
	}
	return fmt.Errorf("lock %s.lock: %w: unix sockets need a file system with locks; choose another with -data-dir (or api.socket)", path, err)
}

// accept lets what has come meanwhile in.
func (s *sockets) accept() {
	if s.let != nil {
		close(s.let)
		s.lent.Store(false)
	}
}

// patient is a listener that does not accept until it is let to. What comes before waits in the kernel's backlog.
type patient struct {
	net.Listener
	let    <-chan struct{}
	closed chan struct{}
	once   sync.Once
}

func (p *patient) Accept() (net.Conn, error) {
	select {
	case <-p.let:
		return p.Listener.Accept()
	case <-p.closed:
		return nil, net.ErrClosed
	}
}

func (p *patient) Close() error {
	p.once.Do(func() { close(p.closed) })
	return p.Listener.Close()
}

func listenUnix(path string) (net.Listener, error) {
	if len(path) > 107 { // sun_path, unix(7)
		return nil, fmt.Errorf("unix socket %s: its path has %d bytes, 107 are possible: use a shorter -data-dir", path, len(path))
	}
	if err := makeWay(path); err != nil {
		return nil, err
	}
	// Linux gives the file the mode that the socket has, so that there is no moment in which others may connect. Elsewhere the
	// folder, which is made for the owner alone, keeps them out until it has its mode.
	private := net.ListenConfig{Control: func(_, _ string, c syscall.RawConn) error {
		return c.Control(func(fd uintptr) { _ = syscall.Fchmod(int(fd), socketMode) })
	}}
	ln, err := private.Listen(context.Background(), "unix", path)
	if err != nil {
		return nil, err
	}
	if err := os.Chmod(path, socketMode); err != nil {
		return nil, errors.Join(err, ln.Close())
	}
	return ln, nil
}

// makeWay removes a socket that was left behind, and nothing else.
func makeWay(path string) error {
	info, err := os.Lstat(path)
	switch {
	case errors.Is(err, os.ErrNotExist):
		return nil
	case err != nil:
		return err
	case info.Mode().Type() != os.ModeSocket:
		return fmt.Errorf("unix socket %s: there is something else already (%s), which is kept: choose another path for api.socket", path, info.Mode())
	}
	return os.Remove(path)
}

const socketMode = 0o600

// socketPath is where the application's unix socket is; "": it has none.
func socketPath(c *config.Config, dataDir string) string {
	switch c.API.Socket {
	case "none":
		return ""
	case "":
		return filepath.Join(dataDir, "run", c.App.Namespace, c.App.ID+".sock")
	}
	return c.API.Socket
}

func (s *sockets) close() {
	for _, ln := range slices.Concat([]net.Listener{s.http, s.inbound, s.admin, s.probes, s.adminUnix, s.handover}, s.calls()) {
		if ln != nil {
			ln.Close()
		}
	}
	if !s.lent.Load() {
		for _, path := range s.paths { // while the lock is held: nobody else has bound them
			os.Remove(path)
		}
	}
	if s.lock != nil {
		s.lock.Close()
	}
}

// calls are those that the application calls others by, and the API of gRPC.
func (s *sockets) calls() []net.Listener {
	return append([]net.Listener{s.grpc, s.unix, s.outbound, s.control, s.sofaOutbound}, s.tcp...)
}

func portOf(ln net.Listener) int {
	if a, ok := ln.Addr().(*net.TCPAddr); ok {
		return a.Port
	}
	return 0
}

// clash says which port cannot be had, who has it if that can be found, and what to change.
func clash(what, address, flag string, err error) error {
	if !errors.Is(err, syscall.EADDRINUSE) {
		return fmt.Errorf("%s cannot listen on %s: %w", what, address, err)
	}
	by := ""
	if _, port, e := net.SplitHostPort(address); e == nil {
		if n, e := strconv.Atoi(port); e == nil {
			by = holder(n)
			flag += "; 0 picks a free one"
		}
	}
	if strings.Contains(by, "(outrigger") {
		flag += ". If that is the sidecar of the same application, -replace takes its place"
	}
	return fmt.Errorf("%s cannot listen on %s: the port is taken%s; choose another with %s", what, address, by, flag)
}

// holder names the process that listens on a TCP port, as far as /proc tells.
func holder(port int) string {
	inode := ""
	for _, table := range [...]string{"/proc/net/tcp", "/proc/net/tcp6"} {
		text, _ := os.ReadFile(table)
		for line := range strings.Lines(string(text)) {
			f := strings.Fields(line)
			if len(f) > 9 && f[3] == "0A" && strings.HasSuffix(f[1], fmt.Sprintf(":%04X", port)) { // 0A: LISTEN
				inode = f[9]
			}
		}
	}
	if inode == "" {
		return ""
	}
	fds, _ := filepath.Glob("/proc/[0-9]*/fd/*")
	for _, fd := range fds {
		if to, err := os.Readlink(fd); err == nil && to == "socket:["+inode+"]" {
			pid := strings.Split(fd, "/")[2]
			command, _ := os.ReadFile("/proc/" + pid + "/cmdline")
			name, _, _ := strings.Cut(string(command), "\x00")
			return fmt.Sprintf(" by process %s (%s)", pid, filepath.Base(name))
		}
	}
	return ""
}
