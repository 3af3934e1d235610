package registry

import (
	"context"
	"errors"
	"maps"
	"slices"
	"sync"

	"github.com/outrigger-mesh/outrigger/components"
)

// wanted is what shall be registered, whichever driver there is, and the goroutine that sees to it.
type wanted struct {
	mu     sync.Mutex
	wishes map[place]*wish
	closed bool
	stop   context.CancelFunc // nil: no goroutine yet
	ended  chan struct{}
	wake   chan struct{}
}

type place struct {
	service Service
	address string
}

// wish is what shall be at a place. busy is held while a driver is told, so that it hears of wishes in their order.
type wish struct {
	busy   chan struct{}
	record *Record // nil: nothing
	done   bool    // the driver has been told
}

// Register announces a record and keeps it announced until Deregister; again, it replaces what was announced at the
// address. When it fails with ErrUnavailable or ErrExhausted, or because ctx has ended, the wish stands all the same and is
// tried again in the background; after any other error what was wished before stands.
func (r *Registry) Register(ctx context.Context, record Record) error {
	if err := record.Check(); err != nil {
		return err
	}
	record = record.clone()
	return r.want(ctx, place{record.Service, record.Address}, &record)
}

// Deregister takes a record back; that it is not there is no error. When it fails, it is tried again in the background.
func (r *Registry) Deregister(ctx context.Context, s Service, address string) error {
	if err := s.Check(); err != nil {
		return err
	}
	return r.want(ctx, place{s, address}, nil)
}

// Close ends the work in the background. Records stay announced until the driver is closed.
func (r *Registry) Close() {
	w := &r.wanted
	w.mu.Lock()
	w.closed = true
	stop := w.stop
	w.mu.Unlock()
	if stop != nil {
		stop()
		<-w.ended
	}
}

func (r *Registry) want(ctx context.Context, at place, record *Record) error {
	it, before, err := r.note(at, record)
	if err != nil {
		return err
	}
	err = r.tell(ctx, at, it)
	if err != nil && record != nil && final(err) {
		r.wanted.revert(at, it, record, before)
	}
	if err != nil {
		select {
		case r.wanted.wake <- struct{}{}:
		default:
		}
	}
	return err
}

func (r *Registry) note(at place, record *Record) (it *wish, before *Record, err error) {
	w := &r.wanted
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.closed {
		return nil, nil, components.WithReason(errClosed, components.ReasonComponentNotReady)
	}
	if w.stop == nil {
		ctx, stop := context.WithCancel(context.Background())
		w.stop, w.ended, w.wake = stop, make(chan struct{}), make(chan struct{}, 1)
		go r.keep(ctx)
	}
	if it = w.wishes[at]; it == nil {
		it = &wish{busy: make(chan struct{}, 1)}
		w.wishes[at] = it
	}
	before = it.record
	it.record, it.done = record, false
	return it, before, nil
}

// tell makes the driver do what is wished now, whatever was wished when it was asked for.
func (r *Registry) tell(ctx context.Context, at place, it *wish) (err error) {
	select {
	case it.busy <- struct{}{}:
		defer func() { <-it.busy }()
	case <-ctx.Done():
		return ctx.Err()
	}
	record := r.wanted.current(it)
	op := "register"
	if record == nil {
		op = "deregister"
	}
	call, err := r.component.Begin(ctx, op)
	if err != nil {
		return err
	}
	defer call.End(&err)
	if record == nil {
		err = call.Driver.Deregister(ctx, at.service, at.address)
	} else if err = able(call.Driver, record.Service); err == nil {
		err = call.Driver.Register(ctx, record.clone())
	}
	r.wanted.settle(at, it, record, err)
	return err
}

func (w *wanted) current(it *wish) *Record {
	w.mu.Lock()
	defer w.mu.Unlock()
	return it.record
}

// settle notes what came of telling the driver, unless something else is wished by now.
func (w *wanted) settle(at place, it *wish, told *Record, err error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if it.record != told {
		return
	}
	it.done = err == nil
	if it.done && told == nil {
		w.forget(at, it)
	}
}

// revert takes back a wish that the driver refuses, unless something else is wished by now.
func (w *wanted) revert(at place, it *wish, refused, before *Record) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if it.record != refused {
		return
	}
	it.record = before
	if before == nil {
		w.forget(at, it)
	}
}

func (w *wanted) forget(at place, it *wish) {
	if w.wishes[at] == it {
		delete(w.wishes, at)
	}
}

// final tells whether asking again will not help.
func final(err error) bool {
	for _, again := range []error{components.ErrUnavailable, components.ErrExhausted, context.Canceled, context.DeadlineExceeded} {
		if errors.Is(err, again) {
			return false
		}
	}
	return true
}

// open are the wishes that the driver has not been told yet, or all of them.
func (w *wanted) open(all bool) map[place]*wish {
	w.mu.Lock()
	defer w.mu.Unlock()
	open := maps.Clone(w.wishes)
	maps.DeleteFunc(open, func(_ place, it *wish) bool { return it.done && !all })
	return open
}

// Wanted are the records that shall be registered, sorted by service and address.
func (r *Registry) Wanted() []Record {
	r.wanted.mu.Lock()
	defer r.wanted.mu.Unlock()
	var all []Record
	for _, it := range r.wanted.wishes {
		if it.record != nil {
			all = append(all, it.record.clone())
		}
	}
	slices.SortFunc(all, compare)
	return all
}
