package client_test

import (
	"context"
	"errors"
	"net"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/status"
	"google.golang.org/grpc/test/bufconn"

	client "github.com/outrigger-mesh/outrigger/sdk/go"
)

func TestCallsWaitForTheSidecar(t *testing.T) {
	w := newWorld()
	path := filepath.Join(folder(t), "s")
	f := start(t, w, path)
	c := dial(t, client.WithSocket(path), client.WithGrace(30*time.Second))
	f.drain()
	done := make(chan error)
	go func() {
		_, err := c.Cache("").Set(within(t), "a", client.Item{Value: []byte("1")})
		done <- err
	}()
	select {
	case err := <-done:
		t.Fatalf("it did not wait: %v", err)
	case <-time.After(300 * time.Millisecond):
	}
	start(t, w, path)
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	if err := c.Wait(within(t)); err != nil {
		t.Error(err)
	}
}

// gRPC would forget in half an hour without calls that there has been a sidecar.
func TestIdleClientsWaitForTheSidecar(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var at atomic.Pointer[bufconn.Listener]
		var serving sync.WaitGroup
		begin := func() *grpc.Server {
			l, s := bufconn.Listen(1<<20), grpc.NewServer()
			healthpb.RegisterHealthServer(s, health{w: newWorld()})
			serving.Go(func() { _ = s.Serve(l) }) // it ends with Stop
			at.Store(l)
			return s
		}
		first := begin()
		c, err := client.Dial(t.Context(), client.WithAddress("127.0.0.1:7070"), client.WithGrace(10*time.Second),
			client.WithDialOptions(grpc.WithContextDialer(func(ctx context.Context, _ string) (net.Conn, error) { return at.Load().DialContext(ctx) })))
		if err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Hour)
		first.Stop()
		second := make(chan *grpc.Server, 1)
		time.AfterFunc(5*time.Second, func() { second <- begin() })
		if _, err := healthpb.NewHealthClient(c.API()).Check(t.Context(), &healthpb.HealthCheckRequest{}); err != nil {
			t.Error(err)
		}
		s := <-second // also where it did not wait
		c.Close()
		s.Stop()
		serving.Wait()
	})
}

func TestCallsInTheGapSayWhy(t *testing.T) {
	path := filepath.Join(folder(t), "s")
	f := start(t, newWorld(), path)
	c := dial(t, client.WithSocket(path), client.WithGrace(400*time.Millisecond))
	f.drain()

	// A deadline that is shorter than the time to wait.
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	_, err := c.Cache("").Get(ctx, "a")
	away(t, err)
	ctx, cancel = context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	_, err = c.Lock("").TryAcquire(ctx, "l", 0)
	away(t, err)

	// The end of that time, for both kinds of calls.
	_, err = c.Cache("").Get(within(t), "a")
	away(t, err)
	_, err = c.Conn("stock").NewStream(within(t), both, "/shop.Stock/Left")
	away(t, err)
	if after, ok := client.RetryAfter(err); !ok || after <= 0 {
		t.Errorf("no time to retry: %v", after)
	}

	ctx, cancel = context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	away(t, c.Wait(ctx))
}

func away(t *testing.T, err error) {
	t.Helper()
	if !errors.Is(err, client.ErrUnavailable) || client.Reason(err) != client.ReasonSidecarUnavailable || status.Code(err) != codes.Unavailable {
		t.Errorf("error %v", err)
	}
	if err != nil && !strings.Contains(err.Error(), "/s is away: no such file or directory") {
		t.Errorf("it does not say why: %v", err)
	}
}

func TestWaitConnects(t *testing.T) {
	w := newWorld()
	path := filepath.Join(folder(t), "s")
	f := start(t, w, path)
	c := dial(t, client.WithSocket(path))
	f.drain()
	waitFor(t, func() bool { // it takes a moment to be noticed
		ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
		defer cancel()
		return errors.Is(c.Wait(ctx), client.ErrUnavailable)
	})
	start(t, w, path)
	if err := c.Wait(within(t)); err != nil {
		t.Error(err)
	}
}

func TestGraceOfNothing(t *testing.T) {
	path := filepath.Join(folder(t), "s")
	f := start(t, newWorld(), path)
	c := dial(t, client.WithSocket(path), client.WithGrace(0))
	f.drain()
	_, err := c.Cache("").Get(within(t), "a")
	away(t, err)
}

func TestGraceComesAgain(t *testing.T) {
	w := newWorld()
	path := filepath.Join(folder(t), "s")
	f := start(t, w, path)
	c := dial(t, client.WithSocket(path), client.WithGrace(200*time.Millisecond))
	for range 2 {
		f.drain()
		_, err := c.Cache("").Exists(within(t), "a")
		away(t, err)
		f = start(t, w, path)
		if err := c.Wait(within(t)); err != nil {
			t.Fatal(err)
		}
		if _, err := c.Cache("").Exists(within(t), "a"); err != nil {
			t.Fatal(err)
		}
	}
}

func TestCallUnderWayIsLost(t *testing.T) {
	w := newWorld()
	w.hang = make(chan struct{})
	f := start(t, w, "127.0.0.1:0")
	c := dial(t, client.WithAddress(f.target))
	ended := make(chan error)
	go func() {
		_, err := c.Cache("").Get(within(t), "hang")
		ended <- err
	}()
	waitFor(t, func() bool {
		w.mu.Lock()
		defer w.mu.Unlock()
		return strings.HasSuffix(w.calls[len(w.calls)-1].method, "Cache/Get")
	})
	stopped := make(chan struct{})
	go func() { f.stop(); close(stopped) }() // waits for the handler
	err := <-ended
	close(w.hang)
	<-stopped
	if !errors.Is(err, client.ErrUnavailable) || client.Reason(err) != client.ReasonSidecarLost {
		t.Errorf("error %v", err)
	}
}

// Orderly restarts at the same place, under load: no call fails.
func TestRestartsLoseNoCall(t *testing.T) {
	for _, network := range []string{"unix", "tcp"} {
		t.Run(network, func(t *testing.T) {
			w := newWorld()
			place := "127.0.0.1:0"
			if network == "unix" {
				place = filepath.Join(folder(t), "s")
			}
			f := start(t, w, place)
			place = f.target
			option := client.WithAddress(place)
			if network == "unix" {
				option = client.WithSocket(place)
			}
			c := dial(t, option, client.WithGrace(30*time.Second))
			var calls atomic.Int64
			var group sync.WaitGroup
			ctx, stop := context.WithCancel(t.Context())
			for range 4 {
				group.Go(func() {
					for ctx.Err() == nil {
						if _, err := c.Cache("").Increment(context.WithoutCancel(ctx), "n", 1, 0); err != nil {
							t.Errorf("call failed: %v", err)
							return
						}
						calls.Add(1)
						time.Sleep(time.Millisecond)
					}
				})
			}
			for range 3 {
				before := calls.Load()
				waitFor(t, func() bool { return calls.Load() > before+20 || t.Failed() })
				f.drain()
				f = start(t, w, place)
			}
			before := calls.Load()
			waitFor(t, func() bool { return calls.Load() > before+20 || t.Failed() })
			stop()
			group.Wait()
			if n, err := c.Cache("").Increment(within(t), "n", 0, 0); err != nil || n != calls.Load() {
				t.Errorf("%d calls went well, %d arrived (%v)", calls.Load(), n, err)
			}
		})
	}
}
