package grpcproxy

import (
	"context"
	"net"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

func (c *raw) localCall(id uint32, path string) {
	p := lit([]byte{0x83, 0x86}, ":path", path)
	p = lit(p, "content-type", "application/grpc")
	b := append(appendFrame(nil, len(p), fHeaders, flagEndHeaders, id), p...)
	c.write(append(appendFrame(b, 5, fData, flagEnd, id), 0, 0, 0, 0, 0))
}

// What workers cannot take on waits, and what cannot wait is refused early.
func TestQueueIsBounded(t *testing.T) {
	goOn := make(chan struct{})
	e := newEnv(t, func(r *Relay) {
		r.MaxWorkers, r.MaxQueue = 1, 2
		r.Unary("/test.Echo/Local", Method{Blocking: true, Handler: func(_ context.Context, req, resp []byte) ([]byte, *Status) {
			<-goOn
			return append(resp, req...), nil
		}})
	})
	c := rawClient(t, e.addr)
	for i := range uint32(5) {
		c.localCall(2*i+1, "/test.Echo/Local")
	}
	for i := range uint32(2) {
		if s, why := c.answer(2*(3+i) + 1); s != "8" || why != ReasonOverloaded {
			t.Fatal(s, why)
		}
	}
	close(goOn)
	for i := range uint32(3) {
		if s := c.status(2*i + 1); s != "0" {
			t.Fatal(s)
		}
	}
	e.empty()
}

// Calls that wait for long have a bound of their own: at it they are refused, and calls of other methods find their workers free.
func TestPatientCallsTakeNoWorker(t *testing.T) {
	goOn, ended := make(chan struct{}), make(chan struct{})
	release := sync.OnceFunc(func() { close(goOn) })
	defer release()
	echo := func(_ context.Context, req, resp []byte) ([]byte, *Status) { return append(resp, req...), nil }
	e := newEnv(t, func(r *Relay) {
		r.MaxWorkers, r.MaxQueue, r.MaxPatient = 1, 1, 3
		r.Unary("/test.Echo/Wait", Method{Patient: true, Handler: func(ctx context.Context, req, resp []byte) ([]byte, *Status) {
			<-goOn
			return echo(ctx, req, resp)
		}})
		r.Unary("/test.Echo/Local", Method{Blocking: true, Handler: echo})
	})
	c := rawClient(t, e.addr)
	for i := range uint32(3) {
		c.localCall(2*i+1, "/test.Echo/Wait")
	}
	c.localCall(7, "/test.Echo/Wait")
	if s, why := c.answer(7); s != "8" || why != ReasonOverloaded {
		t.Error(s, why)
	}
	for i := range uint32(5) {
		c.localCall(9+2*i, "/test.Echo/Local")
		if s, why := c.answer(9 + 2*i); s != "0" {
			t.Error(s, why)
		}
	}
	release()
	for i := range uint32(3) {
		if s := c.status(2*i + 1); s != "0" {
			t.Error(s)
		}
	}
	e.empty()
	go func() { e.r.Close(); close(ended) }()
	select {
	case <-ended:
	case <-time.After(20 * time.Second):
		t.Error("idle workers keep the relay from closing")
	}
}

// Answers that their client does not read are bounded too.
func TestUnreadAnswersAreBounded(t *testing.T) {
	e := newEnv(t, func(r *Relay) {
		r.MaxLocal = 1 << 20
		r.Unary("/test.Echo/Local", Method{Handler: func(_ context.Context, req, resp []byte) ([]byte, *Status) {
			return append(resp, make([]byte, 200<<10)...), nil
		}})
	})
	c := rawClient(t, e.addr)
	for i := range uint32(10) {
		c.localCall(2*i+1, "/test.Echo/Local")
	}
	if s, why := c.answer(19); s != "8" || why != ReasonOverloaded {
		t.Fatal(s, why)
	}
	if n := e.r.held.Load(); n == 0 || n > 1<<20 {
		t.Fatal("held: ", n)
	}
	c.nc.Close()
	eventually(t, "all is given back", func() bool { return e.r.held.Load() == 0 })
}

// Close returns when everything has: handlers, connections and what their ends are told to.
func TestCloseWaits(t *testing.T) {
	var running, handled, gone atomic.Int64
	e := newEnv(t, func(r *Relay) {
		r.OnConn = func(net.Conn) (any, error) { return nil, nil }
		r.OnClose = func(net.Conn, any) { time.Sleep(20 * time.Millisecond); gone.Add(1) }
		r.Unary("/test.Echo/Local", Method{Blocking: true, Handler: func(ctx context.Context, _, resp []byte) ([]byte, *Status) {
			running.Add(1)
			<-ctx.Done()
			time.Sleep(50 * time.Millisecond)
			handled.Add(1)
			return resp, nil
		}})
	})
	for range 3 {
		c := rawClient(t, e.addr)
		c.localCall(1, "/test.Echo/Local")
		c.request(3, true, "do", "hang")
	}
	eventually(t, "all calls run", func() bool { return running.Load() == 3 && e.v.running.Load() == 3 })
	e.r.Close()
	e.mu.Lock()
	defer e.mu.Unlock()
	if handled.Load() != 3 || gone.Load() != 3 || len(e.outs) != 6 {
		t.Errorf("%d handlers have returned, %d ends of connections and %d of requests were told of; want 3, 3 and 6",
			handled.Load(), gone.Load(), len(e.outs))
	}
}
