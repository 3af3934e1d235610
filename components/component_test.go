package components_test

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/outrigger-mesh/outrigger/components"
)

var id = components.ID{Capability: "cache", Name: "sessions", Driver: "one"}

// store is a driver that knows whether it is used after its end.
type store struct {
	name   string
	closed atomic.Bool
}

// use is what a front does with a component.
func use(ctx context.Context, c *components.Component[*store], do func(*store) error) (err error) {
	call, err := c.Begin(ctx, "get")
	if err != nil {
		return err
	}
	defer call.End(&err)
	return do(call.Driver)
}

func nothing(*store) error { return nil }

// detail is what a client gets to know of an error.
func detail(t *testing.T, err error) *components.Detail {
	t.Helper()
	var d *components.Detail
	if !errors.As(err, &d) {
		t.Fatalf("%v has no detail", err)
	}
	return d
}

func isClosed(c <-chan struct{}) bool {
	select {
	case <-c:
		return true
	default:
		return false
	}
}

func TestCallWithoutDriver(t *testing.T) {
	c := components.NewComponent[*store](id, components.Limits{}, nil)
	err := use(t.Context(), c, nothing)
	if !errors.Is(err, components.ErrUnavailable) || err.Error() != `cache "sessions": unavailable: not ready: it is starting` {
		t.Errorf("before the first: %v", err)
	}
	if d := detail(t, err); d.Reason != components.ReasonComponentNotReady || d.RetryAfter <= 0 ||
		d.Metadata["capability"] != "cache" || d.Metadata["component"] != "sessions" || d.Metadata["driver"] != "one" {
		t.Errorf("%+v", d)
	}
	c.Fail(errors.New("connection refused"))
	if err := use(t.Context(), c, nothing); err == nil || err.Error() != `cache "sessions": unavailable: not ready: connection refused` {
		t.Errorf("after a failure: %v", err)
	}
	c.Set(&store{})
	if err := use(t.Context(), c, nothing); err != nil {
		t.Errorf("with a driver: %v", err)
	}
	c.Clear(errors.New("it was taken away"))
	if err := use(t.Context(), c, nothing); err == nil || err.Error() != `cache "sessions": unavailable: not ready: it was taken away` {
		t.Errorf("after Clear: %v", err)
	}
}

func TestExpiredDeadlineDoesNotCallTheDriver(t *testing.T) {
	c := components.NewComponent[*store](id, components.Limits{}, nil)
	c.Set(&store{})
	ctx, cancel := context.WithDeadline(t.Context(), time.Now().Add(-time.Second))
	defer cancel()
	called := false
	err := use(ctx, c, func(*store) error { called = true; return nil })
	if called || !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("called: %v, %v; want DeadlineExceeded and no call", called, err)
	}
	if _, _, err := c.Stream(ctx, "watch"); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("stream: %v, want DeadlineExceeded", err)
	}
}

// hold occupies a place of c until release is called.
func hold(t *testing.T, c *components.Component[*store]) (release func()) {
	t.Helper()
	call, err := c.Begin(t.Context(), "hold")
	if err != nil {
		t.Fatal(err)
	}
	return func() { call.End(&err) }
}

func TestOverload(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := components.NewComponent[*store](id, components.Limits{Concurrency: 2, Queue: 1}, nil)
		c.Set(&store{})
		first, second := hold(t, c), hold(t, c)
		waited := make(chan error, 1)
		go func() { waited <- use(t.Context(), c, nothing) }()
		synctest.Wait()

		err := use(t.Context(), c, nothing)
		if !errors.Is(err, components.ErrExhausted) {
			t.Fatalf("with 2 under way and 1 waiting: %v, want ErrExhausted", err)
		}
		if d := detail(t, err); d.Reason != components.ReasonOverloaded || d.RetryAfter <= 0 || d.Metadata["limit"] != "concurrency" {
			t.Errorf("%+v", d)
		}
		first()
		if err := <-waited; err != nil {
			t.Errorf("the one that waited: %v", err)
		}
		second()
		hold(t, c)()
	})
}

