package lifecycle

import (
	"context"
	"errors"
	"fmt"
	"runtime/debug"
	"time"
)

// task is a Start or a Stop under way, in a goroutine of its own so that it can be given up.
type task struct {
	stage    Stage
	verb     string
	returned chan struct{} // closed when it has
	err      error         // then what it came to
}

func begin(s Stage, verb string, ctx context.Context, f func(context.Context) error) *task {
	t := &task{stage: s, verb: verb, returned: make(chan struct{}), err: errors.New("ended its goroutine")}
	go func() {
		defer close(t.returned)
		defer func() {
			if v := recover(); v != nil {
				t.err = fmt.Errorf("panic: %v\n%s", v, debug.Stack())
			}
		}()
		if f != nil {
			t.err = f(ctx)
		} else {
			t.err = nil
		}
	}()
	return t
}

// wait answers whether it returned by the time. One that has is never late, however late it is looked at.
func (t *task) wait(limit time.Time) bool {
	timer := time.NewTimer(time.Until(limit))
	defer timer.Stop()
	select {
	case <-t.returned:
		return true
	case <-timer.C:
	}
	select {
	case <-t.returned:
		return true
	default:
		return false
	}
}

func (t *task) failure() error {
	if t.err == nil {
		return nil
	}
	return fmt.Errorf("%s %s: %w", t.verb, t.stage.Name, t.err)
}
