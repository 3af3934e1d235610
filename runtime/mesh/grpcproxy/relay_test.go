package grpcproxy

import (
	"bytes"
	"context"
	"crypto/rand"
	"fmt"
	"io"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
)

func TestUnaryMetadataTrailersDetails(t *testing.T) {
	t.Log("feature: grpc, metadata, trailers and details of errors")
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
	t.Log("feature: grpc, events of a server and streams, as they come")
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
	t.Log("feature: grpc, bodies and messages of any size")
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