func TestWaitEndsWithItsContext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := components.NewComponent[*store](id, components.Limits{Concurrency: 1, Queue: 1}, nil)
		c.Set(&store{})
		release := hold(t, c)
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		for range 2 { // the second finds the queue empty again
			if err := use(ctx, c, func(*store) error { t.Error("called"); return nil }); !errors.Is(err, context.DeadlineExceeded) {
				t.Errorf("%v, want DeadlineExceeded", err)
			}
			ctx, cancel = context.WithTimeout(t.Context(), time.Second)
			defer cancel()
		}
		release()
	})
}

// TestPlaceThatComesTooLate frees a place and ends the context of the one who waits for it before that one can see either.
func TestPlaceThatComesTooLate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := components.NewComponent[*store](id, components.Limits{Concurrency: 1}, nil)
		c.Set(&store{})
		refused := 0
		for range 50 {
			release := hold(t, c)
			ctx, cancel := context.WithCancel(t.Context())
			ended := make(chan error)
			go func() { ended <- use(ctx, c, nothing) }()
			synctest.Wait()
			release()
			cancel()
			if err := <-ended; errors.Is(err, context.Canceled) {
				refused++
			} else if err != nil {
				t.Fatal(err)
			}
		}
		if refused == 0 { // in some rounds the waiting one is faster than cancel
			t.Error("the driver is called for those who have given up")
		}
		hold(t, c)() // no place was lost
	})
}

func TestFrozenDriverDoesNotBlockItsSuccessor(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := components.NewComponent[*store](id, components.Limits{Concurrency: 1}, nil)
		c.Set(&store{name: "frozen"})
		release := hold(t, c)
		waited := make(chan string, 1)
		go func() {
			err := use(t.Context(), c, func(s *store) error { waited <- s.name; return nil })
			if err != nil {
				t.Error(err)
			}
		}()
		synctest.Wait()
		retired := c.Set(&store{name: "next"})
		if name := <-waited; name != "next" {
			t.Errorf("the call that waited got %q", name)
		}
		if isClosed(retired) {
			t.Error("the frozen driver may be closed though a call uses it")
		}
		c.Clear(errors.New("gone"))
		if err := use(t.Context(), c, nothing); !errors.Is(err, components.ErrUnavailable) {
			t.Errorf("%v, want ErrUnavailable at once", err)
		}
		release()
		<-retired
	})
}

// TestReloadUnderLoad replaces the driver again and again. No call may fail, none may find its driver closed, and each
// driver must become free to be closed.
func TestReloadUnderLoad(t *testing.T) {
	c := components.NewComponent[*store](id, components.Limits{Concurrency: 4}, nil)
	c.Set(&store{})
	stop := make(chan struct{})
	var callers sync.WaitGroup
	var calls atomic.Int64
	for range 16 {
		callers.Go(func() {
			for !isClosed(stop) {
				err := use(context.Background(), c, func(s *store) error {
					calls.Add(1)
					time.Sleep(10 * time.Microsecond) // as a back end would; callers that only spin starve the one who reloads
					if s.closed.Load() {
						return errors.New("used after its end")
					}
					return nil
				})
				if err != nil {
					t.Error(err)
					return
				}
			}
		})
	}
	current := &store{}
	<-c.Set(current)
	for i := 0; i < 200 || calls.Load() < 500; i++ {
		next := &store{}
		<-c.Set(next)
		current.closed.Store(true)
		current = next
	}
	close(stop)
	callers.Wait()
	<-c.Clear(errors.New("the end"))
}

// TestReplacedWhileACallBegins comes at the moment between finding the current driver and holding on to it.
func TestReplacedWhileACallBegins(t *testing.T) {
	c := components.NewComponent[*store](id, components.Limits{}, nil)
	current := &store{}
	c.Set(current)
	stop := make(chan struct{})
	var callers sync.WaitGroup
	for range 2 {
		callers.Go(func() {
			for !isClosed(stop) {
				_ = use(context.Background(), c, func(s *store) error {
					if s.closed.Load() {
						t.Error("a call got a driver that was given up before")
					}
					return nil
				})
			}
		})
	}
	for range 50000 {
		next := &store{}
		if isClosed(c.Set(next)) {
			current.closed.Store(true)
		}
		current = next
	}
	close(stop)
	callers.Wait()
}

