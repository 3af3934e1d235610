package lifecycle_test

import (
	"context"
	"errors"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"

	"github.com/outrigger-mesh/outrigger/runtime/lifecycle"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func within(d time.Duration) func() time.Duration { return func() time.Duration { return d } }

// journal is what the stages of a test did, in order.
type journal struct {
	mu    sync.Mutex
	lines []string
}

func (j *journal) add(line string) {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.lines = append(j.lines, line)
}

func (j *journal) stage(name string) lifecycle.Stage {
	return lifecycle.Stage{
		Name:  name,
		Start: func(context.Context) error { j.add("start " + name); return nil },
		Stop:  func(context.Context) error { j.add("stop " + name); return nil },
	}
}

func (j *journal) expect(t *testing.T, want string) {
	t.Helper()
	j.mu.Lock()
	defer j.mu.Unlock()
	if got := strings.Join(j.lines, ", "); got != want {
		t.Errorf("happened: %s\nexpected: %s", got, want)
	}
}

func TestStopsInReverseWhenContextEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var j journal
		ctx, cancel := context.WithTimeout(t.Context(), time.Hour)
		defer cancel()
		if err := lifecycle.Run(ctx, within(time.Minute), j.stage("a"), lifecycle.Stage{Name: "nothing to do"}, j.stage("b")); err != nil {
			t.Errorf("the end of ctx is no error, got %v", err)
		}
		j.expect(t, "start a, start b, stop b, stop a")
	})
}

func TestFailedStartStopsWhatWasStarted(t *testing.T) {
	broken := errors.New("port in use")
	stuck := errors.New("stuck")
	var j journal
	b := j.stage("b")
	b.Stop = func(context.Context) error { j.add("stop b"); return stuck }
	bad := j.stage("bad")
	bad.Start = func(context.Context) error { return broken }
	err := lifecycle.Run(t.Context(), within(time.Minute), j.stage("a"), b, bad, j.stage("never"))
	j.expect(t, "start a, start b, stop b, stop a")
	if !errors.Is(err, broken) || !errors.Is(err, stuck) {
		t.Errorf("both errors are joined, got %v", err)
	}
	if !strings.Contains(err.Error(), "start bad: port in use") || !strings.Contains(err.Error(), "stop b: stuck") {
		t.Errorf("the error names stage and step, got %v", err)
	}
}

func TestStageThatEnds(t *testing.T) {
	lost := errors.New("listener lost")
	for name, tc := range map[string]struct {
		report func(chan error)
		want   error
	}{
		"with an error": {func(c chan error) { c <- lost }, lost},
		"in order":      {func(c chan error) { c <- nil }, nil},
		"closed":        {func(c chan error) { close(c) }, nil},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var j journal
				done := make(chan error, 1)
				a := j.stage("a")
				a.Done = done
				time.AfterFunc(time.Hour, func() { tc.report(done) })
				if err := lifecycle.Run(t.Context(), within(time.Minute), a, j.stage("b")); !errors.Is(err, tc.want) {
					t.Errorf("got %v, expected %v", err, tc.want)
				}
				j.expect(t, "start a, start b, stop b, stop a")
			})
		})
	}
}

func TestFailureOfAStartedStageEndsStarting(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var j journal
		lost := errors.New("lost")
		done := make(chan error, 1)
		a, slow := j.stage("a"), j.stage("slow")
		a.Done = done
		slow.Start = func(ctx context.Context) error {
			done <- lost
			<-ctx.Done()
			return ctx.Err()
		}
		err := lifecycle.Run(t.Context(), within(time.Minute), a, slow, j.stage("never"))
		j.expect(t, "start a, stop a")
		if !errors.Is(err, lost) || errors.Is(err, context.Canceled) {
			t.Errorf("only the failure is an error, not the start that gave up; got %v", err)
		}
	})
}

func TestStartThatReturnsAfterTheEndIsStopped(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var j journal
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		slow := j.stage("slow")
		slow.Start = func(context.Context) error { time.Sleep(10 * time.Second); j.add("start slow"); return nil }
		if err := lifecycle.Run(ctx, within(time.Minute), j.stage("a"), slow); err != nil {
			t.Error(err)
		}
		j.expect(t, "start a, start slow, stop slow, stop a")
	})
}

func TestHangingStartIsBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var j journal
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		release := make(chan struct{})
		defer close(release)
		hang := lifecycle.Stage{Name: "hang", Start: func(context.Context) error { <-release; return nil }}
		begun := time.Now()
		err := lifecycle.Run(ctx, within(time.Minute), j.stage("a"), hang, j.stage("never"))
		if took := time.Since(begun); took != time.Second+time.Minute {
			t.Errorf("took %s, expected until the end of ctx and the drain time", took)
		}
		if err == nil || !strings.Contains(err.Error(), "start hang: still running") {
			t.Errorf("the error names the start that hangs, got %v", err)
		}
		j.expect(t, "start a, stop a")
	})
}

func TestOneStopDoesNotKeepOthersFromStopping(t *testing.T) {
	release := make(chan struct{})
	for name, tc := range map[string]struct {
		stop func(context.Context) error
		want string
	}{
		"panics":      {func(context.Context) error { panic("boom") }, "panic: boom"},
		"hangs":       {func(context.Context) error { <-release; return nil }, "still running after the drain time of 10s"},
		"heeds ctx":   {func(ctx context.Context) error { <-ctx.Done(); return ctx.Err() }, "deadline exceeded"},
		"ends itself": {func(context.Context) error { runtime.Goexit(); return nil }, "ended its goroutine"},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				release = make(chan struct{})
				defer close(release)
				var j journal
				var left time.Duration
				a, bad := j.stage("a"), j.stage("bad")
				a.Stop = func(ctx context.Context) error {
					until, _ := ctx.Deadline()
					left = time.Until(until)
					j.add("stop a")
					return ctx.Err()
				}
				bad.Stop = tc.stop
				ctx, cancel := context.WithTimeout(t.Context(), time.Second)
				defer cancel()
				begun := time.Now()
				err := lifecycle.Run(ctx, within(10*time.Second), a, bad)
				if took := time.Since(begun); took > 11*time.Second {
					t.Errorf("took %s, more than ctx and the drain time", took)
				}
				if err == nil || !strings.Contains(err.Error(), "stop bad: ") || !strings.Contains(err.Error(), tc.want) {
					t.Errorf("error is %v, expected %q of bad", err, tc.want)
				}
				if left < 100*time.Millisecond {
					t.Errorf("the stage after it had only %s to stop", left)
				}
				j.expect(t, "start a, start bad, stop a")
			})
		})
	}
}

func TestPanickingStart(t *testing.T) {
	var j journal
	bad := j.stage("bad")
	bad.Start = func(context.Context) error { panic("boom") }
	err := lifecycle.Run(t.Context(), within(time.Minute), j.stage("a"), bad)
	if err == nil || !strings.Contains(err.Error(), "start bad: panic: boom") {
		t.Errorf("got %v", err)
	}
	j.expect(t, "start a, stop a")
}

func TestEndedContextStartsNothing(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	var j journal
	if err := lifecycle.Run(ctx, within(time.Minute), j.stage("a")); err != nil || !slices.Equal(j.lines, nil) {
		t.Errorf("error %v, happened: %v", err, j.lines)
	}
}

func TestStartContextEndsBeforeStop(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		var lent context.Context
		s := lifecycle.Stage{Name: "a",
			Start: func(ctx context.Context) error { lent = ctx; return ctx.Err() },
			Stop: func(ctx context.Context) error {
				if lent.Err() == nil {
					t.Error("the context of Start goes on")
				}
				return ctx.Err()
			}}
		if err := lifecycle.Run(ctx, within(time.Minute), s); err != nil {
			t.Errorf("the context of Stop is a fresh one, got %v", err)
		}
	})
}

// The drain time is that of when the end begins, not of when the run began.
func TestDrainTimeIsAskedAtTheEnd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithTimeout(t.Context(), time.Hour)
		defer cancel()
		began := time.Now()
		drain := func() time.Duration {
			if time.Since(began) < time.Hour {
				return time.Second
			}
			return 2 * time.Minute
		}
		slow := lifecycle.Stage{Name: "slow", Start: func(context.Context) error { return nil }, Stop: func(ctx context.Context) error {
			select {
			case <-time.After(time.Minute):
				return nil
			case <-ctx.Done():
				return ctx.Err()
			}
		}}
		if err := lifecycle.Run(ctx, drain, slow); err != nil {
			t.Error(err)
		}
	})
}

func TestWhatIsUpAlreadyIsStopped(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	var j journal
	up, later := j.stage("up"), j.stage("later")
	up.Start, later.Start = nil, nil
	if err := lifecycle.Run(ctx, within(time.Minute), up, j.stage("never"), later); err != nil {
		t.Error(err)
	}
	j.expect(t, "stop up")
}
