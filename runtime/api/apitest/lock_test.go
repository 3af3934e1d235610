package apitest

import (
	"context"
	"errors"
	"io"
	"math"
	"strings"
	"testing"
	"time"

	lockv1 "github.com/outrigger-mesh/outrigger/proto/outrigger/lock/v1"
	sequencev1 "github.com/outrigger-mesh/outrigger/proto/outrigger/sequence/v1"
	statev1 "github.com/outrigger-mesh/outrigger/proto/outrigger/state/v1"
	"github.com/outrigger-mesh/outrigger/runtime/api/server"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/durationpb"
)

func TestLock(t *testing.T) {
	each(t, func(t *testing.T, _ front, _ *sidecar, cc grpc.ClientConnInterface) {
		ctx, c := within(t), lockv1.NewLockClient(cc)
		first := must[*lockv1.TryLockResponse](t)(c.TryLock(ctx, &lockv1.TryLockRequest{Name: "l", Owner: "a", Lease: durationpb.New(time.Minute)}))
		if d := first.Lease.AsDuration(); first.Token == 0 || d <= 0 || d > time.Minute {
			t.Error(first)
		}
		_, err := c.TryLock(ctx, &lockv1.TryLockRequest{Name: "l"})
		refused(t, "a lock that is held", err, codes.FailedPrecondition, "LOCK_HELD")
		if after := retryAfter(err); after <= 0 || after > time.Minute {
			t.Errorf("retry after %v, of a lease of a minute", after)
		}
		if _, md := reasonOf(err); md["capability"] != "lock" || md["component"] != "default" || md["driver"] != "local" {
			t.Error("an error does not say whose it is:", md)
		}
		if again := must[*lockv1.TryLockResponse](t)(c.TryLock(ctx, &lockv1.TryLockRequest{Name: "l", Owner: "a"})); again.Token != first.Token {
			t.Error("its owner has another token:", again)
		}
		brief, cancel := context.WithTimeout(ctx, 300*time.Millisecond)
		defer cancel()
		_, err = c.Lock(brief, &lockv1.LockRequest{Name: "l"})
		refused(t, "a wait in vain", err, codes.DeadlineExceeded, "LOCK_HELD")
		renewed := must[*lockv1.RenewResponse](t)(c.Renew(ctx, &lockv1.RenewRequest{Name: "l", Token: first.Token, Lease: durationpb.New(time.Hour)}))
		if d := renewed.Lease.AsDuration(); d <= time.Minute || d > time.Hour {
			t.Error(renewed)
		}
		waited := make(chan *lockv1.LockResponse)
		go func() {
			got, err := c.Lock(ctx, &lockv1.LockRequest{Name: "l"})
			if err != nil {
				t.Error(err)
			}
			waited <- got
		}()
		must[*lockv1.UnlockResponse](t)(c.Unlock(ctx, &lockv1.UnlockRequest{Name: "l", Token: first.Token}))
		second := <-waited
		if second.GetToken() <= first.Token {
			t.Error(second)
		}
		_, err = c.Unlock(ctx, &lockv1.UnlockRequest{Name: "l", Token: first.Token})
		refused(t, "unlock with an old token", err, codes.FailedPrecondition, "LOCK_LOST")
		_, err = c.Renew(ctx, &lockv1.RenewRequest{Name: "l", Token: first.Token})
		refused(t, "renew with an old token", err, codes.FailedPrecondition, "LOCK_LOST")
	})
}

func TestLockBadInput(t *testing.T) {
	each(t, func(t *testing.T, _ front, _ *sidecar, cc grpc.ClientConnInterface) {
		ctx, c := within(t), lockv1.NewLockClient(cc)
		for what, in := range map[string]*lockv1.TryLockRequest{
			"no name": {}, "a long name": {Name: strings.Repeat("l", 1025)}, "a long owner": {Name: "l", Owner: strings.Repeat("o", 1025)},
			"a short lease": {Name: "l", Lease: durationpb.New(time.Millisecond)}, "a long lease": {Name: "l", Lease: durationpb.New(25 * time.Hour)},
			"no lease": {Name: "l", Lease: durationpb.New(0)}, "a negative lease": {Name: "l", Lease: durationpb.New(-time.Second)},
			"a lease without end": {Name: "l", Lease: &durationpb.Duration{Seconds: 315576000000}},
		} {
			_, try := c.TryLock(ctx, in)
			refused(t, what, try, codes.InvalidArgument, "INVALID_ARGUMENT")
			_, wait := c.Lock(ctx, &lockv1.LockRequest{Name: in.Name, Owner: in.Owner, Lease: in.Lease})
			refused(t, what, wait, codes.InvalidArgument, "INVALID_ARGUMENT")
		}
		_, err := c.Renew(ctx, &lockv1.RenewRequest{Name: "l"})
		refused(t, "renew without a token", err, codes.InvalidArgument, "INVALID_ARGUMENT")
		_, err = c.Unlock(ctx, &lockv1.UnlockRequest{Name: "l"})
		refused(t, "unlock without a token", err, codes.InvalidArgument, "INVALID_ARGUMENT")
		_, err = c.TryLock(ctx, &lockv1.TryLockRequest{Component: "none", Name: "l"})
		refused(t, "no such component", err, codes.NotFound, "COMPONENT_NOT_FOUND")
	})
}

