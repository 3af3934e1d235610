package grpcproxy

import (
	"context"
	"strings"
	"testing"
	"time"
)

// client is the relay's end of the connection of the only client.
func (e *env) client() (only *conn) {
	e.t.Helper()
	eventually(e.t, "a client", func() bool {
		e.r.mu.Lock()
		defer e.r.mu.Unlock()
		for c := range e.r.conns {
			if c.up == nil {
				only = c
			}
		}
		return only != nil
	})
	return only
}

// dropped holds that a client that reads nothing is dropped, before much more than writeLimit has gathered for it.
func dropped(t *testing.T, c *conn) {
	t.Helper()
	for end := time.Now().Add(30 * time.Second); ; time.Sleep(time.Millisecond) {
		c.mu.Lock()
		n, gone := len(c.out), c.closed
		c.mu.Unlock()
		if n > 2*writeLimit || time.Now().After(end) {
			t.Fatalf("%d bytes wait for a client that reads nothing, and it was dropped: %v", n, gone)
		}
		if gone {
			return
		}
	}
}

// A request that has ended is answered without a frame more than that: nothing but its header list gathers.
func TestUnreadStatusesAreBounded(t *testing.T) {
	e := newEnv(t, func(r *Relay) {
		r.Route = func(*Headers) (*Upstream, error) {
			return nil, &Error{Code: grpcDenied, Message: strings.Repeat("no", 6000), Reason: ReasonDenied}
		}
	})
	c := rawClient(t, e.addr)
	relays := e.client()
	go func() {
		var b []byte
		for i := uint32(0); c.write(b) == nil; i++ {
			b = c.appendRequest(b[:0], 2*i+1, true)
		}
	}()
	dropped(t, relays)
}

// Nor do answers to what was asked long before gather without an end.
func TestUnreadAnswersOfManyAreBounded(t *testing.T) {
	const calls = 8000
	goOn := make(chan struct{})
	e := newEnv(t, func(r *Relay) {
		r.MaxStreams, r.MaxQueue, r.MaxWorkers = calls, calls, 64
		r.Unary("/test.Echo/Local", Method{Blocking: true, Handler: func(_ context.Context, _, resp []byte) ([]byte, *Status) {
			<-goOn
			return resp, &Status{Code: grpcDenied, Message: strings.Repeat("no", 6000)}
		}})
	})
	c := rawClient(t, e.addr)
	for i := range uint32(calls) {
		c.localCall(2*i+1, "/test.Echo/Local")
	}
	eventually(t, "all calls run", func() bool { return e.r.Stats().Streams == calls })
	close(goOn)
	dropped(t, e.client())
}
