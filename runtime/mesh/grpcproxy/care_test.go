package grpcproxy

import (
	"context"
	"errors"
	"io"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/keepalive"
	"google.golang.org/grpc/status"
)

// frozenServer takes connections, says SETTINGS, and then nothing; it counts what frames of that type it gets.
func frozenServer(t *testing.T, typ byte) (addr string, count *atomic.Int64) {
	ln := listen(t)
	count = new(atomic.Int64)
	var wg sync.WaitGroup
	done := make(chan struct{})
	t.Cleanup(func() { ln.Close(); close(done); wg.Wait() })
	wg.Go(func() {
		for {
			nc, err := ln.Accept()
			if err != nil {
				return
			}
			wg.Go(func() {
				defer nc.Close()
				nc.Write(appendSettings(nil))
				io.ReadFull(nc, make([]byte, len(preface)))
				r := &raw{nc: nc, br: newReader(nc)}
				for {
					got, _, _, err := r.read()
					if err != nil {
						return
					}
					if got == typ {
						count.Add(1)
					}
				}
			})
		}
	})
	return ln.Addr().String(), count
}

// An upstream that says nothing any more is noticed, and the calls that wait for it end.
func TestKeepaliveUpstream(t *testing.T) {
	t.Log("feature: grpc, a frozen instance is noticed and left")
	addr, pings := frozenServer(t, fPing)
	e := newEnv(t, func(r *Relay) { r.Keepalive, r.KeepaliveTimeout = 60*time.Millisecond, 60*time.Millisecond })
	frozen := e.r.NewUpstream("frozen", 1, tcp(addr))
	e.r.Route = func(*Headers) (*Upstream, error) { return frozen, nil }
	ctx, cancel := context.WithTimeout(do(), 5*time.Second)
	defer cancel()
	_, err := unary(ctx, e.cc, nil)
	if status.Code(err) != codes.Unavailable || reason(err) != ReasonConnectionLost || !strings.Contains(err.Error(), "keepalive") {
		t.Fatal(err)
	}
	if pings.Load() == 0 {
		t.Fatal("no PING")
	}
	e.outcome(func(o Outcome) bool { return o.Flag == FlagClosed && o.Upstream == frozen })
}

// A gRPC server that counts PINGs does not mind ours, however long a stream is silent.
func TestKeepaliveIsModest(t *testing.T) {
	e := newEnv(t, func(r *Relay) { r.Keepalive = 10 * time.Millisecond },
		grpc.KeepaliveEnforcementPolicy(keepalive.EnforcementPolicy{MinTime: 5 * time.Minute}))
	if _, err := unary(do(), e.cc, nil); err != nil {
		t.Fatal(err)
	}
	cs, err := e.cc.NewStream(do(), desc, "/test.Echo/Bidi")
	if err != nil {
		t.Fatal(err)
	}
	for range 3 { // between messages the count begins anew
		time.Sleep(150 * time.Millisecond) // many times Keepalive
		if err := cs.SendMsg(&msg{}); err != nil {
			t.Fatal(err)
		}
		if err := cs.RecvMsg(&msg{}); err != nil {
			t.Fatal(err)
		}
	}
	cs.CloseSend()
	if err := cs.RecvMsg(&msg{}); err != io.EOF {
		t.Fatal(err)
	}
}

// A client that has frozen is dropped.
func TestKeepaliveDownstream(t *testing.T) {
	e := newEnv(t, func(r *Relay) { r.ClientKeepalive, r.KeepaliveTimeout = 40*time.Millisecond, 40*time.Millisecond })
	c := rawClient(t, e.addr) // reads, and never answers a PING
	pinged := false
	c.nc.SetReadDeadline(time.Now().Add(5 * time.Second))
	for {
		typ, _, _, err := c.read()
		if err != nil {
			if !pinged || errors.Is(err, context.DeadlineExceeded) || strings.Contains(err.Error(), "timeout") {
				t.Fatal(pinged, err)
			}
			break
		}
		pinged = pinged || typ == fPing
	}
	if _, err := unary(do(), e.cc, nil); err != nil { // and one that answers stays
		t.Fatal(err)
	}
	before := e.r.Stats().Accepted
	time.Sleep(200 * time.Millisecond)
	if _, err := unary(do(), e.cc, nil); err != nil || e.r.Stats().Accepted != before {
		t.Fatal(err, e.r.Stats())
	}
}

