package runtime

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"

	"github.com/outrigger-mesh/outrigger/runtime/config"
)

// sockets are all that the sidecar listens on; they are bound before anything else is started.
type sockets struct {
	grpc, http, outbound, inbound, admin, probes, unix, adminUnix net.Listener
	lock                                                          *os.File // of the unix sockets
}

// bind opens all of them or none.
func bind(c *config.Config, dataDir string) (_ *sockets, err error) {
	s := &sockets{}
	defer func() {
		if err != nil {
			s.close()
		}
	}()
	for _, l := range []struct {
		into                *net.Listener
		what, address, flag string
	}{
		{&s.grpc, "the gRPC API", c.API.GRPC, "-grpc-port (api.grpc)"},
		{&s.http, "the HTTP API", c.API.HTTP, "-http-port (api.http)"},
		{&s.admin, "admin", c.Admin.Address, "-admin-port (admin.address)"},
		{&s.inbound, "inbound", c.Mesh.Inbound.Address, "-inbound-port (mesh.inbound.address)"},
		{&s.outbound, "outbound", c.Mesh.Outbound.Address, "-outbound-port (mesh.outbound.address)"},
		{&s.probes, "probes", c.Admin.Probes, "admin.probes"},
	} {
		if l.address == "" {
			continue
		}
		if *l.into, err = net.Listen("tcp", l.address); err != nil {
			return nil, clash(l.what, l.address, l.flag, err)
		}
	}
	return s, s.bindUnix(c, dataDir)
}

// bindUnix opens the application's own door and the operator's. A lock beside them tells a socket that was left behind
// from one that is served.
func (s *sockets) bindUnix(c *config.Config, dataDir string) (err error) {
	if c.API.Socket == "none" {
		return nil
	}
	path := socketPath(c, dataDir)
	dir := filepath.Dir(path)
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return fmt.Errorf("folder of the unix socket: %w", err)
	}
	if s.lock, err = os.OpenFile(path+".lock", os.O_CREATE|os.O_RDWR, 0o600); err != nil {
		return err
	}
	if err := syscall.Flock(int(s.lock.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		return fmt.Errorf("another sidecar serves application %s/%s on %s: give this one another -app-id or -data-dir", c.App.Namespace, c.App.ID, path)
	}
	if s.unix, err = listenUnix(path); err != nil {
		return err
	}
	s.adminUnix, err = listenUnix(strings.TrimSuffix(path, ".sock") + ".admin.sock")
	return err
}

func listenUnix(path string) (net.Listener, error) {
	if len(path) > 107 { // sun_path, unix(7)
		return nil, fmt.Errorf("unix socket %s: its path has %d bytes, 107 are possible: use a shorter -data-dir", path, len(path))
	}
	if err := os.Remove(path); err != nil && !errors.Is(err, os.ErrNotExist) {
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

const socketMode = 0o600

func socketPath(c *config.Config, dataDir string) string {
	if c.API.Socket != "" {
		return c.API.Socket
	}
	return filepath.Join(dataDir, "run", c.App.Namespace, c.App.ID+".sock")
}

func (s *sockets) close() {
	for _, ln := range []net.Listener{s.grpc, s.http, s.outbound, s.inbound, s.admin, s.probes, s.unix, s.adminUnix} {
		if ln != nil {
			ln.Close()
		}
	}
	if s.lock != nil {
		s.lock.Close()
	}
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
		}
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
