package grpcproxy

import (
	"bytes"
	"context"
	"fmt"
	"net"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/metadata"
)

// Servers come and go gracefully under load; no call may fail.
func TestGracefulStopUnderLoad(t *testing.T) {
	t.Log("feature: grpc, draining lets calls end")
	var ups [2]*Upstream
	var on [2]atomic.Bool
	var srv [2]*grpc.Server
	var addr [2]string
	v := &service{t: t}
	var n atomic.Uint32
	e := newEnv(t, func(r *Relay) {
		r.MaxAttempts = 5
		r.Route = func(h *Headers) (*Upstream, error) {
			i := int(n.Add(1)) % 2
			if h.Last == ups[i] || h.Last == nil && !on[i].Load() { // the registry lags; a failed attempt goes to the other
				i = 1 - i
			}
			return ups[i], nil
		}
	})
	up := func(i int) {
		a := addr[i]
		if a == "" {
			a = "127.0.0.1:0"
		}
		ln, err := net.Listen("tcp", a)
		if err != nil {
			t.Fatal(err)
		}
		addr[i] = ln.Addr().String()
		srv[i] = v.serve(ln)
		on[i].Store(true)
	}
	for i := range ups {
		up(i)
		ups[i] = e.r.NewUpstream(fmt.Sprint("s", i), 1, tcp(addr[i]))
	}
	var wg sync.WaitGroup
	var calls, bad atomic.Int64
	stop := make(chan struct{})
	for w := range 32 {
		cc := e.cc
		wg.Go(func() {
			for i := 0; ; i++ {
				select {
				case <-stop:
					return
				default:
				}
				ctx := do()
				if (i+w)%50 == 0 {
					ctx = do("do", "slow")
				}
				if _, err := unary(ctx, cc, []byte("hello")); err != nil {
					bad.Add(1)
					t.Error(err)
				}
				calls.Add(1)
			}
		})
	}
	for i := range 8 {
		time.Sleep(100 * time.Millisecond)
		s := srv[i%2]
		dump := time.AfterFunc(3*time.Second, func() { e.dump() })
		s.GracefulStop()
		dump.Stop()
		on[i%2].Store(false)
		time.Sleep(30 * time.Millisecond)
		up(i % 2)
	}
	close(stop)
	wg.Wait()
	t.Logf("%d calls, %d failed", calls.Load(), bad.Load())
	for i := range srv {
		srv[i].Stop()
	}
}

// The relay itself leaves under load; clients reconnect to the next and no call fails.
func TestShutdownUnderLoad(t *testing.T) {
	e := newEnv(t, nil)
	r2 := &Relay{}
	up2 := r2.NewUpstream("srv", 1, tcp(e.saddr))
	r2.Route = func(*Headers) (*Upstream, error) { return up2, nil }
	ln2 := listen(t)
	go r2.Serve(ln2)
	defer ln2.Close()
	defer r2.Close()
	var next atomic.Bool
	cc := client(t, "x", grpc.WithContextDialer(func(ctx context.Context, _ string) (net.Conn, error) {
		a := e.addr
		if next.Load() {
			a = ln2.Addr().String()
		}
		return (&net.Dialer{}).DialContext(ctx, "tcp", a)
	}))
	defer cc.Close()
	stop := make(chan struct{})
	var wg sync.WaitGroup
	for range 16 {
		wg.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
				}
				if _, err := unary(do(), cc, []byte("x")); err != nil {
					t.Error(err)
				}
			}
		})
	}
	time.Sleep(100 * time.Millisecond)
	next.Store(true)
	e.cc.Close()
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	if err := e.r.Shutdown(ctx); err != nil {
		t.Error(err)
	}
	time.Sleep(50 * time.Millisecond)
	close(stop)
	wg.Wait()
}

func TestSlowReader(t *testing.T) {
	e := newEnv(t, nil)
	cc := client(t, e.addr, grpc.WithInitialWindowSize(1<<16), grpc.WithInitialConnWindowSize(1<<16)) // fixed: else the client takes megabytes
	defer cc.Close()
	ctx, cancel := context.WithCancel(do("do", "flood"))
	var ss []grpc.ClientStream
	for range 20 {
		cs, err := cc.NewStream(ctx, desc, "/test.Echo/Flood")
		if err != nil {
			t.Fatal(err)
		}
		cs.CloseSend()
		ss = append(ss, cs)
	}
	time.Sleep(500 * time.Millisecond)
	held, waiting := int64(0), 0
	e.r.mu.Lock()
	for c := range e.r.conns {
		held += c.held.Load()
		c.mu.Lock()
		waiting += len(c.out) + cap(c.spare)
		c.mu.Unlock()
	}
	e.r.mu.Unlock()
	t.Logf("20 streams nobody reads: %d KiB held, %d KiB of write buffers", held>>10, waiting>>10)
	if held == 0 || held > 20*int64(e.r.StreamWindow) || waiting > 4*writeHigh {
		t.Fatal("memory not bounded")
	}
	other := client(t, e.addr)
	defer other.Close()
	if _, err := unary(do(), other, []byte("others go on")); err != nil { // another client, the same upstream connection
		t.Fatal(err)
	}
	for _, cs := range ss { // and slowly it comes
		for range 40 {
			if err := cs.RecvMsg(&msg{}); err != nil {
				t.Fatal(err)
			}
		}
	}
	cancel()
	eventually(t, "server sees it", func() bool { return e.v.cancelled.Load() == 20 })
	e.empty()
}

