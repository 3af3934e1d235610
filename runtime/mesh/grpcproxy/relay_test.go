package grpcproxy

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"fmt"
	"io"
	"math/big"
	"net"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/wrapperspb"
)

type msg = wrapperspb.BytesValue

// service is the server side of the tests: what a call does is asked for by metadata.
type service struct {
	cancelled, running, most atomic.Int64
	seen                     func(metadata.MD, context.Context)
	t                        testing.TB
}

func (v *service) stream(_ any, ss grpc.ServerStream) error {
	ctx := ss.Context()
	md, _ := metadata.FromIncomingContext(ctx)
	get := func(k string) string { return strings.Join(md.Get(k), ",") }
	if v.seen != nil {
		v.seen(md, ctx)
	}
	n := v.running.Add(1)
	defer v.running.Add(-1)
	for {
		m := v.most.Load()
		if n <= m || v.most.CompareAndSwap(m, n) {
			break
		}
	}
	ss.SetHeader(metadata.Pairs("h", get("q"), "added", get("x-added"), "peer-bin", get("raw-bin")))
	ss.SetTrailer(metadata.Pairs("t", "trailer-value", "t", "second"))
	switch get("do") {
	case "details":
		s, _ := status.New(codes.FailedPrecondition, "nicht möglich: 50 %").WithDetails(&errdetails.ErrorInfo{Reason: "WHY", Domain: "test"})
		return s.Err()
	case "hang":
		<-ctx.Done()
		v.cancelled.Add(1)
		return ctx.Err()
	case "early": // ends before the client has
		var m msg
		ss.RecvMsg(&m)
		return status.Error(codes.Aborted, "enough")
	case "flood":
		for range 1 << 20 {
			if err := ss.SendMsg(&msg{Value: make([]byte, 32<<10)}); err != nil {
				v.cancelled.Add(1)
				return err
			}
		}
		return nil
	case "slow":
		time.Sleep(20 * time.Millisecond)
	case "bigheader":
		ss.SetHeader(metadata.Pairs("big", strings.Repeat("x", 40<<10)))
	}
	for {
		var m msg
		if err := ss.RecvMsg(&m); err == io.EOF {
			return nil
		} else if err != nil {
			return err
		}
		if err := ss.SendMsg(&m); err != nil {
			return err
		}
	}
}

func (v *service) serve(ln net.Listener, opts ...grpc.ServerOption) *grpc.Server {
	opts = append(opts, grpc.MaxRecvMsgSize(1<<30), grpc.MaxSendMsgSize(1<<30), grpc.UnknownServiceHandler(v.stream))
	s := grpc.NewServer(opts...)
	go s.Serve(ln)
	return s
}

type env struct {
	t     testing.TB
	v     *service
	srv   *grpc.Server
	r     *Relay
	up    *Upstream
	addr  string
	cc    *grpc.ClientConn
	mu    sync.Mutex
	outs  []Outcome
	live  atomic.Int64
	saddr string
}

func listen(t testing.TB) net.Listener {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	return ln
}

func tcp(addr string) func(context.Context) (net.Conn, error) {
	return func(ctx context.Context) (net.Conn, error) { return (&net.Dialer{}).DialContext(ctx, "tcp", addr) }
}

func newEnv(t testing.TB, set func(*Relay), opts ...grpc.ServerOption) *env {
	e := &env{t: t, v: &service{t: t}}
	sln, ln := listen(t), listen(t)
	e.saddr, e.addr = sln.Addr().String(), ln.Addr().String()
	e.srv = e.v.serve(sln, opts...)
	e.r = &Relay{}
	if set != nil {
		set(e.r)
	}
	e.up = e.r.NewUpstream("srv", 1, tcp(e.saddr))
	if e.r.Route == nil {
		e.r.Route = func(h *Headers) (*Upstream, error) {
			if h.Get("refuse") != "" {
				return nil, &Error{Code: int(codes.PermissionDenied), Message: "refused: 100 %"}
			}
			h.Set("x-added", "by-relay")
			h.Del("drop-me")
			e.live.Add(1)
			return e.up, nil
		}
	}
	e.r.Done = func(o *Outcome) {
		e.mu.Lock()
		e.outs = append(e.outs, *o)
		e.mu.Unlock()
	}
	go e.r.Serve(ln)
	e.cc = client(t, e.addr)
	t.Cleanup(func() { e.cc.Close(); e.r.Close(); ln.Close(); e.srv.Stop() })
	return e
}

