package apitest

import (
	"context"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/outrigger-mesh/outrigger/components"
	"github.com/outrigger-mesh/outrigger/components/lock"
	cachev1 "github.com/outrigger-mesh/outrigger/proto/outrigger/cache/v1"
	configv1 "github.com/outrigger-mesh/outrigger/proto/outrigger/config/v1"
	invocationv1 "github.com/outrigger-mesh/outrigger/proto/outrigger/invocation/v1"
	lockv1 "github.com/outrigger-mesh/outrigger/proto/outrigger/lock/v1"
	statev1 "github.com/outrigger-mesh/outrigger/proto/outrigger/state/v1"
	"github.com/outrigger-mesh/outrigger/runtime/api/native"
	"github.com/outrigger-mesh/outrigger/runtime/api/server"

	"google.golang.org/grpc"
)

// crowd waits in Lock and in Invoke until the calls are cancelled.
type crowd struct {
	lock.Driver
	waiting atomic.Int64
}

func (c *crowd) wait(ctx context.Context) error {
	c.waiting.Add(1)
	<-ctx.Done()
	return ctx.Err()
}

func (c *crowd) Lock(ctx context.Context, _, _ string, _ time.Duration) (lock.Lease, error) {
	return lock.Lease{}, c.wait(ctx)
}

func (c *crowd) Invoke(ctx context.Context, _ components.Caller, _ *invocationv1.InvokeRequest) (*invocationv1.InvokeResponse, error) {
	return nil, c.wait(ctx)
}

var (
	_ lock.Waiter    = (*crowd)(nil)
	_ native.Invoker = (*crowd)(nil)
)

// ask has n callers ask, over as many connections as they need, until the test ends.
func ask(t *testing.T, s *sidecar, n int, call func(context.Context, grpc.ClientConnInterface) error) {
	ctx, cancel := context.WithCancel(t.Context())
	var calls sync.WaitGroup
	t.Cleanup(calls.Wait)
	t.Cleanup(cancel)
	var ccs []grpc.ClientConnInterface
	for i := range n {
		if i%1000 == 0 { // a connection has no more calls at once
			ccs = append(ccs, dial(t, "passthrough:///"+s.grpc))
		}
		cc := ccs[len(ccs)-1]
		calls.Go(func() {
			if err := call(ctx, cc); ctx.Err() == nil {
				t.Error("it did not wait:", err)
			}
		})
	}
}

// Those who wait for a lock, or for another application, do not keep its holder from renewing and freeing it, nor anyone else.
func TestACrowdThatWaitsHoldsNobodyUp(t *testing.T) {
	const workers, each = 10, 100
	c := &crowd{Driver: open(t, lock.Drivers, "local")}
	s := startWith(t, func(s *server.Server) { s.Relay().MaxWorkers = workers }, func(o *server.Options) {
		o.Services.Locks = named[*lock.Lock]{"default": lock.New(component[lock.Driver]("lock", "default", "local", lock.Driver(c)))}
		o.Services.Invoker = c
	})
	cc := dial(t, "passthrough:///"+s.grpc)
	mine := lockv1.NewLockClient(cc)
	held := must[*lockv1.TryLockResponse](t)(mine.TryLock(within(t), &lockv1.TryLockRequest{Name: "l", Owner: "me"}))
	ask(t, s, each, func(ctx context.Context, cc grpc.ClientConnInterface) error {
		_, err := lockv1.NewLockClient(cc).Lock(ctx, &lockv1.LockRequest{Name: "l"})
		return err
	})
	ask(t, s, each, func(ctx context.Context, cc grpc.ClientConnInterface) error {
		_, err := invocationv1.NewInvocationClient(cc).Invoke(ctx, &invocationv1.InvokeRequest{Service: "s", Method: "m"})
		return err
	})
	eventually(t, "all wait", func() bool { return s.Relay().Stats().Streams == 2*each })
	must[*lockv1.RenewResponse](t)(mine.Renew(within(t), &lockv1.RenewRequest{Name: "l", Token: held.GetToken()}))
	must[*statev1.SetResponse](t)(statev1.NewStateClient(cc).Set(within(t), &statev1.SetRequest{Key: "k"}))
	must[*lockv1.UnlockResponse](t)(mine.Unlock(within(t), &lockv1.UnlockRequest{Name: "l", Token: held.GetToken()}))
	if n := c.waiting.Load(); n != 2*each {
		t.Errorf("%d wait", n)
	}
}

// Nor do those whose back end is frozen, though they are more than it takes in at once.
func TestAFrozenBackEndHoldsNobodyUp(t *testing.T) {
	const calls = 1200
	s := start(t)
	ask(t, s, calls, func(ctx context.Context, cc grpc.ClientConnInterface) error {
		_, err := cachev1.NewCacheClient(cc).Get(ctx, &cachev1.GetRequest{Component: "counted", Key: "hang"})
		return err
	})
	eventually(t, "all wait", func() bool { return s.Relay().Stats().Streams == calls })
	states := statev1.NewStateClient(dial(t, "passthrough:///"+s.grpc))
	must[*statev1.SetResponse](t)(states.Set(within(t), &statev1.SetRequest{Key: "k"}))
}

// How many calls are under way is known of each way in; a stream is none.
func TestCallsUnderWayAreCounted(t *testing.T) {
	each(t, func(t *testing.T, _ front, s *sidecar, cc grpc.ClientConnInterface) {
		ctx, cancel := context.WithCancel(within(t))
		w, err := configv1.NewConfigClient(cc).Watch(ctx, &configv1.WatchRequest{Keys: []string{"k"}})
		if err == nil {
			_, err = w.Recv()
		}
		if err != nil {
			t.Fatal(err)
		}
		if n := s.UnderWay(); n != 0 {
			t.Errorf("%d calls are under way, and there is none", n)
		}
		ended := make(chan error, 1)
		go func() {
			_, err := cachev1.NewCacheClient(cc).Get(ctx, &cachev1.GetRequest{Component: "counted", Key: "hang"})
			ended <- err
		}()
		eventually(t, "it is under way", func() bool { return s.UnderWay() == 1 })
		cancel()
		<-ended
		eventually(t, "it has ended", func() bool { return s.UnderWay() == 0 })
	})
}
