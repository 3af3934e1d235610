package registry

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"time"

	"github.com/outrigger-mesh/outrigger/components"
)

// rewatch is how long a watcher waits before it asks a back end again that it has lost.
const rewatch = time.Second

// Watch reports all records of a service, sorted by address, then all again whenever they change. It calls report from one
// goroutine at a time and blocks until ctx ends or report fails.
//
// Before the first report it fails with what the driver says, so that "nobody has registered" and "the registry is away"
// are told apart. After that it rides out reloads and outages; meanwhile what was reported last is what is known.
func (r *Registry) Watch(ctx context.Context, s Service, report func([]Record) error) error {
	if err := s.Check(); err != nil {
		return err
	}
	w := &watcher{service: s, report: report}
	for {
		err := r.follow(ctx, w)
		if w.failed != nil {
			return w.failed
		}
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if !w.begun {
			return err
		}
		if !w.progress {
			select {
			case <-time.After(rewatch):
			case <-ctx.Done():
			}
		}
		if err := r.component.Ready(ctx); err != nil {
			return err
		}
	}
}

// List answers all records of a service, sorted by address.
func (r *Registry) List(ctx context.Context, s Service) (records []Record, err error) {
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	err = r.Watch(ctx, s, func(all []Record) error {
		records = all
		return errEnough
	})
	if errors.Is(err, errEnough) {
		err = nil
	}
	return records, err
}

var (
	errEnough = errors.New("the list has been reported")
	errClosed = fmt.Errorf("%w: the registry is closed", components.ErrUnavailable)
)

// watcher is what one call of Watch has come to.
type watcher struct {
	service  Service
	report   func([]Record) error
	begun    bool
	progress bool              // the driver that is followed now has reported
	last     [sha256.Size]byte // of what was reported: the records themselves are whose who watches
	failed   error             // of report
}

func (r *Registry) follow(ctx context.Context, w *watcher) (err error) {
	w.progress = false
	call, ctx, err := r.component.Stream(ctx, "watch")
	if err != nil {
		return err
	}
	defer call.End(&err)
	if err = able(call.Driver, w.service); err != nil {
		return err
	}
	err = call.Driver.Watch(ctx, w.service, w.take)
	if cause := context.Cause(ctx); cause != nil {
		return cause
	}
	if err == nil {
		err = fmt.Errorf("%w: the back end has ended the watch", components.ErrUnavailable)
	}
	return err
}

func (w *watcher) take(records []Record) error {
	w.progress = true
	records = orderly(w.service, records)
	now := digest(records)
	if w.begun && w.last == now {
		return nil
	}
	w.begun, w.last = true, now
	w.failed = w.report(records)
	return w.failed
}
