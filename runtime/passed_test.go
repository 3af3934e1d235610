package runtime

import (
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// descriptors opens so many, one number after the other.
func descriptors(t *testing.T, first, n int) {
	t.Helper()
	for fd := first; fd < first+n; fd++ {
		if got, err := unix.FcntlInt(0, unix.F_DUPFD_CLOEXEC, fd); err != nil || got != fd {
			t.Fatalf("descriptor %d, %v", got, err)
		}
	}
}

func TestNamesOfSystemd(t *testing.T) {
	for i, c := range []struct {
		n           int
		names, want string
	}{
		{0, "", ""}, {2, "grpc:inbound", ""}, {1, "socket", ""},
		{1, "grcp", "FileDescriptorName="}, {2, "grpc:grpc", "of its own"}, {1, "grpc:http", "of its own"}, {2, "grpc", "1 names for 2"},
		{1, "", "of its own"}, {1, "outrigger.socket", "outbound"}, {1, "lock", "FileDescriptorName="},
	} {
		first := 200 + 10*i
		descriptors(t, first, c.n)
		p, err := named(first, c.n, c.names)
		if c.want == "" && (err != nil || len(p) != c.n) || c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want)) {
			t.Errorf("%d sockets named %q: %v, %v", c.n, c.names, p, err)
		}
		p.close()
		for fd := first; fd < first+c.n; fd++ {
			unix.Close(fd) // what a fault has left
		}
	}
}

func TestActivationIsForOneProcess(t *testing.T) {
	t.Setenv("LISTEN_FDS", "x")
	t.Setenv("LISTEN_PID", "1")
	if p, err := activated(); err != nil || len(p) != 0 {
		t.Errorf("another process's: %v, %v", p, err)
	}
	t.Setenv("LISTEN_PID", strconv.Itoa(os.Getpid()))
	if _, err := activated(); err == nil || !strings.Contains(err.Error(), `"x"`) {
		t.Error(err)
	}
	if os.Getenv("LISTEN_PID") != "" || os.Getenv("LISTEN_FDS") != "" {
		t.Error("the environment is left for what is started")
	}
}

func TestPassedListener(t *testing.T) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	f, err := ln.(*net.TCPListener).File()
	if err != nil {
		t.Fatal(err)
	}
	plain, err := os.Create(filepath.Join(t.TempDir(), "f"))
	if err != nil {
		t.Fatal(err)
	}
	p := passed{"grpc": {file: f, address: "127.0.0.1:0"}, "http": {file: f}, "admin": {file: plain}}
	defer p.close()
	port := strconv.Itoa(portOf(ln))
	for _, c := range []struct {
		name, address string
		taken         bool
	}{
		{"grpc", "127.0.0.1:0", true}, {"grpc", "127.0.0.1:" + port, true}, {"grpc", "localhost:" + port, true},
		{"grpc", "127.0.0.1:1", false}, {"grpc", ":" + port, false}, {"http", "127.0.0.1:1", true}, {"probes", "127.0.0.1:1", false},
	} {
		got, _, err := p.listener(slot{name: c.name, address: c.address})
		if err != nil || (got != nil) != c.taken {
			t.Errorf("%s at %s: %v, %v", c.name, c.address, got, err)
		}
		if got != nil {
			got.Close()
		}
	}
	if _, _, err := p.listener(slot{name: "admin"}); err == nil || !strings.Contains(err.Error(), `"admin"`) {
		t.Errorf("a file is taken for a socket: %v", err)
	}
}

// Whatever the other side writes is a message of the format or an error.
func FuzzHandover(f *testing.F) {
	f.Add([]byte(`{"handover":1,"version":"v1","pid":7}` + "\n"))
	f.Add([]byte(`{"handover":1,"sockets":[{"name":"grpc","address":"127.0.0.1:0"}]}` + "\n{}\n"))
	f.Add([]byte(`{"handover":2}` + "\n"))
	f.Add([]byte("\n"))
	f.Fuzz(func(t *testing.T, text []byte) {
		l := &link{buf: append(text, '\n')}
		m, err := l.receive()
		if err == nil && m.Handover != handoverFormat {
			t.Fatalf("%q was taken for %+v", text, m)
		}
	})
}
