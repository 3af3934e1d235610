package integration

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"testing"
	"time"

	"github.com/outrigger-mesh/outrigger/integration/echopb"
	"github.com/outrigger-mesh/outrigger/integration/harness"
)

const (
	idleConns = 10_000
	idleBytes = 64 << 10 // that each may cost the sidecar
)

// idle makes connections, each of which says what makes it one of the protocol, and looks what they cost when call has been made some times.
func idle(t *testing.T, s *harness.Sidecar, protocol string, begin func(nc net.Conn) error, call func() error) {
	t.Helper()
	raise(t, idleConns+2000)
	before := s.RSS()
	var conns []net.Conn
	t.Cleanup(func() {
		for _, nc := range conns {
			nc.Close()
		}
	})
	for range idleConns {
		nc, err := net.Dial("tcp", s.Inbound)
		if err != nil {
			t.Fatal(err)
		}
		conns = append(conns, nc)
		if err := begin(nc); err != nil {
			t.Fatal(err)
		}
	}
	for range 20 {
		if err := call(); err != nil {
			t.Fatal(err)
		}
	}
	grown := s.RSS() - before
	fmt.Printf("idle connections of %s: %d cost the sidecar %d KiB, %d bytes each\n", protocol, idleConns, grown>>10, grown/idleConns)
	if grown/idleConns > idleBytes {
		t.Fatalf("each idle connection costs %d bytes", grown/idleConns)
	}
}

func TestManyIdleConnections(t *testing.T) {
	p := newPair(t)
	idle(t, p.callee, "gRPC", func(nc net.Conn) error {
		_, err := io.WriteString(nc, "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\x00\x00\x00\x04\x00\x00\x00\x00\x00") // preface, SETTINGS
		return err
	}, func() error {
		_, err := p.echo.Unary(within(t, 20*time.Second), &echopb.Message{})
		return err
	})
}

// Clients that keep their connections, each after a request of its own.
func TestManyIdleHTTPConnections(t *testing.T) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	app := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { io.WriteString(w, "fine") })}
	go app.Serve(ln)
	t.Cleanup(func() { app.Close() })
	s := harness.Start(t, harness.Options{App: "web", AppPort: ln.Addr().(*net.TCPAddr).Port, Protocol: "http"})
	get := func(nc net.Conn) error {
		nc.SetDeadline(time.Now().Add(20 * time.Second))
		if _, err := io.WriteString(nc, "GET / HTTP/1.1\r\nHost: web\r\n\r\n"); err != nil {
			return err
		}
		res, err := http.ReadResponse(bufio.NewReader(nc), nil)
		if err != nil {
			return err
		}
		text, err := io.ReadAll(res.Body)
		if err == nil && (res.StatusCode != http.StatusOK || string(text) != "fine" || res.Close) {
			err = fmt.Errorf("%s, closed %v: %s", res.Status, res.Close, text)
		}
		return err
	}
	first, err := net.Dial("tcp", s.Inbound) // is there before the others, and is used beside them
	if err != nil {
		t.Fatal(err)
	}
	defer first.Close()
	harness.Eventually(t, 20*time.Second, func() error { return get(first) })
	idle(t, s, "HTTP", get, func() error { return get(first) })
}