// bidi runs a test through every front-end that its clients here have streams both ways of; over HTTP with JSON: duplex_test.go.
func bidi(t *testing.T, test func(t *testing.T, c lockv1.LockClient), options ...option) {
	for _, f := range fronts() {
		if !f.json {
			t.Run(f.name, func(t *testing.T) {
				test(t, lockv1.NewLockClient(f.dial(t, start(t, append(options, f.options...)...))))
			})
		}
	}
}

func TestHold(t *testing.T) {
	bidi(t, func(t *testing.T, c lockv1.LockClient) {
		const lease = 1200 * time.Millisecond
		ctx := within(t)
		s := hold(t, ctx, c, holdOf("l", lease, false))
		held := must[*lockv1.HoldResponse](t)(s.Recv()).GetHeld()
		if d := held.GetLease().AsDuration(); held.GetToken() == 0 || d <= 0 || d > lease {
			t.Fatal(held)
		}
		_, err := hold(t, ctx, c, holdOf("l", 0, false)).Recv()
		refused(t, "hold of a held lock", err, codes.FailedPrecondition, "LOCK_HELD")
		_, err = hold(t, ctx, c, &lockv1.HoldRequest{Message: &lockv1.HoldRequest_Heartbeat_{}}).Recv()
		refused(t, "hold without a start", err, codes.InvalidArgument, "INVALID_ARGUMENT")
		_, err = hold(t, ctx, c, holdOf("", 0, false)).Recv()
		refused(t, "hold of nothing", err, codes.InvalidArgument, "INVALID_ARGUMENT")
		waits := hold(t, ctx, c, holdOf("l", time.Minute, true))
		for range 4 {
			time.Sleep(lease * 3 / 8)
			if err := s.Send(&lockv1.HoldRequest{Message: &lockv1.HoldRequest_Heartbeat_{Heartbeat: &lockv1.HoldRequest_Heartbeat{}}}); err != nil {
				t.Fatal(err)
			}
			if m := must[*lockv1.HoldResponse](t)(s.Recv()); m.GetRenewed().GetLease().AsDuration() <= 0 {
				t.Fatal(m)
			}
		}
		_, err = s.Recv() // an open stream alone does not keep a lock
		refused(t, "no more heartbeats", err, codes.FailedPrecondition, "LOCK_LOST")
		second := must[*lockv1.HoldResponse](t)(waits.Recv()).GetHeld()
		if second.GetToken() <= held.GetToken() {
			t.Error(second)
		}
		if err := waits.CloseSend(); err != nil {
			t.Error(err)
		}
		if m, err := waits.Recv(); !errors.Is(err, io.EOF) {
			t.Errorf("%v, %v", m, err)
		}
		free := must[*lockv1.TryLockResponse](t)(c.TryLock(ctx, &lockv1.TryLockRequest{Name: "l"}))
		must[*lockv1.UnlockResponse](t)(c.Unlock(ctx, &lockv1.UnlockRequest{Name: "l", Token: free.Token}))
	})
}

func TestHoldIsToldOfDraining(t *testing.T) {
	draining, drain := context.WithCancel(context.Background())
	defer drain()
	bidi(t, func(t *testing.T, c lockv1.LockClient) {
		ctx := within(t)
		s := hold(t, ctx, c, holdOf("l", time.Minute, false))
		one := must[*lockv1.HoldResponse](t)(s.Recv())
		drain() // of all but the first front-end it has begun already
		two := must[*lockv1.HoldResponse](t)(s.Recv())
		if one.GetHeld() == nil && two.GetHeld() == nil || one.GetDraining() == nil && two.GetDraining() == nil {
			t.Error(one, two)
		}
		_, err := c.TryLock(ctx, &lockv1.TryLockRequest{Name: "l"})
		refused(t, "the lock while it drains", err, codes.FailedPrecondition, "LOCK_HELD")
		if err := s.CloseSend(); err != nil {
			t.Error(err)
		}
		if m, err := s.Recv(); !errors.Is(err, io.EOF) {
			t.Errorf("%v, %v", m, err)
		}
	}, func(o *server.Options) { o.Services.Draining = draining })
}

