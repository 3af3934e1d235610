package client

import (
	"net"
	"strings"
	"testing"
)

func TestParseTarget(t *testing.T) {
	for text, want := range map[string]string{
		"127.0.0.1:7070":    "127.0.0.1:7070",
		":7070":             "127.0.0.1:7070",
		"[::1]:1":           "[::1]:1",
		"unix:/a/b.sock":    "unix:/a/b.sock",
		"unix:///a/b.sock":  "unix:/a/b.sock",
		"unix:relative":     "unix:relative",
		"localhost:http":    "",
		"localhost:0":       "",
		"localhost:65536":   "",
		"localhost":         "",
		"unix:":             "",
		"unix://":           "",
		"unix:/a\x00b.sock": "",
		"":                  "",
	} {
		got, err := parseTarget(text)
		if (err != nil) != (want == "") || err == nil && got.String() != want {
			t.Errorf("%q: %v, %v; want %q", text, got, err, want)
		}
	}
}

func FuzzParseTarget(f *testing.F) {
	for _, text := range []string{"127.0.0.1:7070", "unix:///a", ":1", "[::1%lo]:65535", "unix:", "a:b:c"} {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		one, err := parseTarget(text)
		if err != nil {
			return
		}
		again, err := parseTarget(one.String())
		if err != nil || again != one || one.address == "" {
			t.Fatalf("%q is %+v, which reads as %+v, %v", text, one, again, err)
		}
	})
}

// connected is a connection that says where it leads.
type connected struct {
	net.Conn
	to net.Addr
}

func (c connected) RemoteAddr() net.Addr { return c.to }

func TestTokenStaysLocal(t *testing.T) {
	for address, want := range map[string]bool{
		"127.0.0.1:1": true, "127.8.9.1:1": true, "[::1]:1": true, "[::ffff:127.0.0.1]:1": true,
		"10.0.0.1:1": false, "0.0.0.0:1": false, "[fe80::1]:1": false, "[::ffff:10.0.0.1]:1": false,
	} {
		a, err := net.ResolveTCPAddr("tcp", address)
		if err != nil {
			t.Fatal(err)
		}
		token := newToken(&options{token: "t"})
		token.refresh(connected{to: a}, true)
		md, err := token.GetRequestMetadata(t.Context())
		if err != nil || (md[tokenMetadata] == "t") != want {
			t.Errorf("%s: token sent %v, want %v (%v)", address, md, want, err)
		}
	}
	if !local(&net.UnixAddr{Name: "/a"}) || local(&net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)}) {
		t.Error("a unix socket is local, and nothing else is but loopback TCP")
	}
}

func TestDefaultDataDir(t *testing.T) {
	dir := defaultDataDir()
	if !strings.HasSuffix(dir, "/outrigger") {
		t.Errorf("data folder %q", dir)
	}
}

// Without a home there is no data folder, and the working directory is none.
func TestNoDataDir(t *testing.T) {
	t.Setenv("OUTRIGGER_SOCKET", "")
	t.Setenv("OUTRIGGER_GRPC_ADDR", "")
	for _, app := range []string{"", "orders"} {
		all := (&options{app: app, fallbackAddress: defaultAddress}).candidates(t.Context())
		if len(all) != 2 || all[0].Err == nil || all[0].target != (target{}) || all[1].Address != defaultAddress {
			t.Errorf("with app %q it is looked for at %+v", app, all)
		}
	}
}