func TestIdleTimeout(t *testing.T) {
	e := newEnv(t, func(r *Relay) { r.IdleTimeout = 80 * time.Millisecond })
	c := rawClient(t, e.addr)
	c.request(1, true)
	c.status(1)
	cs, err := e.cc.NewStream(do(), desc, "/test.Echo/Bidi") // a connection with a stream is not idle
	if err != nil {
		t.Fatal(err)
	}
	c.goAway(codeNo)
	c.nc.Close()
	eventually(t, "the idle one is gone", func() bool { return e.r.Stats().Downstream == 1 })
	time.Sleep(200 * time.Millisecond)
	if n := e.r.Stats().GoAways; n != 1 {
		t.Fatal("GOAWAYs: ", n)
	}
	if err := cs.SendMsg(&msg{}); err != nil {
		t.Fatal(err)
	}
	if err := cs.RecvMsg(&msg{}); err != nil {
		t.Fatal(err)
	}
	cs.CloseSend()
	eventually(t, "both are gone", func() bool { return e.r.Stats().Downstream == 0 })
}

func TestMaxAge(t *testing.T) {
	e := newEnv(t, func(r *Relay) { r.MaxAge, r.MaxAgeGrace = 100*time.Millisecond, 100*time.Millisecond })
	first := make(chan error, 1)
	go func() { _, err := unary(do("do", "hang"), e.cc, nil); first <- err }()
	end := time.Now().Add(500 * time.Millisecond)
	for time.Now().Before(end) { // no other call fails, though several connections come of age
		if _, err := unary(do(), e.cc, nil); err != nil {
			t.Fatal(err)
		}
	}
	if err := <-first; status.Code(err) != codes.Unavailable { // after the grace
		t.Fatal(err)
	}
	if n := e.r.Stats().Accepted; n < 2 {
		t.Fatal("connections: ", n)
	}
}

func TestTooManyPings(t *testing.T) {
	ping := frame(fPing, 0, 0, make([]byte, 8)...)
	e := newEnv(t, nil)
	c := rawClient(t, e.addr)
	go func() {
		for range 10 {
			if c.write(ping) != nil {
				return
			}
			time.Sleep(5 * time.Millisecond)
		}
	}()
	if why := c.goAway(codeCalm); why != "too_many_pings" {
		t.Fatal(why)
	}
	c2 := rawClient(t, e.addr) // one that PINGs after each answer, as bandwidth estimators do
	for i := range uint32(20) {
		c2.request(2*i+1, true)
		c2.status(2*i + 1)
		c2.write(ping)
	}
	c2.request(101, true)
	c2.status(101)
}

func TestDialBackoff(t *testing.T) {
	var dials atomic.Int64
	var up atomic.Bool
	e := newEnv(t, func(r *Relay) { r.DialBackoff, r.MaxDialBackoff = 100*time.Millisecond, 300*time.Millisecond })
	u := e.r.NewUpstream("u", 1, func(ctx context.Context) (net.Conn, error) {
		if dials.Add(1); !up.Load() {
			return nil, errors.New("no such host")
		}
		return tcp(e.saddr)(ctx)
	})
	e.r.Route = func(*Headers) (*Upstream, error) { return u, nil }
	start := time.Now()
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			for time.Since(start) < 700*time.Millisecond {
				_, err := unary(do(), e.cc, nil)
				if status.Code(err) != codes.Unavailable || !strings.Contains(err.Error(), "no such host") {
					t.Error(err)
					return
				}
			}
		})
	}
	wg.Wait()
	if n := dials.Load(); n < 2 || n > 8 {
		t.Fatal("dials: ", n)
	}
	if n := e.r.Stats().DialFailed; n != dials.Load() {
		t.Fatal(n)
	}
	up.Store(true)
	eventually(t, "it is found again", func() bool { _, err := unary(do(), e.cc, nil); return err == nil })
	if e.r.Stats().Dialed != 1 {
		t.Fatal(e.r.Stats())
	}
}

func TestStats(t *testing.T) {
	e := newEnv(t, nil, grpc.MaxConcurrentStreams(1))
	unary(do(), e.cc, nil)
	ctx, cancel := context.WithCancel(do("do", "hang"))
	var wg sync.WaitGroup
	for range 3 {
		wg.Go(func() { unary(ctx, e.cc, nil) })
	}
	eventually(t, "figures", func() bool {
		s := e.r.Stats()
		return s.Streams == 3 && s.Waiting == 2 && s.Downstream == 1 && s.Upstream == 1 && s.Accepted == 1 && s.Dialed == 1 && s.Writes > 3
	})
	cancel()
	wg.Wait()
	eventually(t, "nothing is left", func() bool {
		s := e.r.Stats()
		return s.Streams == 0 && s.Held == 0 && s.Resets == 3
	})
	c := rawClient(t, e.addr)
	c.write(frame(fData, 0, 0))
	c.goAway(codeProtocol)
	eventually(t, "the fault is counted", func() bool { s := e.r.Stats(); return s.Faults == 1 && s.GoAways >= 1 })
}
