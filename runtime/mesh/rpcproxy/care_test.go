package rpcproxy_test

import (
	"fmt"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/outrigger-mesh/outrigger/runtime/mesh/rpcproxy"
	"github.com/outrigger-mesh/outrigger/runtime/mesh/rpcproxy/rpctest"
)

func TestHeartbeatsAreAnsweredHere(t *testing.T) {
	t.Log("feature: bolt dubbo, heartbeats are answered by the sidecar")
	rpctest.Both(t, func(t *testing.T, d rpctest.Dialect) {
		s := rpctest.Serve(t, d)
		r := start(t, d, &rpcproxy.Relay{}, s.Addr())
		w := r.dial()
		w.Write(d.Beat)
		if f, err := w.Next(); err != nil || f.Kind != rpcproxy.Alive || f.ID != 9 {
			t.Errorf("answered %+v, %v", f, err)
		}
		if n := r.Stats().Upstream; n != 0 {
			t.Errorf("%d connections were made", n)
		}
	})
}

func TestSilentUpstreamsAreAsked(t *testing.T) {
	rpctest.Both(t, func(t *testing.T, d rpctest.Dialect) {
		s := rpctest.Serve(t, d)
		r := start(t, d, &rpcproxy.Relay{Heartbeat: 20 * time.Millisecond, HeartbeatTimeout: 10 * time.Second}, s.Addr())
		w := r.dial()
		w.Call(t, 1, patience, "echo", "x")
		rpctest.Eventually(t, func() error {
			s.Mu.Lock()
			defer s.Mu.Unlock()
			if s.Beats < 3 {
				return fmt.Errorf("%d heartbeats", s.Beats)
			}
			return nil
		})
		if st := r.Stats(); st.Upstream != 1 || st.Dialed != 1 {
			t.Errorf("an upstream that answers lost its connection: %+v", st)
		}
	})
}

func TestFrozenUpstreamsAreLeft(t *testing.T) {
	t.Log("feature: bolt dubbo, a frozen instance is noticed and left")
	rpctest.Both(t, func(t *testing.T, d rpctest.Dialect) {
		s := rpctest.Serve(t, d)
		s.Deaf = true
		r := start(t, d, &rpcproxy.Relay{Heartbeat: 20 * time.Millisecond, HeartbeatTimeout: 20 * time.Millisecond}, s.Addr())
		f := r.dial().Call(t, 1, time.Minute, "never", "x")
		if !strings.Contains(string(f.Bytes), "did not answer a heartbeat") {
			t.Errorf("answered %q", f.Bytes)
		}
		if o := r.ended(1)[0]; o.Flag != rpcproxy.FlagClosed {
			t.Errorf("ended as %+v", o)
		}
	})
}

func TestBrokenPeersLoseTheirConnectionAlone(t *testing.T) {
	t.Log("feature: bolt dubbo, what is broken, garbage or too slow costs its own connection alone")
	rpctest.Both(t, func(t *testing.T, d rpctest.Dialect) {
		s := rpctest.Serve(t, d)
		whole := d.Request(1, false, patience, "echo", "x")
		for limit, broken := range map[time.Duration]map[string][]byte{
			time.Minute:           {"garbage": d.Broken, "oversized": d.Huge, "good, then garbage": append(append([]byte(nil), whole...), d.Broken...)},
			40 * time.Millisecond: {"a head, slowly": whole[:5], "a body, slowly": whole[:len(whole)-1]},
		} {
			r := start(t, d, &rpcproxy.Relay{FrameTimeout: limit}, s.Addr())
			good := r.dial()
			good.Call(t, 1, patience, "echo", "x")
			for name, bytes := range broken {
				w := r.dial()
				w.Write(bytes)
				w.Closed(t)
				if f := good.Call(t, 2, patience, "echo", "still"); !strings.Contains(d.Body(f.Bytes), "still") {
					t.Errorf("after %s the others are answered %q", name, f.Bytes)
				}
			}
			if n := r.Stats().Faults; n != int64(len(broken)) {
				t.Errorf("%d faults were counted", n)
			}
		}
	})
}

func TestWholeFramesOfAnySizePass(t *testing.T) {
	rpctest.Both(t, func(t *testing.T, d rpctest.Dialect) {
		s := rpctest.Serve(t, d)
		r := start(t, d, &rpcproxy.Relay{}, s.Addr())
		w := r.dial()
		for _, n := range []int{1, 100, 4 << 10, 33 << 10, 60_000} {
			if f := w.Call(t, 1, patience, "echo", strings.Repeat("b", n)); strings.Count(d.Body(f.Bytes), "b") < n {
				t.Errorf("%d bytes came back as %d", n, len(f.Bytes))
			}
		}
		if f := w.Call(t, 2, patience, "big", ""); len(f.Bytes) < 1<<20 {
			t.Errorf("%d bytes of 1 MiB came", len(f.Bytes))
		}
		for _, b := range d.Request(3, false, patience, "echo", "dribbled") {
			w.Write([]byte{b})
		}
		if f, err := w.Next(); err != nil || !strings.Contains(d.Body(f.Bytes), "dribbled") {
			t.Errorf("answered %q, %v", f.Bytes, err)
		}
	})
}