func client(t testing.TB, addr string, opts ...grpc.DialOption) *grpc.ClientConn {
	opts = append([]grpc.DialOption{grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(1<<30), grpc.MaxCallSendMsgSize(1<<30))}, opts...)
	cc, err := grpc.NewClient("passthrough:///"+addr, opts...)
	if err != nil {
		t.Fatal(err)
	}
	return cc
}

var desc = &grpc.StreamDesc{ServerStreams: true, ClientStreams: true}

func do(kv ...string) context.Context {
	return metadata.NewOutgoingContext(context.Background(), metadata.Pairs(kv...))
}

func unary(ctx context.Context, cc *grpc.ClientConn, b []byte, opts ...grpc.CallOption) ([]byte, error) {
	var out msg
	err := cc.Invoke(ctx, "/test.Echo/Unary", &msg{Value: b}, &out, opts...)
	return out.Value, err
}

func (e *env) outcome(ok func(Outcome) bool) {
	e.t.Helper()
	eventually(e.t, "outcome", func() bool {
		e.mu.Lock()
		defer e.mu.Unlock()
		for _, o := range e.outs {
			if ok(o) {
				return true
			}
		}
		return false
	})
}

func eventually(t testing.TB, what string, ok func() bool) {
	t.Helper()
	for range 500 {
		if ok() {
			return
		}
		time.Sleep(10 * time.Millisecond)
	}
	t.Fatal("never: " + what)
}

// empty checks that no stream is left anywhere, and no byte held.
func (e *env) empty() {
	e.t.Helper()
	eventually(e.t, "no streams left", func() bool {
		e.r.mu.Lock()
		defer e.r.mu.Unlock()
		for c := range e.r.conns {
			c.mu.Lock()
			n := len(c.streams) + len(c.blocked)
			c.mu.Unlock()
			if n != 0 || c.held.Load() != 0 {
				return false
			}
		}
		return true
	})
}

func (e *env) dump() {
	e.r.mu.Lock()
	defer e.r.mu.Unlock()
	for c := range e.r.conns {
		c.mu.Lock()
		fmt.Printf("conn up=%v %v streams=%d out=%d writing=%v closed=%v draining=%v win=%d blocked=%d rp=%d rw=%d pingHeld=%v pinging=%v max=%d\n", c.up != nil, c.nc.RemoteAddr(), len(c.streams), len(c.out), c.writing, c.closed, c.draining, c.win, len(c.blocked), c.rp, c.rw, c.pingHeld, c.pinging, c.maxStreams)
		for id, s := range c.streams {
			fmt.Printf("   %d: %+v\n      %+v began=%v\n", id, s.h[0], s.h[1], s.began)
			break
		}
		c.mu.Unlock()
		if c.up != nil {
			fmt.Println("  up", c.up.Name, len(c.up.waiting), c.up.dialing, c.up.starting, len(c.up.list()))
		}
	}
}

func TestUnaryMetadataTrailersDetails(t *testing.T) {
	e := newEnv(t, nil)
	for i := range 200 {
		var h, tr metadata.MD
		body := bytes.Repeat([]byte{byte(i)}, i*37)
		ctx := metadata.AppendToOutgoingContext(do("q", fmt.Sprint("value", i%7), "drop-me", "x", "raw-bin", "\x00\xff"), "unique", fmt.Sprint(i))
		got, err := unary(ctx, e.cc, body, grpc.Header(&h), grpc.Trailer(&tr))
		if err != nil || !bytes.Equal(got, body) {
			t.Fatal(i, err, len(got))
		}
		if h.Get("h")[0] != fmt.Sprint("value", i%7) || h.Get("added")[0] != "by-relay" || h.Get("peer-bin")[0] != "\x00\xff" || len(tr.Get("t")) != 2 {
			t.Fatal(h, tr)
		}
	}
	_, err := unary(do("do", "details"), e.cc, nil)
	s := status.Convert(err)
	if s.Code() != codes.FailedPrecondition || s.Message() != "nicht möglich: 50 %" || len(s.Details()) != 1 || s.Details()[0].(*errdetails.ErrorInfo).Reason != "WHY" {
		t.Fatal(err, s.Details())
	}
	e.outcome(func(o Outcome) bool {
		return o.Status == int(codes.FailedPrecondition) && o.Path == "/test.Echo/Unary" && !o.Local
	})
	if _, err = unary(do("refuse", "1"), e.cc, nil); status.Convert(err).Message() != "refused: 100 %" || status.Code(err) != codes.PermissionDenied {
		t.Fatal(err)
	}
	e.outcome(func(o Outcome) bool { return o.Status == int(codes.PermissionDenied) && o.Local && o.Upstream == nil })
	e.empty()
}