func TestRetiredWaitsForTheLastCall(t *testing.T) {
	c := components.NewComponent[*store](id, components.Limits{}, nil)
	if retired := c.Set(&store{}); !isClosed(retired) {
		t.Error("there was none before the first, yet something has to end")
	}
	first, second := hold(t, c), hold(t, c)
	retired := c.Set(&store{})
	first()
	if isClosed(retired) {
		t.Error("retired with a call under way")
	}
	second()
	if !isClosed(retired) {
		t.Error("not retired though the last call has ended")
	}
}

func TestStreamEndsAtAReload(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := components.NewComponent[*store](id, components.Limits{Concurrency: 1}, nil)
		c.Set(&store{name: "old"})
		call, ctx, err := c.Stream(t.Context(), "watch")
		if err != nil || call.Driver.name != "old" {
			t.Fatal(err)
		}
		hold(t, c)() // a stream takes no place
		synctest.Wait()
		if ctx.Err() != nil {
			t.Fatalf("the stream ended by itself: %v", context.Cause(ctx))
		}
		retired := c.Set(&store{})
		<-ctx.Done()
		err = context.Cause(ctx)
		if d := detail(t, err); !errors.Is(err, components.ErrUnavailable) || d.Reason != components.ReasonReloaded {
			t.Errorf("ended with %v, reason %s", err, d.Reason)
		}
		if isClosed(retired) {
			t.Error("retired before the stream has ended its call")
		}
		call.End(&err)
		<-retired
		if d := detail(t, err); d.Reason != components.ReasonReloaded || d.Metadata["component"] != "sessions" {
			t.Errorf("%+v", d)
		}
	})
}

func TestStreamThatEndsLeavesNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) { // fails if the goroutine of the stream is left
		c := components.NewComponent[*store](id, components.Limits{}, nil)
		c.Set(&store{})
		call, ctx, err := c.Stream(t.Context(), "watch")
		if err != nil {
			t.Fatal(err)
		}
		call.End(&err)
		if ctx.Err() == nil || err != nil {
			t.Errorf("after End: %v, %v", ctx.Err(), err)
		}
	})
}

func TestReady(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := components.NewComponent[*store](id, components.Limits{}, nil)
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if err := c.Ready(ctx); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("without a driver: %v", err)
		}
		ready := make(chan error, 1)
		go func() { ready <- c.Ready(t.Context()) }()
		synctest.Wait()
		c.Clear(errors.New("not yet"))
		synctest.Wait()
		if len(ready) > 0 {
			t.Error("ready without a driver")
		}
		c.Set(&store{})
		if err := <-ready; err != nil {
			t.Error(err)
		}
	})
}

func TestDriverOfAnotherKind(t *testing.T) {
	c := components.NewComponent[*store](id, components.Limits{}, nil)
	if name := c.ID().Driver; name != "one" {
		t.Errorf("before the first it is of %q", name)
	}
	c.SetAs("two", components.Limits{}, &store{})
	err := use(t.Context(), c, func(*store) error { return components.ErrNotFound })
	if name := c.ID().Driver; name != "two" || detail(t, err).Metadata["driver"] != "two" {
		t.Errorf("it is of %q, its error says %v", name, detail(t, err).Metadata)
	}
}

// Who must not wait gets a call only where it need not, and what it withdraws leaves nothing.
func TestTryBegin(t *testing.T) {
	var seen journal
	c := components.NewComponent[*store](id, components.Limits{Concurrency: 1}, &seen)
	try := func(ctx context.Context) (components.Call[*store], bool) { return c.TryBegin(ctx, "try") }
	if _, ok := try(t.Context()); ok {
		t.Error("there is no driver")
	}
	retired := c.Set(&store{})
	<-retired
	over, cancel := context.WithCancel(t.Context())
	cancel()
	if _, ok := try(over); ok {
		t.Error("the call is over")
	}
	call, ok := try(t.Context())
	if _, second := try(t.Context()); !ok || second {
		t.Fatal("there is one place")
	}
	call.Withdraw()
	if call, ok = try(t.Context()); !ok {
		t.Fatal("what was withdrawn has kept its place")
	}
	retired = c.Clear(errors.New("gone"))
	select {
	case <-retired:
		t.Error("a call is under way")
	default:
	}
	var err error
	call.End(&err)
	<-retired
	if len(seen.lines) != 1 {
		t.Errorf("%q", seen.lines)
	}
}

