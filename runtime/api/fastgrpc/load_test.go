package fastgrpc

import (
	"bytes"
	"context"
	"fmt"
	"math/rand/v2"
	"net"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/outrigger-mesh/outrigger/runtime/mesh/grpcproxy"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/keepalive"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
)

func TestKeepaliveAndWindows(t *testing.T) {
	_, _, cc, _ := start(t, "tcp", nil, grpc.WithKeepaliveParams(keepalive.ClientParameters{Time: 10 * time.Second, Timeout: time.Second, PermitWithoutStream: true}),
		grpc.WithStaticStreamWindowSize(65535), grpc.WithStaticConnWindowSize(65535))
	var wg sync.WaitGroup
	for range 20 {
		wg.Go(func() {
			for i := range 30 {
				m := []string{"Inline", "Block"}[i%2]
				b := make([]byte, rand.IntN(200<<10))
				if got, err := unary(context.Background(), cc, m, b); err != nil || len(got) != len(b) {
					t.Error(len(b), len(got), err)
					return
				}
			}
		})
	}
	wg.Wait()
}

func TestStorm(t *testing.T) {
	_, v, cc, _ := startWith(t, "tcp", nil, func(s *Server) { s.Relay.MaxWorkers = 8 })
	var wg sync.WaitGroup
	var n atomic.Int64
	for w := range 32 {
		wg.Go(func() {
			for i := range 150 {
				what := []string{"", "md", "details", "slow"}[(i+w)%4]
				m := []string{"Inline", "Block"}[rand.IntN(2)]
				if what == "slow" { // inline it would hold up the connection
					m = "Block"
				}
				ctx, cancel := context.WithTimeout(do("do", what, "raw-bin", "x", "id", fmt.Sprint(i)), time.Duration(1+rand.IntN(200))*time.Millisecond)
				b := []byte(fmt.Sprint(w, " ", i))
				got, err := unary(ctx, cc, m, b)
				switch status.Code(err) {
				case codes.OK:
					n.Add(1)
					if !bytes.Equal(got, b) {
						t.Errorf("%q %q", got, b)
					}
				case codes.FailedPrecondition, codes.DeadlineExceeded:
				default:
					t.Error(err)
				}
				cancel()
			}
		})
	}
	wg.Wait()
	if n.Load() < 500 || v.fast.Load() < 1000 {
		t.Fatal(n.Load(), v.fast.Load())
	}
}

func TestShutdown(t *testing.T) {
	s, _, cc, _ := start(t, "tcp", nil)
	done := make(chan error, 10)
	for range 10 {
		go func() { _, err := unary(do("do", "slow"), cc, "Block", []byte("x")); done <- err }()
	}
	time.Sleep(15 * time.Millisecond)
	ctx, cancel := context.WithTimeout(context.Background(), 3*time.Second)
	defer cancel()
	if err := s.Shutdown(ctx); err != nil {
		t.Fatal(err)
	}
	for range 10 {
		if err := <-done; err != nil {
			t.Fatal(err)
		}
	}
}

func TestInterceptor(t *testing.T) {
	var n atomic.Int64
	_, _, cc, _ := start(t, "tcp", func(o *Options) {
		o.Unary = append(o.Unary, func(ctx context.Context, req any, _ *grpc.UnaryServerInfo, h grpc.UnaryHandler) (any, error) {
			n.Add(1)
			if md, _ := metadata.FromIncomingContext(ctx); len(md.Get("token")) == 0 {
				return nil, status.Error(codes.Unauthenticated, "no token")
			}
			return h(ctx, req)
		})
	})
	if _, err := unary(context.Background(), cc, "Inline", nil); status.Code(err) != codes.Unauthenticated {
		t.Fatal(err)
	}
	if _, err := unary(do("token", "x"), cc, "Block", nil); err != nil || n.Load() != 2 {
		t.Fatal(err)
	}
}

func TestWouldBlock(t *testing.T) {
	var fast, slow atomic.Int64
	_, _, cc, addr := startWith(t, "tcp", nil, func(s *Server) {
		s.Relay.Unary("/t.T/Try", grpcproxy.Method{Handler: func(ctx context.Context, req, resp []byte) ([]byte, *grpcproxy.Status) {
			if fast.Add(1); len(req) > 10 {
				return append(resp, "junk"...), grpcproxy.WouldBlock
			}
			return append(resp, req...), nil
		}, Slow: func(ctx context.Context, req, resp []byte) ([]byte, *grpcproxy.Status) {
			slow.Add(1)
			time.Sleep(time.Millisecond)
			return append(resp, req...), nil
		}})
	})
	var wg sync.WaitGroup
	for w := range 8 {
		wg.Go(func() {
			for i := range 50 {
				b := bytes.Repeat([]byte{byte(w)}, []int{1, 1000, 20000}[i%3])
				if got, err := unary(context.Background(), cc, "Try", b); err != nil || !bytes.Equal(got, b) {
					t.Error(len(b), len(got), err)
				}
			}
		})
	}
	wg.Wait()
	if fast.Load() != 400 || slow.Load() != 8*33 {
		t.Fatal(fast.Load(), slow.Load())
	}
	if st := raw(t, addr, "/t.T/Try", "", append([]byte{0, 0, 0, 0, 20}, make([]byte, 20)...), true); st["grpc-status"] != "0" {
		t.Fatal(st)
	}
}

// TestRotate replaces the server under load again and again: no call may fail.
func TestRotate(t *testing.T) {
	var cur atomic.Pointer[Server]
	next := func() *Server {
		s := New(Options{Inline: inline})
		s.RegisterService(desc(), &svc{})
		return s
	}
	cur.Store(next())
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	go func() {
		for {
			nc, err := ln.Accept()
			if err != nil {
				return
			}
			go cur.Load().ServeConn(nc)
		}
	}()
	cc, err := grpc.NewClient("passthrough:///"+ln.Addr().String(), grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	defer cc.Close()
	var stop atomic.Bool
	var wg sync.WaitGroup
	var n atomic.Int64
	for w := range 12 {
		wg.Go(func() {
			for i := 0; !stop.Load(); i++ {
				if _, err := unary(context.Background(), cc, []string{"Inline", "Block"}[(i+w)%2], []byte("x")); err != nil {
					t.Error(err)
					return
				}
				n.Add(1)
			}
		})
	}
	for range 100 {
		time.Sleep(20 * time.Millisecond)
		old := cur.Swap(next())
		ctx, cancel := context.WithTimeout(context.Background(), 3*time.Second)
		if err := old.Shutdown(ctx); err != nil {
			t.Error(err)
		}
		cancel()
	}
	stop.Store(true)
	wg.Wait()
	cc.Close()
	cur.Load().Close()
	t.Log(n.Load(), "calls")
}
