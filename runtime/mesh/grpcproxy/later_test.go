package grpcproxy

import (
	"context"
	"sync"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// late is a service whose calls are ended by whoever takes them from it.
type late struct {
	ends chan func(func([]byte) ([]byte, *Status))
	ctx  chan context.Context
}

func (l *late) handle(ctx context.Context, _, resp []byte) ([]byte, *Status) {
	end := FromContext(ctx).Later()
	l.ctx <- ctx
	l.ends <- end
	return resp, AnswerLater
}

func newLate(t *testing.T) (*late, *env) {
	l := &late{make(chan func(func([]byte) ([]byte, *Status)), 10), make(chan context.Context, 10)}
	return l, newEnv(t, func(r *Relay) {
		r.Unary("/test.Echo/Late", Method{Handler: l.handle})
		r.Unary("/test.Echo/Broken", Method{Handler: func(ctx context.Context, _, resp []byte) ([]byte, *Status) {
			end := FromContext(ctx).Later()
			defer end(empty) // what comes after the answer is void
			panic("as asked")
		}})
		r.Unary("/test.Echo/Now", Method{Handler: func(ctx context.Context, _, resp []byte) ([]byte, *Status) {
			FromContext(ctx).Later()(empty)
			return resp, AnswerLater
		}})
	})
}

func empty(resp []byte) ([]byte, *Status) { return resp, nil }

// Calls that answer later keep nobody waiting, come to their end in any order, and by any goroutine.
func TestAnswersLater(t *testing.T) {
	l, e := newLate(t)
	c := rawClient(t, e.addr)
	for id := uint32(1); id < 8; id += 2 {
		c.localCall(id, "/test.Echo/Late")
	}
	c.localCall(9, "/test.Echo/Now")
	if s := c.status(9); s != "0" {
		t.Fatal("a call behind those that wait:", s)
	}
	var ends []func(func([]byte) ([]byte, *Status))
	for range 4 {
		ends = append(ends, <-l.ends)
	}
	ends[3](func(resp []byte) ([]byte, *Status) { return resp, &Status{Code: 5, Message: "nothing"} })
	if s := c.status(7); s != "5" {
		t.Fatal(s)
	}
	ends[2](func([]byte) ([]byte, *Status) { panic("as asked") })
	if s := c.status(5); s != "13" {
		t.Fatal(s)
	}
	var all sync.WaitGroup
	all.Go(func() { ends[0](empty) })
	all.Go(func() { ends[1](empty) })
	for id := uint32(1); id < 5; id += 2 {
		if s := c.status(id); s != "0" {
			t.Fatal(s)
		}
	}
	all.Wait()
	e.empty()
}

// A handler that panics after it has said that it answers later has its call ended once.
func TestPanicBesidesALateAnswer(t *testing.T) {
	_, e := newLate(t)
	c := rawClient(t, e.addr)
	c.localCall(1, "/test.Echo/Broken")
	if s := c.status(1); s != "0" && s != "13" {
		t.Fatal(s)
	}
	c.localCall(3, "/test.Echo/Now")
	if s := c.status(3); s != "0" {
		t.Fatal("the connection is no longer of use:", s)
	}
	e.empty()
}

// A call whose client has gone, or whose time is over, hears of it, and its late answer is of no harm.
func TestLateAnswerNobodyWaitsFor(t *testing.T) {
	l, e := newLate(t)
	cc := client(t, e.addr)
	defer cc.Close()
	ctx, cancel := context.WithTimeout(context.Background(), 50*time.Millisecond)
	defer cancel()
	if err := cc.Invoke(ctx, "/test.Echo/Late", &msg{}, &msg{}); status.Code(err) != codes.DeadlineExceeded {
		t.Fatal(err)
	}
	<-(<-l.ctx).Done()
	(<-l.ends)(empty)
	c := rawClient(t, e.addr)
	c.localCall(1, "/test.Echo/Late")
	gone := <-l.ctx
	c.nc.Close()
	<-gone.Done()
	(<-l.ends)(empty)
	e.empty()
}