// quick is a driver whose calls never wait.
type quick struct{}

func (quick) Instant() {}

func TestInstant(t *testing.T) {
	c := components.NewComponent[any](id, components.Limits{}, nil)
	if !c.Instant() {
		t.Error("without a driver calls fail at once, yet it is not instant")
	}
	c.Set(quick{})
	if !c.Instant() {
		t.Error("not instant though its driver is")
	}
	c.Set(&store{})
	if c.Instant() {
		t.Error("instant though its driver is not")
	}
}

// journal is an Observer that keeps what it is told.
type journal struct{ lines []string }

func (j *journal) Observe(_ context.Context, id components.ID, op string, start time.Time, err error) {
	j.lines = append(j.lines, fmt.Sprintf("%s %s %s %v %t", id.Name, id.Driver, op, err, start.IsZero()))
}

func TestEachCallIsObservedOnce(t *testing.T) {
	var j journal
	c := components.NewComponent[*store](id, components.Limits{}, &j)
	_ = use(t.Context(), c, nothing)
	c.Set(&store{})
	_ = use(t.Context(), c, nothing)
	_ = use(t.Context(), c, func(*store) error { return components.ErrConflict })
	want := []string{
		"sessions one get unavailable: not ready: it is starting false",
		"sessions one get <nil> false",
		"sessions one get version mismatch false",
	}
	if fmt.Sprint(j.lines) != fmt.Sprint(want) {
		t.Errorf("%q, want %q", j.lines, want)
	}
}

// TestAbsentKeyCostsNoAllocation: what a cache is asked for most often and does not have.
func TestAbsentKeyCostsNoAllocation(t *testing.T) {
	c := components.NewComponent[*store](id, components.Limits{}, nil)
	c.Set(&store{})
	absent := func(*store) error { return components.ErrNotFound }
	var err error
	if n := testing.AllocsPerRun(100, func() { err = use(t.Context(), c, absent) }); n > 0 {
		t.Errorf("%v allocations", n)
	}
	if d := detail(t, err); err.Error() != `cache "sessions": not found: there is no such key` || !errors.Is(err, components.ErrNotFound) || d.Metadata["driver"] != "one" {
		t.Errorf("%v, %v", err, d.Metadata)
	}
	c.SetAs("two", components.Limits{}, &store{})
	if d := detail(t, use(t.Context(), c, absent)); d.Metadata["driver"] != "two" {
		t.Errorf("after a reload: %v", d.Metadata)
	}
}

// TestSetLimitsKeepsTheDriverInUse: the driver is not retired before calls that began under the old limits have ended.
func TestSetLimitsKeepsTheDriverInUse(t *testing.T) {
	c := components.NewComponent[*store](id, components.Limits{}, nil)
	c.Set(&store{})
	release := hold(t, c)
	c.SetLimits(components.Limits{Concurrency: 1})
	c.SetLimits(components.Limits{Concurrency: 2})
	retired := c.Set(&store{})
	if isClosed(retired) {
		t.Error("retired while a call of the first limits runs")
	}
	release()
	if !isClosed(retired) {
		t.Error("not retired though the last call has ended")
	}
}

func TestErrorsNameTheComponent(t *testing.T) {
	c := components.NewComponent[*store](id, components.Limits{}, nil)
	c.Set(&store{})
	inner := components.WithReason(fmt.Errorf("%w: 5 bytes", components.ErrExhausted), "ITEM_TOO_LARGE", "limit", "max_item_bytes", "driver", "its own name")
	inner.(*components.Detail).RetryAfter = time.Minute
	err := use(t.Context(), c, func(*store) error { return fmt.Errorf("set: %w", inner) })
	d := detail(t, err)
	if err.Error() != `cache "sessions": set: exhausted: 5 bytes` || !errors.Is(err, components.ErrExhausted) {
		t.Errorf("%v", err)
	}
	if d.Reason != "ITEM_TOO_LARGE" || d.RetryAfter != time.Minute || d.Metadata["limit"] != "max_item_bytes" || d.Metadata["component"] != "sessions" || d.Metadata["driver"] != "its own name" {
		t.Errorf("%+v", d)
	}
}
