package config

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/outrigger-mesh/outrigger/components"
)

// retryWatch is how long a watcher that was told last known values waits before the back end is asked again.
const retryWatch = time.Second

// Watch tells send the present state first (Initial), absent keys of sel.Keys among it, then each key's newest value as it
// changes, sorted by key, in messages of PageBytes. It calls send from the calling goroutine and blocks until ctx ends, send fails, the component is
// replaced (ErrUnavailable, reason RELOADED) or the back end is lost. A send that takes long costs one pending change a
// key and holds up nobody else.
//
// While the back end is unavailable the present state is what is known of it, each value marked Stale; keys of which
// nothing is known are left out, and if that are all, Watch fails. When it is back, all that differs or was stale follows.
func (c *Config) Watch(ctx context.Context, caller components.Caller, sel Selection, send func(Message) error) error {
	full, err := storedSelection(caller, sel)
	if err != nil {
		return c.component.Named(err)
	}
	w := newWatcher(full, len(caller.Namespace)+1, send)
	for {
		err := c.serve(ctx, w)
		if !c.bridge(ctx, w, err) {
			return err
		}
	}
}

// bridge tells whether to go on after err: the back end has not been reached yet, and the last known values do until it is.
func (c *Config) bridge(ctx context.Context, w *watcher, err error) bool {
	if w.isLive() || !errors.Is(err, components.ErrUnavailable) || isReload(err) || ctx.Err() != nil {
		return false
	}
	if !w.begun {
		last := c.known.selected(w.sel)
		if len(last) == 0 {
			return false
		}
		w.take(last)
		if w.flush() != nil {
			return false
		}
	}
	select {
	case <-time.After(retryWatch):
	case <-ctx.Done():
	}
	return true
}

func isReload(err error) bool {
	var d *components.Detail
	return errors.As(err, &d) && d.Reason == components.ReasonReloaded
}

// serve sends what the driver reports. The driver's call has a goroutine of its own, so that a reader that has stopped reading
// does not keep a replaced driver from being closed.
func (c *Config) serve(ctx context.Context, w *watcher) error {
	ctx, stop := context.WithCancel(ctx)
	ended := make(chan error, 1)
	go func() { ended <- c.follow(ctx, w) }()
	for {
		select {
		case <-w.wake:
			if err := w.flush(); err != nil {
				stop()
				<-ended
				return err
			}
		case err := <-ended:
			stop()
			if failed := w.flush(); failed != nil {
				return failed
			}
			return err
		}
	}
}

func (c *Config) follow(ctx context.Context, w *watcher) (err error) {
	call, ctx, err := c.component.Stream(ctx, "watch")
	if err != nil {
		return err
	}
	defer call.End(&err)
	err = call.Driver.Watch(ctx, w.sel, func(changes []Change, initial bool) error {
		if err := context.Cause(ctx); err != nil {
			return err
		}
		c.remember(changes)
		w.report(changes, initial)
		return nil
	})
	if cause := context.Cause(ctx); cause != nil {
		return cause
	}
	if err == nil {
		err = fmt.Errorf("%w: the back end has ended the watch", components.ErrUnavailable)
	}
	return err
}

func (c *Config) remember(changes []Change) {
	for _, change := range changes {
		if change.Deleted {
			c.known.drop(change.Key, c.known.now())
		} else {
			c.known.put(change.Key, change.Item, c.known.now())
		}
	}
}
