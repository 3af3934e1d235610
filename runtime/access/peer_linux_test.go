package access

import (
	"bytes"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

const nobody = 65534

// The test binary is its own other user: with this set it dials and writes, then waits for the end of its input, or does not.
const dialEnv = "OUTRIGGER_TEST_DIAL"

func TestMain(m *testing.M) {
	if addr := os.Getenv(dialEnv); addr != "" {
		os.Exit(dialer(addr))
	}
	os.Exit(m.Run())
}

func dialer(spec string) int {
	network, addr, _ := strings.Cut(spec, ",")
	nc, err := net.Dial(network, addr)
	if err == nil {
		_, err = io.WriteString(nc, "hello")
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	io.Copy(io.Discard, os.Stdin)
	return 0
}

// otherUser accepts a connection of another user of the machine; gone closes that user's side. Who is not root cannot become
// another user: then the test is skipped, but for CI.
func otherUser(t *testing.T, network, listen string) (server net.Conn, gone func()) {
	t.Helper()
	if os.Geteuid() != 0 {
		const why = "a connection of another user needs root"
		if os.Getenv("CI") != "" { // where nothing is left out
			t.Fatal(why)
		}
		t.Skip(why)
	}
	ln, err := net.Listen(network, listen)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { ln.Close() })
	var stderr bytes.Buffer
	cmd := exec.Command("/proc/self/exe")
	cmd.Env = []string{dialEnv + "=" + ln.Addr().Network() + "," + ln.Addr().String()}
	cmd.Dir, cmd.Stderr = "/", &stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: nobody, Gid: nobody}}
	stdin, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err = cmd.Start(); err != nil {
		t.Fatalf("start as uid %d: %v", nobody, err)
	}
	gone = func() { stdin.Close(); cmd.Wait() }
	t.Cleanup(gone)
	ln.(interface{ SetDeadline(time.Time) error }).SetDeadline(time.Now().Add(20 * time.Second))
	if server, err = ln.Accept(); err != nil {
		gone()
		t.Fatalf("uid %d did not come: %v: %s", nobody, err, stderr.String())
	}
	t.Cleanup(func() { server.Close() })
	return server, gone
}

func TestAnotherUserIsRefused(t *testing.T) {
	p := &Policy{Mode: SameUser, Token: NewToken("open")}
	needsToken := func(t *testing.T, peer Peer) {
		t.Helper()
		if peer.UID != nobody || peer.Err != nil {
			t.Fatalf("peer %+v", peer)
		}
		err := p.Admit(peer, none)
		if reason(err) != ReasonTokenRequired || !strings.Contains(err.Error(), "user 65534") {
			t.Error(err)
		}
		if err = p.Admit(peer, func(string) string { return "open" }); err != nil {
			t.Error(err)
		}
	}
	t.Run("made up", func(t *testing.T) { needsToken(t, Peer{UID: nobody}) })
	for _, listen := range []string{"127.0.0.1:0", "[::1]:0"} {
		t.Run(listen, func(t *testing.T) {
			nc, _ := otherUser(t, "tcp", listen)
			needsToken(t, p.Identify(nc))
		})
	}
}

// A peer that closes before it is looked up leaves an orphan, which the kernel lists as root's.
func TestOrphanIsNotRoot(t *testing.T) {
	nc, gone := otherUser(t, "tcp", "127.0.0.1:0")
	gone()
	p := &Policy{Mode: SameUser}
	if peer := p.Identify(nc); peer.Err == nil || p.Admit(peer, none) == nil {
		t.Fatalf("let in: %+v", peer)
	}
}

func TestAnotherUserOnTheSocketIsDenied(t *testing.T) {
	dir, err := os.MkdirTemp("", "access")
	if err != nil {
		t.Fatal(err)
	}
	defer os.RemoveAll(dir)
	path := dir + "/s"
	go func() { // opened wide, for the peer's credentials alone to refuse
		for range 1000 {
			if os.Chmod(path, 0o777) == nil && os.Chmod(dir, 0o755) == nil {
				return
			}
			time.Sleep(time.Millisecond)
		}
	}()
	defer syscall.Umask(syscall.Umask(0))
	nc, _ := otherUser(t, "unix", path)
	p := &Policy{Mode: Any}
	peer := p.Identify(nc)
	if err := p.Admit(peer, none); peer.UID != nobody || reason(err) != ReasonUserDenied {
		t.Fatalf("%+v: %v", peer, err)
	}
}

// A runtime such as Java's speaks IPv4 from a socket of IPv6.
func TestMappedSocketIsFound(t *testing.T) {
	ln, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	fd, err := unix.Socket(unix.AF_INET6, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(fd)
	to := &unix.SockaddrInet6{Port: ln.Addr().(*net.TCPAddr).Port, Addr: netip.MustParseAddr("::ffff:127.0.0.1").As16()}
	if err = unix.Connect(fd, to); err != nil {
		t.Fatal(err)
	}
	nc, err := ln.Accept()
	if err != nil {
		t.Fatal(err)
	}
	defer nc.Close()
	peer, local := ends(t, nc)
	for name, find := range finders {
		if uid, err := find(peer, local); err != nil || uid != os.Geteuid() {
			t.Errorf("%s: %d %v", name, uid, err)
		}
	}
}

var finders = map[string]func(local, remote netip.AddrPort) (int, error){"sock_diag": sockDiag, "/proc/net": procNet}

func ends(t *testing.T, nc net.Conn) (peer, local netip.AddrPort) {
	t.Helper()
	peer, err := addrPort(nc.RemoteAddr())
	if err != nil {
		t.Fatal(err)
	}
	if local, err = addrPort(nc.LocalAddr()); err != nil {
		t.Fatal(err)
	}
	return peer, local
}

func TestBothWaysToFindAPeerAgree(t *testing.T) {
	for _, listen := range []string{"127.0.0.1:0", "[::1]:0"} {
		t.Run("own user "+listen, func(t *testing.T) { bothFind(t, accepted(t, "tcp", listen, "tcp", ""), os.Geteuid()) })
		t.Run("another user "+listen, func(t *testing.T) {
			nc, gone := otherUser(t, "tcp", listen)
			bothFind(t, nc, nobody)
			gone()
			peer, local := ends(t, nc)
			for name, find := range finders {
				if uid, err := find(peer, local); err == nil {
					t.Errorf("%s: an orphan is user %d's", name, uid)
				}
			}
		})
	}
}

func bothFind(t *testing.T, nc net.Conn, want int) {
	t.Helper()
	peer, local := ends(t, nc)
	for name, find := range finders {
		if uid, err := find(peer, local); err != nil || uid != want {
			t.Errorf("%s: %d %v", name, uid, err)
		}
		if uid, err := find(netip.AddrPortFrom(peer.Addr(), peer.Port()^1), local); err == nil {
			t.Errorf("%s: another port is user %d's", name, uid)
		}
	}
}
