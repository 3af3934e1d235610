// Package lifecycle starts the parts of a process in order and stops them the other way round. It promises that what was
// started is stopped, whichever way the run ends, that one part which fails, panics or hangs does not keep the others from
// being stopped, and that Run returns within the drain time after the end began.
package lifecycle

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"
)

// Stage is one part of a process. Start and Stop are called at most once each, never both at once; either may be nil.
type Stage struct {
	Name string // for errors

	// Start returns when the stage is up. What it opened before it failed it closes: there is no Stop for it. Its ctx ends when
	// the run begins to end, so what must go on until Stop has a context of its own. Stages without a Start that come before all
	// others are up already: they are stopped also if ctx had ended before the run.
	Start func(ctx context.Context) error
	// Stop ends the stage and waits for its goroutines. When its ctx ends, it gives up what is still under way.
	Stop func(ctx context.Context) error
	// Done, if set, says that the stage has come to its end by itself, which ends the run: with an error, or in order when it
	// is nil or the channel is closed. It is read from the moment Start has returned.
	Done <-chan error
}

// Run starts the stages in order and waits until ctx ends or one of them is done, then stops those that were started, last
// first, within drain, which is asked once, when the end begins. It answers what went wrong, all of it joined; the end of ctx is no
// error.
//
// Each Stop may take what is left of drain, less a share that is kept for each stage after it. A Start or Stop that goes on
// after that is left to itself, and named in the error if it has not returned by the end of drain.
func Run(ctx context.Context, drain func() time.Duration, stages ...Stage) error {
	up, end := context.WithCancel(ctx)
	w := &watch{ctx: up, end: end}
	defer w.done()

	var r run
	for i, s := range stages {
		if s.Start == nil && len(r.started) == i {
			r.started = append(r.started, s)
			w.add(s)
			continue
		}
		if up.Err() != nil {
			break
		}
		if !r.start(up, s) {
			end()
			break
		}
		w.add(s)
	}
	<-up.Done()
	r.errs = append(r.errs, w.done())
	r.stop(context.WithoutCancel(ctx), drain(), len(stages))
	return errors.Join(r.errs...)
}

// run is what has been started, and what went wrong.
type run struct {
	started []Stage
	hanging *task // a Start that went on when the run began to end
	late    []*task
	errs    []error
}

// start answers whether to go on.
func (r *run) start(ctx context.Context, s Stage) bool {
	t := begin(s, "start", ctx, s.Start)
	select {
	case <-t.returned:
		r.settle(t, ctx.Err() != nil)
		return t.err == nil
	case <-ctx.Done():
		r.hanging = t
		return false
	}
}

// settle takes in what a Start came to. One that was told to give up, and did, is no failure.
func (r *run) settle(t *task, ending bool) {
	switch {
	case t.err == nil:
		r.started = append(r.started, t.stage)
	case !ending || !errors.Is(t.err, context.Canceled) && !errors.Is(t.err, context.DeadlineExceeded):
		r.errs = append(r.errs, t.failure())
	}
}

func (r *run) stop(ctx context.Context, drain time.Duration, stages int) {
	over := time.Now().Add(drain)
	share := min(time.Second, drain/time.Duration(2*(stages+1)))
	if t := r.hanging; t != nil {
		if t.wait(over.Add(-share * time.Duration(len(r.started)+1))) {
			r.settle(t, true)
		} else {
			r.late = append(r.late, t)
		}
	}
	for i := len(r.started) - 1; i >= 0; i-- {
		limit := over.Add(-share * time.Duration(i))
		sub, cancel := context.WithDeadline(ctx, limit.Add(-share/2)) // so that one that heeds ctx can still say how it went
		t := begin(r.started[i], "stop", sub, r.started[i].Stop)
		if t.wait(limit) {
			r.errs = append(r.errs, t.failure())
		} else {
			r.late = append(r.late, t)
		}
		cancel()
	}
	for _, t := range r.late {
		if t.wait(over) {
			r.errs = append(r.errs, t.failure())
		} else {
			r.errs = append(r.errs, fmt.Errorf("%s %s: still running after the drain time of %s", t.verb, t.stage.Name, drain))
		}
	}
}

// watch listens for stages that end by themselves.
type watch struct {
	ctx  context.Context
	end  context.CancelFunc
	wg   sync.WaitGroup
	mu   sync.Mutex
	errs []error
}

func (w *watch) add(s Stage) {
	if s.Done == nil {
		return
	}
	w.wg.Go(func() {
		select {
		case err := <-s.Done:
			if err != nil {
				w.mu.Lock()
				w.errs = append(w.errs, fmt.Errorf("%s: %w", s.Name, err))
				w.mu.Unlock()
			}
			w.end()
		case <-w.ctx.Done():
		}
	})
}

// done ends the watching and answers what was seen.
func (w *watch) done() error {
	w.end()
	w.wg.Wait()
	return errors.Join(w.errs...)
}
