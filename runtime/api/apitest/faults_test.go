package apitest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/outrigger-mesh/outrigger/components/cache"
	"github.com/outrigger-mesh/outrigger/components/config"
	cachev1 "github.com/outrigger-mesh/outrigger/proto/outrigger/cache/v1"
	configv1 "github.com/outrigger-mesh/outrigger/proto/outrigger/config/v1"
	"github.com/outrigger-mesh/outrigger/runtime/api/fastgrpc"
	"github.com/outrigger-mesh/outrigger/runtime/api/server"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

func TestExpiredDeadlineDoesNotReachTheDriver(t *testing.T) {
	each(t, func(t *testing.T, f front, s *sidecar, cc grpc.ClientConnInterface) {
		c := cachev1.NewCacheClient(cc)
		must[*cachev1.SetResponse](t)(c.Set(within(t), &cachev1.SetRequest{Component: "counted", Key: "k"})) // the connection is there
		ctx, cancel := context.WithTimeout(context.Background(), time.Nanosecond)
		defer cancel()
		_, err := c.Get(ctx, &cachev1.GetRequest{Component: "counted", Key: "k"})
		if status.Code(err) != codes.DeadlineExceeded {
			t.Error(err)
		}
		if s.store.calls.Load() != 0 {
			t.Error("the driver was called")
		}
		// One that expires inside ends the driver's call, and what the driver makes of it is still the caller's deadline.
		ctx, cancel = context.WithTimeout(context.Background(), 50*time.Millisecond)
		defer cancel()
		if _, err = c.Get(ctx, &cachev1.GetRequest{Component: "counted", Key: "hang"}); status.Code(err) != codes.DeadlineExceeded {
			t.Error(err)
		}
	})
}

// Who calls a driver that hangs hears so, with a reason, before its own deadline ends the call; not each time, if the machine is
// busy just then.
func TestAHangingCallEndsWithAReason(t *testing.T) {
	each(t, func(t *testing.T, _ front, _ *sidecar, cc grpc.ClientConnInterface) {
		c := cachev1.NewCacheClient(cc)
		heard := 0
		for range 4 {
			ctx, cancel := context.WithTimeout(context.Background(), 400*time.Millisecond)
			_, err := c.Get(ctx, &cachev1.GetRequest{Component: "counted", Key: "hang"})
			cancel()
			if status.Code(err) != codes.DeadlineExceeded {
				t.Error(err)
			}
			if why, _ := reasonOf(err); why == "TIMEOUT" {
				heard++
			}
		}
		if heard < 2 {
			t.Errorf("%d of 4 calls had a reason", heard)
		}
	})
}

func TestAHangingCallHoldsUpNobody(t *testing.T) {
	each(t, func(t *testing.T, _ front, s *sidecar, cc grpc.ClientConnInterface) {
		c := cachev1.NewCacheClient(cc)
		s.store.inside = make(chan struct{})
		ctx, cancel := context.WithCancel(context.Background())
		defer cancel()
		ended := make(chan error, 1)
		go func() {
			_, err := c.Get(ctx, &cachev1.GetRequest{Component: "counted", Key: "hang"})
			ended <- err
		}()
		<-s.store.inside
		for range 10 { // the same connection
			must[*cachev1.ExistsResponse](t)(c.Exists(within(t), &cachev1.ExistsRequest{Key: "k"}))
		}
		cancel()
		if err := <-ended; status.Code(err) != codes.Canceled {
			t.Error(err)
		}
	})
}

func TestPanicAndOddErrors(t *testing.T) {
	each(t, func(t *testing.T, _ front, _ *sidecar, cc grpc.ClientConnInterface) {
		c := cachev1.NewCacheClient(cc)
		for _, key := range []string{"panic", "odd", "panic"} {
			_, err := c.Get(within(t), &cachev1.GetRequest{Component: "counted", Key: key})
			refused(t, key, err, codes.Internal, "INTERNAL")
			if text := err.Error(); strings.Contains(text, "hunter2") || strings.Contains(text, "as asked") {
				t.Errorf("it tells what is not for the caller: %q", text)
			}
		}
		must[*cachev1.SetResponse](t)(c.Set(within(t), &cachev1.SetRequest{Component: "counted", Key: "k"}))
	})
}