// A client that stops reading its socket altogether: only TCP holds it back.
func TestStalledSocket(t *testing.T) {
	e := newEnv(t, func(r *Relay) { r.WriteTimeout = 300 * time.Millisecond })
	c := rawClient(t, e.addr)
	c.write(appendSettings(nil, setWindow, 1<<31-1))
	c.write(appendU32(nil, fWindow, 0, 1<<30))
	for i := range 20 {
		c.request(uint32(2*i+1), true, "do", "flood")
	}
	eventually(t, "dropped", func() bool { return e.v.cancelled.Load() == 20 })
	e.empty()
}

func TestManyStreamsOverFew(t *testing.T) {
	e := newEnv(t, func(r *Relay) { r.MaxStreams = 2000 }, grpc.MaxConcurrentStreams(100))
	if _, err := unary(do(), e.cc, nil); err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	for i := range 1000 {
		wg.Go(func() {
			ctx, cancel := context.WithTimeout(do("do", "slow"), 20*time.Second)
			defer cancel()
			body := bytes.Repeat([]byte{byte(i)}, 5000)
			if got, err := unary(ctx, e.cc, body); err != nil || !bytes.Equal(got, body) {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	if m := e.v.most.Load(); m > 100 {
		t.Fatal("at once: ", m)
	}
	e.empty()
}

// Many clients, all kinds of calls, random cancels: nothing may be left over.
func TestChaos(t *testing.T) {
	e := newEnv(t, func(r *Relay) { r.StreamWindow = 32 << 10; r.MaxResets = 1 << 30 }, grpc.MaxConcurrentStreams(50))
	var wg sync.WaitGroup
	end := time.Now().Add(2 * time.Second)
	for w := range 40 {
		cc := e.cc
		if w%4 == 0 {
			cc = client(t, e.addr)
			defer cc.Close()
		}
		wg.Go(func() {
			for i := w; time.Now().Before(end); i++ {
				ctx, cancel := context.WithTimeout(do(), time.Duration(1+i*7%40)*time.Millisecond)
				switch i % 3 {
				case 0:
					unary(ctx, cc, make([]byte, i*911%100000))
				case 1:
					cs, err := cc.NewStream(ctx, desc, "/test.Echo/Bidi")
					for j := 0; err == nil && j < 20; j++ {
						if err = cs.SendMsg(&msg{Value: make([]byte, 20000)}); err == nil && j%2 == 0 {
							err = cs.RecvMsg(&msg{})
						}
					}
				case 2:
					if cs, err := cc.NewStream(metadata.AppendToOutgoingContext(ctx, "do", "flood"), desc, "/test.Echo/Flood"); err == nil {
						for cs.RecvMsg(&msg{}) == nil {
						}
					}
				}
				cancel()
			}
		})
	}
	wg.Wait()
	e.empty()
	if _, err := unary(do(), e.cc, []byte("x")); err != nil {
		t.Fatal(err)
	}
}

func TestNothingLeaks(t *testing.T) {
	before := runtime.NumGoroutine()
	e := newEnv(t, nil)
	for range 20 {
		cc := client(t, e.addr)
		if _, err := unary(do(), cc, nil); err != nil {
			t.Fatal(err)
		}
		cc.Close()
	}
	e.cc.Close()
	e.up.Close()
	e.srv.Stop()
	eventually(t, "goroutines end", func() bool { return runtime.NumGoroutine() <= before+3 })
	eventually(t, "connections end", func() bool {
		e.r.mu.Lock()
		defer e.r.mu.Unlock()
		return len(e.r.conns) == 0
	})
}

// A reader slower than the server, all the time: what waits never empties, and must not grow.
func TestSteadySlowReader(t *testing.T) {
	e := newEnv(t, nil)
	ctx, cancel := context.WithCancel(do("do", "flood"))
	defer cancel()
	cc := client(t, e.addr, grpc.WithInitialWindowSize(1<<16), grpc.WithInitialConnWindowSize(1<<16))
	defer cc.Close()
	cs, err := cc.NewStream(ctx, desc, "/test.Echo/Flood")
	if err != nil {
		t.Fatal(err)
	}
	most := 0
	for i := range 20_000 { // 64 MB, and more if nothing has waited by then: the server may be the slower one for a while
		if i >= 2000 && most > 0 {
			break
		}
		if err := cs.RecvMsg(&msg{}); err != nil {
			t.Fatal(err)
		}
		time.Sleep(50 * time.Microsecond)
		if i%10 == 0 {
			most = max(most, e.waiting())
		}
	}
	t.Logf("%d KiB kept", most>>10)
	if most == 0 || most > 3*e.r.StreamWindow {
		t.Fatal("grows")
	}
}

// waiting is the capacity of the largest buffer that waits in a stream.
func (e *env) waiting() (most int) {
	e.r.mu.Lock()
	defer e.r.mu.Unlock()
	for c := range e.r.conns {
		c.mu.Lock()
		var all []*stream
		for _, s := range c.streams {
			all = append(all, s)
		}
		c.mu.Unlock()
		for _, s := range all {
			s.mu.Lock()
			most = max(most, cap(s.h[0].pend), cap(s.h[1].pend))
			s.mu.Unlock()
		}
	}
	return most
}
