package rpcproxy_test

import (
	"context"
	"fmt"
	"net"
	"sync"
	"testing"
	"time"

	"github.com/outrigger-mesh/outrigger/runtime/mesh/rpcproxy"
	"github.com/outrigger-mesh/outrigger/runtime/mesh/rpcproxy/rpctest"
)

// relay is one with a client's view of it.
type relay struct {
	*rpcproxy.Relay
	t  testing.TB
	d  rpctest.Dialect
	ln net.Listener

	mu        sync.Mutex
	outcomes  []rpcproxy.Outcome
	heads     []rpcproxy.Head
	attempted []string
	faults    []error
}

// start serves a relay whose attempts go to the addresses in turn.
func start(t testing.TB, d rpctest.Dialect, r *rpcproxy.Relay, addresses ...string) *relay {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	out := &relay{Relay: r, t: t, d: d, ln: ln}
	if r.Route == nil {
		ups := make([]*rpcproxy.Upstream, len(addresses))
		for i, a := range addresses {
			ups[i] = r.NewUpstream(a, d, 2, func(ctx context.Context) (net.Conn, error) { return (&net.Dialer{}).DialContext(ctx, "tcp", a) })
		}
		r.Route = func(k *rpcproxy.Call) (*rpcproxy.Upstream, error) { return ups[min(k.Attempt, len(ups))-1], nil }
	}
	r.Attempted = func(_ *rpcproxy.Call, up *rpcproxy.Upstream, e *rpcproxy.Error) {
		out.mu.Lock()
		defer out.mu.Unlock()
		out.attempted = append(out.attempted, up.Name+" "+e.Flag)
	}
	r.Done = func(o *rpcproxy.Outcome) {
		out.mu.Lock()
		defer out.mu.Unlock()
		out.outcomes = append(out.outcomes, *o)
		out.heads = append(out.heads, o.Call.Head)
	}
	r.Fault = func(_ net.Conn, _ bool, err error) {
		out.mu.Lock()
		defer out.mu.Unlock()
		out.faults = append(out.faults, err)
	}
	var tasks sync.WaitGroup
	tasks.Go(func() {
		for {
			nc, err := ln.Accept()
			if err != nil {
				return
			}
			tasks.Go(func() { r.ServeConn(nc, nil, d) })
		}
	})
	t.Cleanup(func() {
		ln.Close()
		r.Close()
		tasks.Wait()
		if s := r.Stats(); s.Held != 0 || s.Calls != 0 {
			t.Errorf("left over: %+v", s)
		}
	})
	return out
}

func (r *relay) dial() *rpctest.Wire {
	r.t.Helper()
	nc, err := net.Dial("tcp", r.ln.Addr().String())
	if err != nil {
		r.t.Fatal(err)
	}
	r.t.Cleanup(func() { nc.Close() })
	nc.SetDeadline(time.Now().Add(20 * time.Second))
	return &rpctest.Wire{Conn: nc, Dialect: r.d}
}

// ended waits for n outcomes.
func (r *relay) ended(n int) []rpcproxy.Outcome {
	r.t.Helper()
	var got []rpcproxy.Outcome
	rpctest.Eventually(r.t, func() error {
		r.mu.Lock()
		defer r.mu.Unlock()
		if got = r.outcomes; len(got) != n {
			return fmt.Errorf("%d calls have ended, want %d", len(got), n)
		}
		return nil
	})
	return got
}
