package runtime

import (
	"fmt"
	"maps"
	"net"
	"os"
	"slices"
	"strconv"
	"strings"
	"syscall"
)

// passed are sockets, and their lock, that somebody else has opened: the sidecar that ran before, or systemd. A listener is a
// copy of what was passed.
type passed map[string]descriptor

type descriptor struct {
	file    *os.File
	address string // it was configured with; "": it is taken whatever is configured
	kept    bool   // its path stays when the sidecar ends
}

const lockName = "lock" // beside the names of slots

// listener takes the one for a slot: nil if none was passed that has the slot's address.
func (p passed) listener(l slot) (_ net.Listener, kept bool, err error) {
	d, ok := p[l.name]
	if !ok {
		return nil, false, nil
	}
	ln, err := net.FileListener(d.file)
	if err != nil {
		return nil, false, fmt.Errorf("the socket %q that was passed is none to listen on: %w", l.name, err)
	}
	if d.address != "" && d.address != l.address && !l.unix && !boundTo(ln, l.address) {
		return nil, false, ln.Close()
	}
	return ln, d.kept, nil
}

func boundTo(ln net.Listener, address string) bool {
	a, err := net.ResolveTCPAddr("tcp", address)
	return err == nil && a.String() == ln.Addr().String()
}

func (p passed) lock() *os.File {
	d := p[lockName]
	delete(p, lockName)
	return d.file
}

func (p passed) close() {
	for _, d := range p {
		d.file.Close()
	}
}

// firstPassed is where systemd begins to pass descriptors, sd_listen_fds(3).
const firstPassed = 3

// activated takes the sockets that systemd has passed, named as FileDescriptorName= says. The environment that tells of them is
// cleared: it is not meant for what the sidecar starts.
func activated() (passed, error) {
	pid, count, names := os.Getenv("LISTEN_PID"), os.Getenv("LISTEN_FDS"), os.Getenv("LISTEN_FDNAMES")
	if pid != strconv.Itoa(os.Getpid()) {
		return passed{}, nil
	}
	for _, name := range []string{"LISTEN_PID", "LISTEN_FDS", "LISTEN_FDNAMES"} {
		os.Unsetenv(name)
	}
	n, err := strconv.Atoi(count)
	if err != nil || n < 0 {
		return nil, fmt.Errorf("LISTEN_FDS=%q is no number of sockets", count)
	}
	for fd := firstPassed; fd < firstPassed+n; fd++ {
		syscall.CloseOnExec(fd)
	}
	return named(firstPassed, n, names)
}

// activatable are the slots that systemd may pass.
var activatable = []string{"grpc", "http", "admin", "inbound", "outbound", "probes", "socket"}

func named(first, n int, names string) (passed, error) {
	list := strings.Split(names, ":")
	if n == 0 {
		list = nil
	}
	p := passed{}
	for i, name := range list {
		if _, twice := p[name]; twice || !slices.Contains(activatable, name) || i >= n {
			p.close()
			return nil, fmt.Errorf("LISTEN_FDNAMES=%q: each passed socket needs a name of its own, by FileDescriptorName=, of %s", names, strings.Join(activatable, ", "))
		}
		p[name] = descriptor{file: os.NewFile(uintptr(first+i), name), kept: true}
	}
	if len(p) != n {
		p.close()
		return nil, fmt.Errorf("LISTEN_FDNAMES=%q has %d names for %d sockets", names, len(p), n)
	}
	return p, nil
}

// with adds what others pass, where nothing is passed yet.
func (p passed) with(others passed) passed {
	all := maps.Clone(p)
	for name, d := range others {
		if _, taken := all[name]; taken {
			d.file.Close()
		} else {
			all[name] = d
		}
	}
	return all
}