func TestBytesInFlightAreBounded(t *testing.T) {
	bounded := func(o *server.Options) { o.MaxInFlight = 1 << 20 }
	each(t, func(t *testing.T, f front, _ *sidecar, cc grpc.ClientConnInterface) {
		c := cachev1.NewCacheClient(cc)
		_, err := c.Set(within(t), &cachev1.SetRequest{Key: "k", Value: make([]byte, 2<<20)})
		refused(t, "more than all", err, codes.ResourceExhausted, "OVERLOADED")
		if _, md := reasonOf(err); md["limit"] != "max_in_flight_bytes" {
			t.Error(md)
		}
		retry := false
		for _, d := range status.Convert(err).Details() {
			if r, ok := d.(*errdetails.RetryInfo); ok {
				retry = r.GetRetryDelay().AsDuration() > 0
			}
		}
		if !retry {
			t.Error("it does not say when to retry")
		}
		if f.json { // a large body counts, however small the request in it
			err := cc.(*jsonConn).raw(within(t), cachev1.Cache_Get_FullMethodName, append(bytes.Repeat([]byte(" "), 2<<20), `{"key":"k"}`...), &cachev1.GetResponse{})
			refused(t, "a large body", err, codes.ResourceExhausted, "OVERLOADED")
		}
		for range 10 { // what has ended, well or not, holds nothing
			must[*cachev1.SetResponse](t)(c.Set(within(t), &cachev1.SetRequest{Key: "k", Value: make([]byte, 300<<10)}))
			c.Get(within(t), &cachev1.GetRequest{Component: "counted", Key: "panic"})
			c.Set(within(t), &cachev1.SetRequest{Value: make([]byte, 300<<10)})
		}
	}, bounded)
}

// flood is a configuration that changes as fast as it is asked to, each value of half a MiB.
type flood struct {
	config.Driver
	mu       sync.Mutex
	reported int
	stop     chan struct{}
	ended    chan struct{}
}

func (f *flood) Watch(ctx context.Context, _ config.Selection, report func([]config.Change, bool) error) error {
	defer close(f.ended)
	value := make([]byte, 512<<10)
	for i := 0; ; i++ {
		item := config.Item{Key: app.Namespace + "/k", Value: value, Version: fmt.Sprint(i)}
		if err := report([]config.Change{{Key: item.Key, Item: item}}, i == 0); err != nil {
			return err
		}
		f.mu.Lock()
		f.reported = i
		f.mu.Unlock()
		select {
		case <-f.stop:
			<-ctx.Done()
			return ctx.Err()
		case <-ctx.Done():
			return ctx.Err()
		default:
			value = append([]byte(nil), value...) // each its own memory
		}
	}
}

func (f *flood) count() int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.reported
}

func TestWatcherThatStopsReading(t *testing.T) {
	each(t, func(t *testing.T, f front, s *sidecar, cc grpc.ClientConnInterface) {
		many := &flood{stop: make(chan struct{}), ended: make(chan struct{})}
		s.settings.Set(many)
		ctx, cancel := context.WithCancel(within(t))
		defer cancel()
		w := must[grpc.ServerStreamingClient[configv1.WatchResponse]](t)(configv1.NewConfigClient(cc).Watch(ctx, &configv1.WatchRequest{Keys: []string{"k"}}))
		must[*configv1.WatchResponse](t)(w.Recv())
		eventually(t, "1000 changes were reported to a reader that has stopped", func() bool { return many.count() > 1000 })
		close(many.stop)
		var m runtime.MemStats
		eventually(t, "memory that half a GiB of changes does not show in", func() bool {
			runtime.GC()
			runtime.ReadMemStats(&m)
			return m.HeapAlloc < 100<<20
		})
		must[*cachev1.ExistsResponse](t)(cachev1.NewCacheClient(cc).Exists(within(t), &cachev1.ExistsRequest{Key: "k"})) // on the same connection
		last, reads := fmt.Sprint(many.count()), 0
		for got := ""; got != last; reads++ { // it reads on: the last value arrives
			r := must[*configv1.WatchResponse](t)(w.Recv())
			got = r.Changes[0].Item.GetVersion()
		}
		if reads > 200 {
			t.Error("values between were kept:", reads)
		}
		cancel()
		<-many.ended
	})
}