func TestClientThatDoesNotReadLosesItsConnection(t *testing.T) {
	rpctest.Both(t, func(t *testing.T, d rpctest.Dialect) {
		s := rpctest.Serve(t, d)
		r := start(t, d, &rpcproxy.Relay{MaxPending: 1 << 20, WriteTimeout: 100 * time.Millisecond}, s.Addr())
		good, w := r.dial(), r.dial()
		for i := range 30 {
			if _, err := w.Write(d.Request(uint64(i), false, patience, "big", "")); err != nil {
				break
			}
		}
		rpctest.Eventually(t, func() error {
			if n := r.Stats().Downstream; n != 1 {
				return fmt.Errorf("%d clients are connected", n)
			}
			return nil
		})
		if f := good.Call(t, 2, patience, "echo", "still"); !strings.Contains(d.Body(f.Bytes), "still") {
			t.Errorf("the others are answered %q", f.Bytes)
		}
	})
}

func TestLimitsOfCallsAndBytes(t *testing.T) {
	rpctest.Both(t, func(t *testing.T, d rpctest.Dialect) {
		s := rpctest.Serve(t, d)
		for name, r := range map[string]*rpcproxy.Relay{"calls": {MaxCalls: 2}, "bytes": {MaxHeld: 3000}} {
			relay := start(t, d, r, s.Addr())
			w := relay.dial()
			for i := range 3 {
				w.Write(d.Request(uint64(i), false, patience, "never", strings.Repeat("x", 1000)))
			}
			if f, err := w.Next(); err != nil || f.ID != 2 || !strings.Contains(string(f.Bytes), "OVERLOADED") {
				t.Errorf("%s: answered %q, %v", name, f.Bytes, err)
			}
		}
	})
}

func TestUpstreamThatLeavesGetsNoMoreCalls(t *testing.T) {
	d := rpctest.Dubbo
	s := rpctest.Serve(t, d)
	inner := start(t, d, &rpcproxy.Relay{Quiet: time.Millisecond}, s.Addr())
	outer := start(t, d, &rpcproxy.Relay{}, inner.ln.Addr().String(), s.Addr())
	route := outer.Route
	outer.Route = func(k *rpcproxy.Call) (*rpcproxy.Upstream, error) { return route(k) }
	w := outer.dial()
	w.Call(t, 1, patience, "echo", "x")
	w.Write(d.Request(2, false, patience, "slow", ""))
	rpctest.Eventually(t, func() error {
		if s.Times("slow") == 0 {
			return fmt.Errorf("not there yet")
		}
		return nil
	})
	if err := inner.Shutdown(t.Context()); err != nil {
		t.Fatal(err)
	}
	if f, err := w.Next(); err != nil || f.ID != 2 || !strings.Contains(d.Body(f.Bytes), "slow") {
		t.Errorf("answered %q, %v", f.Bytes, err)
	}
}

// A server that asks its client is told that nobody is there, and the calls of the connection go on; of one-way requests it is told nothing.
func TestRequestsOfServersAreRefused(t *testing.T) {
	t.Log("feature: bolt dubbo, a request of a server to its client is refused with a text")
	rpctest.Both(t, func(t *testing.T, d rpctest.Dialect) {
		ln, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		defer ln.Close()
		r := start(t, d, &rpcproxy.Relay{}, ln.Addr().String())
		w := r.dial()
		w.Write(d.Request(1, false, patience, "echo", "x"))
		nc, err := ln.Accept()
		if err != nil {
			t.Fatal(err)
		}
		defer nc.Close()
		nc.SetDeadline(time.Now().Add(patience))
		s := &rpctest.Wire{Conn: nc, Dialect: d}
		asked, err := s.Next()
		if err != nil {
			t.Fatal(err)
		}
		s.Write(d.Request(41, true, patience, "told", "x"))
		if f := s.Call(t, 42, patience, "back", "x"); !strings.Contains(string(f.Bytes), "requests of servers are not passed on by a sidecar") {
			t.Errorf("answered %q", f.Bytes)
		}
		s.Write(d.Response(asked, "done"))
		if f, err := w.Next(); err != nil || f.ID != 1 || !strings.Contains(d.Body(f.Bytes), "done") {
			t.Errorf("the client is answered %q, %v", f.Bytes, err)
		}
	})
}