func TestStreams(t *testing.T) {
	e := newEnv(t, nil)
	cs, err := e.cc.NewStream(do("q", "1"), desc, "/test.Echo/Bidi")
	if err != nil {
		t.Fatal(err)
	}
	for i := range 500 { // bidi, in step
		m := &msg{Value: bytes.Repeat([]byte("x"), i*17)}
		if err := cs.SendMsg(m); err != nil {
			t.Fatal(err)
		}
		var g msg
		if err := cs.RecvMsg(&g); err != nil || len(g.Value) != len(m.Value) {
			t.Fatal(i, err)
		}
	}
	cs.CloseSend()
	if err := cs.RecvMsg(&msg{}); err != io.EOF || len(cs.Trailer().Get("t")) != 2 {
		t.Fatal(err)
	}
	cs, _ = e.cc.NewStream(do(), desc, "/test.Echo/Client") // all out, then all in: more than all windows
	go func() {
		for range 2000 {
			cs.SendMsg(&msg{Value: make([]byte, 10000)})
		}
		cs.CloseSend()
	}()
	n := 0
	for ; ; n++ {
		if err := cs.RecvMsg(&msg{}); err != nil {
			if err != io.EOF {
				t.Fatal(err)
			}
			break
		}
	}
	if n != 2000 {
		t.Fatal(n)
	}
	cs, _ = e.cc.NewStream(do("do", "early"), desc, "/test.Echo/Early") // the answer comes before the client is done
	for err = nil; err == nil; {
		err = cs.SendMsg(&msg{Value: make([]byte, 100000)})
	}
	if err := cs.RecvMsg(&msg{}); status.Code(err) != codes.Aborted {
		t.Fatal(err)
	}
	e.empty()
}

func TestLargeMessages(t *testing.T) {
	e := newEnv(t, nil)
	body := make([]byte, 10<<20)
	rand.Read(body)
	var wg sync.WaitGroup
	for range 6 {
		wg.Go(func() {
			if got, err := unary(do(), e.cc, body); err != nil || !bytes.Equal(got, body) {
				t.Error(err, len(got))
			}
		})
	}
	wg.Wait()
	e.empty()
}

func TestCancelAndDeadline(t *testing.T) {
	e := newEnv(t, nil)
	ctx, cancel := context.WithCancel(do("do", "hang"))
	time.AfterFunc(50*time.Millisecond, cancel)
	if _, err := unary(ctx, e.cc, nil); status.Code(err) != codes.Canceled {
		t.Fatal(err)
	}
	eventually(t, "server sees it", func() bool { return e.v.cancelled.Load() == 1 })
	e.outcome(func(o Outcome) bool { return o.ByClient && o.Reset == codeCancel })
	ctx, cancel = context.WithTimeout(do("do", "hang"), 80*time.Millisecond)
	defer cancel()
	if _, err := unary(ctx, e.cc, nil); status.Code(err) != codes.DeadlineExceeded {
		t.Fatal(err)
	}
	eventually(t, "server sees it", func() bool { return e.v.cancelled.Load() == 2 })
	e.empty()
}

func TestServerKilled(t *testing.T) {
	e := newEnv(t, nil)
	var wg sync.WaitGroup
	for range 20 {
		wg.Go(func() {
			if _, err := unary(do("do", "hang"), e.cc, nil); status.Code(err) != codes.Unavailable && status.Code(err) != codes.Canceled {
				t.Error(err)
			}
		})
	}
	eventually(t, "running", func() bool { return e.v.running.Load() == 20 })
	e.srv.Stop()
	wg.Wait()
	if _, err := unary(do(), e.cc, nil); status.Code(err) != codes.Unavailable || !strings.Contains(err.Error(), "cannot connect") {
		t.Fatal(err)
	}
	e.outcome(func(o Outcome) bool { return o.Attempts == 3 && o.Local })
	ln, err := net.Listen("tcp", e.saddr) // and it comes back
	if err != nil {
		t.Fatal(err)
	}
	e.srv = e.v.serve(ln)
	eventually(t, "it is found again", func() bool { _, err := unary(do(), e.cc, nil); return err == nil })
	e.empty()
}

