package peers

import (
	"bufio"
	"bytes"
	"context"
	"io"
	"net"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/outrigger-mesh/outrigger/integration/echopb"
	"github.com/outrigger-mesh/outrigger/integration/harness"
)

const serverTime = 2 * time.Minute // until it serves, on a busy machine

// testServer calls the language's server with the Go client.
func testServer(t *testing.T, l *language, dir string) {
	port := harness.FreePort(t)
	server := l.serve(t, dir, port, 0)
	before, connections := forward(t, port)
	echo := echopb.NewEchoClient(startPair(t, before).Client().Conn("echo"))
	g := &goClient{echo: echo, connections: connections, instance: l.name, rest: l.idle, canceled: &server.canceled}
	for _, name := range cases {
		t.Run(name, func(t *testing.T) { g.run(t, name) })
	}
}

const renewals = 12 // of the connection to a server that ends old ones

// testMaxAge calls all the time while the server says GOAWAY on each connection that is half a second old: no call may fail.
func testMaxAge(t *testing.T, l *language, dir string) {
	port := harness.FreePort(t)
	l.serve(t, dir, port, 500*time.Millisecond)
	before, connections := forward(t, port)
	echo := echopb.NewEchoClient(startPair(t, before).Client().Conn("echo"))
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	var calls atomic.Int64
	var wait sync.WaitGroup
	for range 16 {
		wait.Go(func() {
			for connections.Load() < renewals && ctx.Err() == nil {
				if _, err := echo.Unary(ctx, &echopb.Message{Text: "x"}); err != nil {
					t.Errorf("call %d: %v", calls.Load(), err)
					return
				}
				calls.Add(1)
			}
		})
	}
	wait.Wait()
	t.Logf("%d calls over %d connections", calls.Load(), connections.Load())
	if connections.Load() < renewals {
		t.Errorf("the server was connected to only %d times", connections.Load())
	}
}

// forward answers a port whose connections go to the one given, and how many of them said something: the sidecar connects
// now and then only to see whether the application is there.
func forward(t *testing.T, port int) (int, *atomic.Int64) {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	said, ended := new(atomic.Int64), make(chan struct{})
	go func() {
		defer close(ended)
		var pipes sync.WaitGroup
		defer pipes.Wait()
		for {
			from, err := ln.Accept()
			if err != nil {
				return
			}
			to, err := net.Dial("tcp", net.JoinHostPort("127.0.0.1", strconv.Itoa(port)))
			if err != nil {
				from.Close()
				continue
			}
			pipes.Go(func() { pipe(to, from, new(atomic.Int64)) })
			pipes.Go(func() { pipe(from, to, said) })
		}
	}()
	t.Cleanup(func() { ln.Close(); <-ended })
	return ln.Addr().(*net.TCPAddr).Port, said
}

// pipe copies until one side has closed, and passes that on. It counts if there was anything.
func pipe(from, to net.Conn, said *atomic.Int64) {
	defer to.(*net.TCPConn).CloseWrite()
	first := make([]byte, 1)
	if _, err := io.ReadFull(from, first); err != nil {
		return
	}
	said.Add(1)
	if _, err := to.Write(first); err == nil {
		io.Copy(to, from)
	}
}

// server is a language's server that runs.
type server struct {
	canceled atomic.Int64 // how often it said that a call ended early
}

// serve starts the server and waits until it says that it serves. It ends with the test.
func (l *language) serve(t *testing.T, dir string, port int, maxAge time.Duration) *server {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	cmd := l.Command(ctx, dir, "server", strconv.Itoa(port), strconv.FormatInt(maxAge.Milliseconds(), 10))
	var log bytes.Buffer
	cmd.Stderr = &log
	out, err := cmd.StdoutPipe()
	if err == nil {
		err = cmd.Start()
	}
	if err != nil {
		cancel()
		t.Fatal(err)
	}
	s, ready, ended := &server{}, make(chan string, 1), make(chan struct{})
	go func() {
		defer close(ended)
		for lines := bufio.NewScanner(out); lines.Scan(); {
			if version, ok := strings.CutPrefix(lines.Text(), "ready "); ok {
				ready <- version
			} else if lines.Text() == "canceled" {
				s.canceled.Add(1)
			}
		}
		cmd.Wait()
	}()
	t.Cleanup(func() {
		cancel()
		<-ended
		if t.Failed() {
			t.Logf("the server printed\n%s", log.Bytes())
		}
	})
	select {
	case version := <-ready:
		t.Logf("server %s", version)
	case <-ended:
		t.Fatalf("the server ended before it served\n%s", log.Bytes())
	case <-time.After(serverTime):
		t.Fatalf("the server did not serve within %s", serverTime)
	}
	return s
}
