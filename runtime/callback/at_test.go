package callback_test

import (
	"context"
	"net"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	invocationv1 "github.com/outrigger-mesh/outrigger/proto/outrigger/invocation/v1"
	"github.com/outrigger-mesh/outrigger/runtime/callback"
)

func TestAt(t *testing.T) {
	s := startCounted(t)
	a := newApp(t, "http", 0)
	if err := s.call(t, a, s.port, "s/go"); err != nil {
		t.Error(err)
	}
	if err := s.call(t, a, 0, "s/go"); reason(err) != callback.ReasonNoAppPort {
		t.Errorf("where nobody told a port: %v", err)
	}
}

// An application that comes back at another port each time leaves no connection behind but those that calls are under way on.
func TestPortsAreForgotten(t *testing.T) {
	for _, protocol := range []string{"http", "grpc"} {
		t.Run(protocol, func(t *testing.T) {
			a := newApp(t, protocol, 0)
			var servers []*counted
			for range 4 {
				servers = append(servers, startCounted(t))
			}
			first, last := servers[0], servers[3]
			over := make(chan error, 1)
			go func() { over <- first.call(t, a, first.port, "s/wait") }()
			select {
			case <-first.waiting:
			case err := <-over:
				t.Fatal(err)
			}
			for _, s := range servers[1:] {
				for range 2 {
					if err := s.call(t, a, s.port, "s/go"); err != nil {
						t.Fatal(err)
					}
				}
				if n := s.opened.Load(); n != 1 {
					t.Errorf("%d connections were made for two calls", n)
				}
			}
			first.answer <- struct{}{}
			if err := <-over; err != nil {
				t.Errorf("a call that was under way at the first port: %v", err)
			}
			for _, s := range servers[:3] {
				select {
				case <-s.closed:
				case <-time.After(20 * time.Second):
					t.Error("there is a connection to a port at which nothing is served")
				}
			}
			if len(last.closed) > 0 {
				t.Error("the one to the last port was closed")
			}
		})
	}
}

// One that is called when the sidecar is about to end, or was being called then, is left no connection.
func TestPortsAfterClose(t *testing.T) {
	a := newApp(t, "http", 0)
	before, after := startCounted(t), startCounted(t)
	over := make(chan error, 1)
	go func() { over <- before.call(t, a, before.port, "s/wait") }()
	select {
	case <-before.waiting:
	case err := <-over:
		t.Fatal(err)
	}
	a.Close()
	before.answer <- struct{}{}
	if err := <-over; err != nil {
		t.Errorf("a call that was under way: %v", err)
	}
	if err := after.call(t, a, after.port, "s/go"); err != nil {
		t.Errorf("a call that begins then: %v", err)
	}
	for _, s := range []*counted{before, after} {
		select {
		case <-s.closed:
		case <-time.After(20 * time.Second):
			t.Error("a connection is left")
		}
	}
}

// counted is an application that speaks both protocols, and sees connections come and go.
type counted struct {
	port                    int
	opened                  atomic.Int64
	closed, waiting, answer chan struct{}
}

func startCounted(t *testing.T) *counted {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	c := &counted{port: ln.Addr().(*net.TCPAddr).Port, closed: make(chan struct{}, 10), waiting: make(chan struct{}, 10), answer: make(chan struct{}, 10)}
	both := &http.Protocols{}
	both.SetHTTP1(true)
	both.SetUnencryptedHTTP2(true)
	s, done := &http.Server{Protocols: both, Handler: c, ConnState: c.state}, make(chan error, 1)
	go func() { done <- s.Serve(ln) }()
	t.Cleanup(func() { s.Close(); <-done })
	return c
}

func (c *counted) state(_ net.Conn, s http.ConnState) {
	switch s {
	case http.StateNew:
		c.opened.Add(1)
	case http.StateClosed:
		c.closed <- struct{}{}
	}
}

func (c *counted) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if strings.HasSuffix(r.URL.Path, "wait") {
		c.waiting <- struct{}{}
		<-c.answer
	}
	if r.ProtoMajor == 2 {
		w.Header().Set("Content-Type", "application/grpc")
		w.Header().Set("Trailer", "Grpc-Status")
		_, _ = w.Write(make([]byte, 5)) // an empty message
		w.Header().Set("Grpc-Status", "0")
	}
}

// call is one of an application that serves nothing at another port.
func (c *counted) call(t *testing.T, a *callback.App, port int, method string) error {
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	_, err := a.At("", port, func(port int) bool { return port == c.port }).Invoke(ctx, &invocationv1.InvokeRequest{Method: method}, nil)
	return err
}

// Where the application speaks something else at a port than what it was made with, it is called so.
func TestAtByAnotherProtocol(t *testing.T) {
	s := startCounted(t)
	for _, own := range []string{"http", "grpc"} {
		a := newApp(t, own, s.port)
		for protocol, want := range map[string]string{"": own, "http": "http", "grpc": "grpc"} {
			out, err := a.At(protocol, s.port, func(int) bool { return true }).Invoke(within(t, 20*time.Second), &invocationv1.InvokeRequest{Method: "s/go"}, nil)
			if was := map[bool]string{true: "grpc", false: "http"}[out.GetHttpStatus() == 0]; err != nil || was != want {
				t.Errorf("an application of %s was called by %s for %q: %v", own, was, protocol, err)
			}
		}
	}
}

func TestForGRPC(t *testing.T) {
	for method, want := range map[string]bool{"shop.v1.Stock/Get": true, "/Stock/Get": true, "left": false, "orders/7": false, "a/b/c": false, "a.b/c?d": false,
		"a..b/c": false, "a.B/": false, "/": false, "": false} {
		if callback.ForGRPC(&invocationv1.InvokeRequest{Method: method}) != want {
			t.Errorf("%q: not %v", method, want)
		}
		if callback.ForGRPC(&invocationv1.InvokeRequest{Method: method, Verb: "GET"}) || callback.ForGRPC(&invocationv1.InvokeRequest{Method: method, ContentType: "text/plain"}) {
			t.Errorf("%q of HTTP is one of gRPC", method)
		}
	}
}