// TestFence is why there are tokens: a holder that was frozen past its lease still writes.
func TestFence(t *testing.T) {
	each(t, func(t *testing.T, _ front, _ *sidecar, cc grpc.ClientConnInterface) {
		ctx, c, state := within(t), lockv1.NewLockClient(cc), statev1.NewStateClient(cc)
		write := func(token uint64, value string) error {
			_, err := state.Set(ctx, &statev1.SetRequest{Key: "k", Value: []byte(value), Fence: &statev1.Fence{Name: "l", Token: token}})
			return err
		}
		frozen := must[*lockv1.LockResponse](t)(c.Lock(ctx, &lockv1.LockRequest{Name: "l", Lease: durationpb.New(100 * time.Millisecond)}))
		if err := write(frozen.Token, "first"); err != nil {
			t.Fatal(err)
		}
		next := must[*lockv1.LockResponse](t)(c.Lock(ctx, &lockv1.LockRequest{Name: "l"}))
		if err := write(next.Token, "second"); err != nil {
			t.Fatal(err)
		}
		refused(t, "a write of the one before", write(frozen.Token, "too late"), codes.FailedPrecondition, "STALE_FENCE")
		if got := must[*statev1.GetResponse](t)(state.Get(ctx, &statev1.GetRequest{Key: "k"})); string(got.Value) != "second" {
			t.Errorf("it holds %q", got.Value)
		}
	})
}

// TestAHoldThatIsCutOffIsFree is about a client that goes without a word.
func TestAHoldThatIsCutOffIsFree(t *testing.T) {
	s := start(t)
	cc := dial(t, "unix:"+s.socket)
	c := lockv1.NewLockClient(cc)
	held := hold(t, within(t), lockv1.NewLockClient(dial(t, "unix:"+s.socket)), holdOf("other", time.Hour, false))
	must[*lockv1.HoldResponse](t)(held.Recv())
	leaving := dial(t, "unix:"+s.socket)
	gone := hold(t, within(t), lockv1.NewLockClient(leaving), holdOf("l", time.Hour, false))
	must[*lockv1.HoldResponse](t)(gone.Recv())
	leaving.Close()
	eventually(t, "the lock is free", func() bool {
		_, err := c.TryLock(within(t), &lockv1.TryLockRequest{Name: "l"})
		return err == nil
	})
	if _, err := c.TryLock(within(t), &lockv1.TryLockRequest{Name: "other"}); status.Code(err) != codes.FailedPrecondition {
		t.Errorf("another client's lock: %v", err)
	}
}

func retryAfter(err error) time.Duration {
	for _, d := range status.Convert(err).Details() {
		if r, ok := d.(*errdetails.RetryInfo); ok {
			return r.GetRetryDelay().AsDuration()
		}
	}
	return 0
}

func hold(t *testing.T, ctx context.Context, c lockv1.LockClient, first *lockv1.HoldRequest) grpc.BidiStreamingClient[lockv1.HoldRequest, lockv1.HoldResponse] {
	t.Helper()
	s, err := c.Hold(ctx)
	if err == nil {
		err = s.Send(first)
	}
	if err != nil && !errors.Is(err, io.EOF) {
		t.Fatal(err)
	}
	return s
}

func holdOf(name string, lease time.Duration, wait bool) *lockv1.HoldRequest {
	start := &lockv1.HoldRequest_Start{Name: name, Wait: wait}
	if lease != 0 {
		start.Lease = durationpb.New(lease)
	}
	return &lockv1.HoldRequest{Message: &lockv1.HoldRequest_Start_{Start: start}}
}

func TestSequence(t *testing.T) {
	each(t, func(t *testing.T, _ front, _ *sidecar, cc grpc.ClientConnInterface) {
		ctx, c := within(t), sequencev1.NewSequenceClient(cc)
		var last int64
		for _, in := range []*sequencev1.NextRequest{{}, {Size: 10}, {Order: sequencev1.NextRequest_ORDER_UNIQUE}, {Order: sequencev1.NextRequest_ORDER_INCREASING, Size: 1_000_000}} {
			in.Key = "k"
			got := must[*sequencev1.NextResponse](t)(c.Next(ctx, in))
			if got.First <= last || got.Last-got.First+1 != int64(max(in.Size, 1)) {
				t.Errorf("%v after %d", got, last)
			}
			last = got.Last
		}
		for what, in := range map[string]*sequencev1.NextRequest{
			"no key": {}, "a long key": {Key: strings.Repeat("k", 1025)}, "a negative size": {Key: "k", Size: -1}, "too many": {Key: "k", Size: 1_000_001},
			"far too many": {Key: "k", Size: math.MaxInt32}, "an unknown order": {Key: "k", Order: 7},
		} {
			_, err := c.Next(ctx, in)
			refused(t, what, err, codes.InvalidArgument, "INVALID_ARGUMENT")
		}
		_, err := c.Next(ctx, &sequencev1.NextRequest{Component: "none", Key: "k"})
		refused(t, "no such component", err, codes.NotFound, "COMPONENT_NOT_FOUND")
	})
}
