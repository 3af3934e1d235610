package local

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/outrigger-mesh/outrigger/components"
	"github.com/outrigger-mesh/outrigger/components/registry"
)

// Watch begins anew, with the whole list, whenever the owner of the store has changed.
func (d *driver) Watch(ctx context.Context, s registry.Service, report func([]registry.Record) error) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	defer context.AfterFunc(d.ended, func() { cancel(errClosed) })()
	f := &follower{driver: d, report: report}
	for pause := firstPause; ; pause = min(2*pause, lastPause) {
		err := f.follow(ctx, watchIn{d.component, s})
		switch {
		case f.failed != nil:
			return f.failed
		case ctx.Err() != nil:
			return context.Cause(ctx)
		case !f.begun || !errors.Is(err, components.ErrUnavailable):
			return err
		case f.progress:
			pause = firstPause
		}
		select {
		case <-time.After(pause):
		case <-ctx.Done():
		}
	}
}

// follower is what one Watch has come to.
type follower struct {
	driver   *driver
	report   func([]registry.Record) error
	begun    bool  // a list was reported
	progress bool  // by this stream
	failed   error // of report
}

// follow reports what one stream tells until it ends.
func (f *follower) follow(ctx context.Context, in watchIn) error {
	f.progress = false
	stream, err := watchCall.Open(ctx, f.driver.Link)
	if err != nil {
		return err
	}
	defer stream.Close()
	if err := stream.Send(in); err != nil {
		_, err := stream.Recv()
		return err
	}
	for {
		out, err := stream.Recv()
		if err != nil {
			return fmt.Errorf("%w: the watch has ended: %w", components.ErrUnavailable, err)
		}
		if f.failed = f.report(out.Records); f.failed != nil {
			return f.failed
		}
		f.begun, f.progress = true, true
	}
}
