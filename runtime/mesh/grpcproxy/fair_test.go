package grpcproxy

import (
	"context"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// greedy opens n streams of endless answers and reads none.
func greedy(t *testing.T, addr string, n int) *raw {
	c := rawClient(t, addr)
	for i := range uint32(n) {
		c.request(2*i+1, true, "do", "flood")
	}
	return c
}

// others makes calls with bodies by the same upstream connection, each in a time that says nobody stood in the way.
func (e *env) others(n int) {
	e.t.Helper()
	cc := client(e.t, e.addr)
	defer cc.Close()
	for i := range n {
		ctx, cancel := context.WithTimeout(do(), 2*time.Second)
		got, err := unary(ctx, cc, make([]byte, 200<<10))
		cancel()
		if err != nil || len(got) != 200<<10 {
			e.t.Fatalf("call %d beside slow readers: %v", i, err)
		}
	}
}

// One client that reads nothing may hold MaxPending, and others do not notice.
func TestGreedyReader(t *testing.T) {
	e := newEnv(t, func(r *Relay) { r.MaxPending, r.MaxHeld, r.ConnWindow, r.StallTimeout = 1<<20, 4<<20, 1<<20, time.Hour })
	greedy(t, e.addr, 60) // 60 windows of 256 KiB: 15 MiB
	e.outcome(func(o Outcome) bool { return o.Flag == FlagLimited && o.Err.Reason == ReasonSlowReader })
	e.others(20)
	if h := e.r.Stats().Held; h == 0 || h > 2<<20 {
		t.Fatal("held: ", h)
	}
}

// Many clients that each hold little use up the credit together; those that take nothing lose it.
func TestStalledReaders(t *testing.T) {
	e := newEnv(t, func(r *Relay) { r.MaxHeld, r.ConnWindow, r.StallTimeout = 2<<20, 512<<10, 300*time.Millisecond })
	for range 40 {
		greedy(t, e.addr, 1)
	}
	e.outcome(func(o Outcome) bool { return o.Flag == FlagLimited && o.Err.Reason == ReasonSlowReader })
	eventually(t, "half of the credit is free", func() bool { return e.r.Stats().Held <= 1<<20 }) // until then whoever owes much is ended, slow or not
	e.others(5)
}

// A reader that pauses while nobody else needs the credit keeps its stream.
func TestPauseIsNoStall(t *testing.T) {
	e := newEnv(t, func(r *Relay) { r.StallTimeout = 50 * time.Millisecond })
	ctx, cancel := context.WithCancel(do("do", "flood"))
	defer cancel()
	cs, err := e.cc.NewStream(ctx, desc, "/test.Echo/Flood")
	if err != nil {
		t.Fatal(err)
	}
	cs.CloseSend()
	eventually(t, "something waits", func() bool { return e.r.Stats().Held > 0 })
	time.Sleep(300 * time.Millisecond)
	for range 300 {
		if err := cs.RecvMsg(&msg{}); err != nil {
			t.Fatal(err)
		}
	}
	cancel()
	if err := cs.RecvMsg(&msg{}); err == nil || status.Code(err) != codes.Canceled {
		for err == nil {
			err = cs.RecvMsg(&msg{})
		}
	}
}