// Servers come and go gracefully under load; no call may fail.
func TestGracefulStopUnderLoad(t *testing.T) {
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

func TestCancelWhileWaiting(t *testing.T) {
	e := newEnv(t, nil, grpc.MaxConcurrentStreams(1))
	unary(do(), e.cc, nil)
	ctx, cancel := context.WithCancel(do("do", "hang"))
	go unary(ctx, e.cc, nil)
	eventually(t, "running", func() bool { return e.v.running.Load() == 1 })
	c2, cancel2 := context.WithTimeout(do(), 50*time.Millisecond)
	defer cancel2()
	if _, err := unary(c2, e.cc, nil); status.Code(err) != codes.DeadlineExceeded {
		t.Fatal(err)
	}
	time.AfterFunc(50*time.Millisecond, cancel)
	if _, err := unary(do(), e.cc, []byte("x")); err != nil {
		t.Fatal(err)
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

func TestHeaderLimits(t *testing.T) {
	e := newEnv(t, nil)
	big := client(t, e.addr, grpc.WithMaxHeaderListSize(1<<20))
	defer big.Close()
	if _, err := unary(do("do", "bigheader"), big, nil); status.Code(err) != codes.ResourceExhausted && status.Code(err) != codes.Internal {
		t.Fatal(err)
	}
	c := rawClient(t, e.addr) // grpc-go would not send it: its peer's limit is known to it
	c.request(1, true, "a", strings.Repeat("x", 9000), "b", strings.Repeat("y", 9000))
	if got := c.status(1); got != "8" {
		t.Fatal("grpc-status", got)
	}
	c.request(3, true, "q", "1") // the connection, and its compression state, go on
	if got := c.status(3); got != "0" {
		t.Fatal("grpc-status", got)
	}
}

func TestRapidReset(t *testing.T) {
	e := newEnv(t, nil)
	c := rawClient(t, e.addr)
	var b []byte
	for i := range 5000 {
		b = c.appendRequest(b[:0], uint32(2*i+1), false, "do", "hang")
		if c.write(appendU32(b, fReset, uint32(2*i+1), codeCancel)) != nil {
			break
		}
	}
	c.goAway(codeCalm)
	e.empty()
	if n := e.live.Load(); n > 600 {
		t.Fatal("routed ", n)
	}
}

func TestContinuationFlood(t *testing.T) {
	e := newEnv(t, nil)
	c := rawClient(t, e.addr)
	c.write(append(appendFrame(nil, 1, fHeaders, 0, 1), 0x82))
	for range 100000 {
		if c.write(append(appendFrame(nil, 100, fContinuation, 0, 1), make([]byte, 100)...)) != nil {
			break
		}
	}
	c.goAway(codeCalm)
	_ = e
}

func TestFloods(t *testing.T) {
	for name, f := range map[string][]byte{
		"ping":     append(appendFrame(nil, 8, fPing, 0, 0), make([]byte, 8)...),
		"settings": appendSettings(nil, setWindow, 70000),
		"priority": append(appendFrame(nil, 5, fPriority, 0, 1), make([]byte, 5)...),
		"unknown":  appendFrame(nil, 0, 77, 0, 1),
	} {
		t.Run(name, func(t *testing.T) {
			e := newEnv(t, nil)
			c := rawClient(t, e.addr)
			go func() {
				for range 2000 {
					if c.write(bytes.Repeat(f, 100)) != nil {
						return
					}
				}
			}()
			c.goAway(codeCalm)
			_ = e
		})
	}
}

func TestProtocolErrors(t *testing.T) {
	for name, f := range map[string]func(c *raw){
		"even stream":       func(c *raw) { c.request(2, true) },
		"data on idle":      func(c *raw) { c.write(appendFrame(nil, 0, fData, 0, 99)) },
		"stream 0":          func(c *raw) { c.write(appendFrame(nil, 0, fData, 0, 0)) },
		"big frame":         func(c *raw) { c.write(appendFrame(nil, 1<<20, fData, 0, 1)) },
		"bad hpack":         func(c *raw) { c.write(append(appendFrame(nil, 2, fHeaders, 4, 1), 0xff, 0xff)) },
		"push":              func(c *raw) { c.write(appendFrame(nil, 0, fPush, 4, 1)) },
		"window overflow":   func(c *raw) { c.write(appendU32(nil, fWindow, 0, 1<<31-1)) },
		"padding":           func(c *raw) { c.write(append(appendFrame(nil, 1, fData, flagPadded, 1), 9)) },
		"lone continuation": func(c *raw) { c.write(appendFrame(nil, 0, fContinuation, 4, 1)) },
		"overrun": func(c *raw) {
			c.request(1, false, "do", "hang")
			for range 400 {
				c.write(append(appendFrame(nil, maxFrame, fData, 0, 1), make([]byte, maxFrame)...))
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			e := newEnv(t, nil)
			c := rawClient(t, e.addr)
			f(c)
			c.nc.SetReadDeadline(time.Now().Add(5 * time.Second))
			for {
				typ, _, _, err := c.read()
				if err != nil && !errors.Is(err, io.EOF) && !strings.Contains(err.Error(), "reset") {
					t.Fatal(err)
				}
				if err != nil || typ == fGoAway || typ == fReset {
					break
				}
			}
			if _, err := unary(do(), e.cc, nil); err != nil {
				t.Fatal(err)
			}
			c.nc.Close()
			e.empty()
		})
	}
	for name, kv := range map[string][]string{"upper case": {"Abc", "x"}, "connection": {"connection", "close"}, "te": {"te", "gzip"},
		"newline": {"a", "b\nc"}, "late pseudo": {"a", "b", ":path", "/x"}, "unknown pseudo": {":foo", "x"}, "status": {":status", "200"}} {
		t.Run(name, func(t *testing.T) {
			e := newEnv(t, nil)
			c := rawClient(t, e.addr)
			c.request(1, true, kv...)
			if typ, _, p := c.until(1); typ != fReset || p[3] != codeProtocol {
				t.Fatal(typ, p)
			}
		})
	}
}

type inlineListener struct{ net.Listener }

func (l inlineListener) Accept() (net.Conn, error) {
	nc, err := l.Listener.Accept()
	if err == nil {
		nc = Inline(nc)
	}
	return nc, err
}

func TestTLS(t *testing.T) {
	t.Run("plain", func(t *testing.T) { testTLS(t, false) })
	t.Run("inline", func(t *testing.T) { testTLS(t, true) })
}

// newTLS makes a configuration for both sides: one certificate that vouches for itself.
func newTLS(t testing.TB) *tls.Config {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	tpl := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "test"}, NotAfter: time.Now().Add(time.Hour),
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, IsCA: true, BasicConstraintsValid: true}
	der, err := x509.CreateCertificate(rand.Reader, tpl, tpl, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	leaf, _ := x509.ParseCertificate(der)
	pool := x509.NewCertPool()
	pool.AddCert(leaf)
	return &tls.Config{Certificates: []tls.Certificate{{Certificate: [][]byte{der}, PrivateKey: key, Leaf: leaf}}, RootCAs: pool, NextProtos: []string{"h2"}}
}

func clientTLS(conf *tls.Config) credentials.TransportCredentials {
	conf = conf.Clone()
	conf.ServerName = "127.0.0.1"
	return credentials.NewTLS(conf)
}

func testTLS(t *testing.T, inl bool) {
	conf := newTLS(t)
	sln, ln := listen(t), listen(t)
	v := &service{t: t}
	s := v.serve(sln, grpc.Creds(credentials.NewTLS(conf)))
	defer s.Stop()
	r := &Relay{}
	defer r.Close()
	up := r.NewUpstream("tls", 1, func(ctx context.Context) (net.Conn, error) {
		nc, err := tcp(sln.Addr().String())(ctx)
		if err == nil && inl {
			nc = Inline(nc)
		}
		c2 := conf.Clone()
		c2.ServerName = "127.0.0.1"
		return tls.Client(nc, c2), err
	})
	var peers atomic.Int64
	r.Route = func(h *Headers) (*Upstream, error) {
		if h.Conn.(*tls.Conn).ConnectionState().NegotiatedProtocol == "h2" {
			peers.Add(1)
		}
		return up, nil
	}
	if inl {
		ln = inlineListener{ln}
	}
	go r.Serve(tls.NewListener(ln, conf))
	defer ln.Close()
	cc := client(t, ln.Addr().String(), grpc.WithTransportCredentials(credentials.NewTLS(conf)))
	defer cc.Close()
	body := make([]byte, 3<<20)
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			for range 3 {
				if got, err := unary(do(), cc, body); err != nil || len(got) != len(body) {
					t.Error(err)
				}
			}
			for range 100 {
				if _, err := unary(do(), cc, []byte("x")); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	if peers.Load() != 8*103 {
		t.Fatal(peers.Load())
	}
	bad := r.NewUpstream("untrusted", 1, func(ctx context.Context) (net.Conn, error) {
		nc, err := tcp(sln.Addr().String())(ctx)
		return tls.Client(nc, &tls.Config{ServerName: "other", NextProtos: []string{"h2"}}), err
	})
	r.Route = func(h *Headers) (*Upstream, error) { return bad, nil }
	if _, err := unary(do(), cc, nil); status.Code(err) != codes.Unavailable || !strings.Contains(err.Error(), "certificate") {
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
	for range 2000 { // 64 MB
		if err := cs.RecvMsg(&msg{}); err != nil {
			t.Fatal(err)
		}
		time.Sleep(50 * time.Microsecond)
	}
	e.r.mu.Lock()
	most := 0
	for c := range e.r.conns {
		c.mu.Lock()
		var ss []*stream
		for _, s := range c.streams {
			ss = append(ss, s)
		}
		c.mu.Unlock()
		for _, s := range ss {
			s.mu.Lock()
			most = max(most, cap(s.h[0].pend), cap(s.h[1].pend))
			s.mu.Unlock()
		}
	}
	e.r.mu.Unlock()
	t.Logf("%d KiB kept", most>>10)
	if most == 0 || most > 3*e.r.StreamWindow {
		t.Fatal("grows")
	}
}

// A server that refuses what it has not begun: GOAWAY below the stream, then REFUSED_STREAM; grpc-go tries again by itself.
func TestRefused(t *testing.T) {
	e := newEnv(t, nil)
	rude, good := listen(t), e.saddr
	defer rude.Close()
	go func() {
		for i := 0; ; i++ {
			nc, err := rude.Accept()
			if err != nil {
				return
			}
			b := appendSettings(nil)
			if i == 0 {
				b = appendGoAway(b, 0, codeNo, "")
			} else {
				b = appendU32(b, fReset, 1, codeRefused)
			}
			go io.Copy(io.Discard, nc)
			time.AfterFunc(20*time.Millisecond, func() { nc.Write(b) })
		}
	}()
	for range 2 {
		var n atomic.Int32
		first, then := e.r.NewUpstream("rude", 1, tcp(rude.Addr().String())), e.r.NewUpstream("good", 1, tcp(good))
		e.r.Route = func(h *Headers) (*Upstream, error) {
			if n.Add(1) == 1 {
				return first, nil
			}
			return then, nil
		}
		cc := client(t, e.addr)
		if _, err := unary(do(), cc, []byte("x")); err != nil || n.Load() != 2 {
			t.Fatal(err, n.Load())
		}
		cc.Close()
	}
}

func TestResponseHook(t *testing.T) {
	e := newEnv(t, func(r *Relay) {
		r.Response = func(h *Headers, trailers bool) {
			if h.Set("seen", fmt.Sprint(trailers)); trailers {
				h.Del("t")
			}
		}
	})
	var h, tr metadata.MD
	if _, err := unary(do("q", "x"), e.cc, nil, grpc.Header(&h), grpc.Trailer(&tr)); err != nil {
		t.Fatal(err)
	}
	if h.Get("seen")[0] != "false" || tr.Get("seen")[0] != "true" || len(tr.Get("t")) != 0 || h.Get("h")[0] != "x" {
		t.Fatal(h, tr)
	}
}

func TestUpstreamCloseReroutes(t *testing.T) {
	e := newEnv(t, nil)
	dead := e.r.NewUpstream("dead", 1, func(ctx context.Context) (net.Conn, error) { <-ctx.Done(); return nil, ctx.Err() })
	e.r.Route = func(h *Headers) (*Upstream, error) {
		if h.Last == nil {
			return dead, nil
		}
		return e.up, nil
	}
	time.AfterFunc(50*time.Millisecond, dead.Close)
	if got, err := unary(do(), e.cc, []byte("x")); err != nil || string(got) != "x" {
		t.Fatal(err)
	}
}

// The relay's own deadline: the request waits for a place, so no server can answer it, and this client does not give up.
func TestOwnDeadline(t *testing.T) {
	e := newEnv(t, nil, grpc.MaxConcurrentStreams(1))
	unary(do(), e.cc, nil)
	ctx, cancel := context.WithCancel(do("do", "hang"))
	defer cancel()
	go unary(ctx, e.cc, nil)
	eventually(t, "running", func() bool { return e.v.running.Load() == 1 })
	c := rawClient(t, e.addr)
	start := time.Now()
	c.request(1, true, "grpc-timeout", "60m")
	if got := c.status(1); got != "4" || time.Since(start) > time.Second {
		t.Fatal("grpc-status", got, time.Since(start))
	}
	e.outcome(func(o Outcome) bool { return o.Status == 4 && o.Local })
	cancel()
	e.empty()
}