func TestClientGoneInMidStream(t *testing.T) {
	each(t, func(t *testing.T, f front, s *sidecar, cc grpc.ClientConnInterface) {
		many := &flood{stop: make(chan struct{}), ended: make(chan struct{})}
		s.settings.Set(many)
		w := must[grpc.ServerStreamingClient[configv1.WatchResponse]](t)(configv1.NewConfigClient(cc).Watch(within(t), &configv1.WatchRequest{Keys: []string{"k"}}))
		must[*configv1.WatchResponse](t)(w.Recv())
		switch cc := cc.(type) {
		case *grpc.ClientConn:
			cc.Close()
		case *jsonConn:
			w.(*grpc.GenericClientStream[configv1.WatchRequest, configv1.WatchResponse]).ClientStream.(*jsonStream).resp.Body.Close()
		}
		select {
		case <-many.ended:
		case <-time.After(20 * time.Second):
			t.Fatal("the driver's watch goes on")
		}
	})
}

func TestReloadEndsWatches(t *testing.T) {
	each(t, func(t *testing.T, _ front, s *sidecar, cc grpc.ClientConnInterface) {
		w := must[grpc.ServerStreamingClient[configv1.WatchResponse]](t)(configv1.NewConfigClient(cc).Watch(within(t), &configv1.WatchRequest{Keys: []string{"k"}}))
		must[*configv1.WatchResponse](t)(w.Recv())
		s.settings.Set(open(t, config.Drivers, "file"))
		_, err := w.Recv()
		refused(t, "the watch of what was replaced", err, codes.Unavailable, "RELOADED")
	})
}

func TestShutdown(t *testing.T) {
	each(t, func(t *testing.T, _ front, s *sidecar, cc grpc.ClientConnInterface) {
		w := must[grpc.ServerStreamingClient[configv1.WatchResponse]](t)(configv1.NewConfigClient(cc).Watch(within(t), &configv1.WatchRequest{Keys: []string{"k"}}))
		must[*configv1.WatchResponse](t)(w.Recv())
		s.store.inside = make(chan struct{})
		c := cachev1.NewCacheClient(cc)
		ended := make(chan error, 1)
		ctx, cancel := context.WithCancel(context.Background())
		defer cancel()
		go func() {
			_, err := c.Get(ctx, &cachev1.GetRequest{Component: "counted", Key: "hang"})
			ended <- err
		}()
		<-s.store.inside
		down := make(chan error, 1)
		go func() { down <- s.Shutdown(within(t)) }()
		_, err := w.Recv()
		refused(t, "a stream", err, codes.Unavailable, "DRAINING")
		select {
		case err := <-down:
			t.Fatal("a call is under way, and yet it is down:", err)
		case err := <-ended:
			t.Fatal("the call was not left to end:", err)
		case <-time.After(50 * time.Millisecond):
		}
		cancel()
		<-ended
		if err := <-down; err != nil {
			t.Error(err)
		}
		if err := s.Shutdown(within(t)); err != nil {
			t.Error("once more:", err)
		}
	})
}

func TestShutdownDoesNotWaitForEver(t *testing.T) {
	each(t, func(t *testing.T, _ front, s *sidecar, cc grpc.ClientConnInterface) {
		s.store.inside = make(chan struct{})
		ended := make(chan error, 1)
		go func() {
			_, err := cachev1.NewCacheClient(cc).Get(context.Background(), &cachev1.GetRequest{Component: "counted", Key: "hang"})
			ended <- err
		}()
		<-s.store.inside
		ctx, cancel := context.WithTimeout(context.Background(), 50*time.Millisecond)
		defer cancel()
		if err := s.Shutdown(ctx); !errors.Is(err, context.DeadlineExceeded) {
			t.Error(err)
		}
		if err := <-ended; err == nil {
			t.Error("a call that was cut off has an answer")
		}
	})
}

// instant is a store that never waits, and tells whether it was called where it may not.
type instant struct {
	cache.Driver
	mayWait atomic.Bool
}

func (*instant) Instant() {}

func (i *instant) Get(ctx context.Context, key string) (cache.Item, error) {
	i.mayWait.Store(fastgrpc.MayWait(ctx))
	return i.Driver.Get(ctx, key)
}

func TestOnlyInstantDriversRunOnTheReader(t *testing.T) {
	each(t, func(t *testing.T, f front, s *sidecar, cc grpc.ClientConnInterface) {
		c := cachev1.NewCacheClient(cc)
		quick := &instant{Driver: s.store.Driver}
		s.caches["quick"] = cache.New(component[cache.Driver]("cache", "quick", "instant", quick))
		_, err := c.Get(within(t), &cachev1.GetRequest{Component: "quick", Key: "k"})
		refused(t, "get", err, codes.NotFound, "KEY_NOT_FOUND")
		if framed := f.name == "unix" || f.name == "tcp"; quick.mayWait.Load() == framed {
			t.Error("may wait:", quick.mayWait.Load())
		}
	})
}
