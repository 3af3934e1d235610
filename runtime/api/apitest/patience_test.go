package apitest

import (
	"context"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/outrigger-mesh/outrigger/components"
	"github.com/outrigger-mesh/outrigger/components/lock"
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

// Those who wait for a lock, or for another application, do not keep its holder from renewing and freeing it, nor anyone else.
func TestACrowdThatWaitsHoldsNobodyUp(t *testing.T) {
	const each = 1200 // more than the engine has workers
	c := &crowd{Driver: open(t, lock.Drivers, "local")}
	s := start(t, func(o *server.Options) {
		o.Services.Locks = named[*lock.Lock]{"default": lock.New(component[lock.Driver]("lock", "default", "local", lock.Driver(c)))}
		o.Services.Invoker = c
	})
	holder := dial(t, "passthrough:///"+s.grpc)
	mine := lockv1.NewLockClient(holder)
	held := must[*lockv1.TryLockResponse](t)(mine.TryLock(within(t), &lockv1.TryLockRequest{Name: "l", Owner: "me"}))
	ctx, cancel := context.WithCancel(t.Context())
	var calls sync.WaitGroup
	defer calls.Wait()
	defer cancel()
	for _, ask := range []func(grpc.ClientConnInterface) error{
		func(cc grpc.ClientConnInterface) error {
			_, err := lockv1.NewLockClient(cc).Lock(ctx, &lockv1.LockRequest{Name: "l"})
			return err
		},
		func(cc grpc.ClientConnInterface) error {
			_, err := invocationv1.NewInvocationClient(cc).Invoke(ctx, &invocationv1.InvokeRequest{Service: "s", Method: "m"})
			return err
		},
	} {
		for range 2 { // a connection has 1000 calls at once
			cc := dial(t, "passthrough:///"+s.grpc)
			for range each / 2 {
				calls.Go(func() {
					if err := ask(cc); ctx.Err() == nil {
						t.Error("it did not wait:", err)
					}
				})
			}
		}
	}
	eventually(t, "all wait", func() bool { return c.waiting.Load() == 2*each })
	must[*lockv1.RenewResponse](t)(mine.Renew(within(t), &lockv1.RenewRequest{Name: "l", Token: held.GetToken()}))
	must[*statev1.SetResponse](t)(statev1.NewStateClient(holder).Set(within(t), &statev1.SetRequest{Key: "k"}))
	must[*lockv1.UnlockResponse](t)(mine.Unlock(within(t), &lockv1.UnlockRequest{Name: "l", Token: held.GetToken()}))
}
