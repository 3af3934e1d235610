package access

import (
	"errors"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/outrigger-mesh/outrigger/components"
)

// accepted makes a connection and answers its accepted side.
func accepted(t *testing.T, network, listen, dialNetwork, dial string) net.Conn {
	t.Helper()
	ln, err := net.Listen(network, listen)
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	if dial == "" {
		dial = ln.Addr().String()
	} else {
		dial = net.JoinHostPort(dial, strconv.Itoa(ln.Addr().(*net.TCPAddr).Port))
	}
	client, err := net.Dial(dialNetwork, dial)
	if err != nil {
		t.Fatal(err)
	}
	server, err := ln.Accept()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { client.Close(); server.Close() })
	return server
}

func none(string) string { return "" }

func TestOwnUserPassesOnLoopback(t *testing.T) {
	for name, nc := range map[string]net.Conn{
		"IPv4":               accepted(t, "tcp4", "127.0.0.1:0", "tcp4", ""),
		"IPv6":               accepted(t, "tcp6", "[::1]:0", "tcp6", ""),
		"IPv4 to dual stack": accepted(t, "tcp", "[::]:0", "tcp4", "127.0.0.1"),
	} {
		t.Run(name, func(t *testing.T) {
			p := &Policy{Mode: SameUser}
			peer := p.Identify(nc)
			if peer.Err != nil || peer.UID != os.Geteuid() {
				t.Fatalf("peer %+v", peer)
			}
			if err := p.Admit(peer, none); err != nil {
				t.Fatal(err)
			}
		})
	}
}

func TestOwnUserPassesOnTheSocket(t *testing.T) {
	for _, mode := range []Mode{SameUser, TokenAll, Any} {
		p := &Policy{Mode: mode}
		peer := p.Identify(accepted(t, "unix", filepath.Join(t.TempDir(), "s"), "unix", ""))
		if err := p.Admit(peer, none); err != nil || peer.UID != os.Geteuid() {
			t.Errorf("%s: %+v: %v", mode, peer, err)
		}
	}
}

func TestTokenModeAsksTheOwnUserToo(t *testing.T) {
	p := &Policy{Mode: TokenAll, Token: NewToken("open")}
	peer := p.Identify(accepted(t, "tcp4", "127.0.0.1:0", "tcp4", ""))
	for _, c := range []struct {
		name, header, value string
		want                components.Reason
	}{
		{"nothing", "", "", ReasonTokenRequired},
		{"the token", TokenHeader, "open", ""},
		{"another token", TokenHeader, "opeN", ReasonTokenInvalid},
		{"a longer one", TokenHeader, "open open", ReasonTokenInvalid},
		{"bearer", "authorization", "Bearer open", ""},
		{"bearer in lower case", "authorization", "bearer open", ""},
		{"another bearer", "authorization", "Bearer no", ReasonTokenInvalid},
		{"another scheme", "authorization", "Basic open", ReasonTokenRequired},
		{"a bare word", "authorization", "open", ReasonTokenRequired},
	} {
		err := p.Admit(peer, func(name string) string {
			if name == c.header {
				return c.value
			}
			return ""
		})
		if got := reason(err); got != c.want || (c.want != "") != errors.Is(err, components.ErrUnauthenticated) {
			t.Errorf("%s: %v, reason %q, want %q", c.name, err, got, c.want)
		}
	}
}

func TestAnyAsksNobody(t *testing.T) {
	p := &Policy{Mode: Any}
	if err := p.Admit(p.Identify(accepted(t, "tcp4", "127.0.0.1:0", "tcp4", "")), none); err != nil {
		t.Fatal(err)
	}
}

func TestUnknownPeerNeedsTheToken(t *testing.T) {
	near, far := net.Pipe() // no TCP: nobody can say who is there
	defer near.Close()
	defer far.Close()
	p := &Policy{Mode: SameUser, Token: NewToken("open")}
	peer := p.Identify(near)
	if err := p.Admit(peer, none); reason(err) != ReasonTokenRequired {
		t.Fatal(err)
	}
	if err := p.Admit(peer, func(string) string { return "open" }); err != nil {
		t.Fatal(err)
	}
}

func TestNoTokenOpensNothing(t *testing.T) {
	p := &Policy{Mode: TokenAll}
	if err := p.Admit(Peer{UID: -1}, func(string) string { return "any" }); reason(err) != ReasonTokenInvalid {
		t.Fatal(err)
	}
}

func TestForeignUserOnTheSocketIsDenied(t *testing.T) {
	p := &Policy{Mode: Any, Token: NewToken("open")}
	err := p.Admit(Peer{UID: 65534, Unix: true}, func(string) string { return "open" })
	if !errors.Is(err, components.ErrDenied) || reason(err) != ReasonUserDenied || !strings.Contains(err.Error(), "65534") {
		t.Fatal(err)
	}
}

func reason(err error) components.Reason {
	var d *components.Detail
	if errors.As(err, &d) {
		return d.Reason
	}
	return ""
}
