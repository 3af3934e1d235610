package peers

import (
	"bufio"
	"bytes"
	"context"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/outrigger-mesh/outrigger/integration/echopb"
	"github.com/outrigger-mesh/outrigger/integration/harness"
)

const serverTime = time.Minute // until it serves, on a busy machine

// testServer calls the language's server with the Go client.
func testServer(t *testing.T, l *language, dir string) {
	port := harness.FreePort(t)
	server := l.serve(t, dir, port)
	echo := echopb.NewEchoClient(startPair(t, port).Client().Conn("echo"))
	g := &goClient{echo: echo, instance: l.name, canceled: &server.canceled}
	for _, name := range cases {
		t.Run(name, func(t *testing.T) { g.run(t, name) })
	}
}

// server is a language's server that runs.
type server struct {
	canceled atomic.Int64 // how often it said that a call ended early
}

// serve starts the server and waits until it says that it serves. It ends with the test.
func (l *language) serve(t *testing.T, dir string, port int) *server {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	cmd := l.command(ctx, dir, "server", strconv.Itoa(port))
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
