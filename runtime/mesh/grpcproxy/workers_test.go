package grpcproxy

import (
	"context"
	"testing"
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
