package registry

import (
	"context"
	"errors"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/outrigger-mesh/outrigger/components"
)

const (
	retryMin = 200 * time.Millisecond
	retryMax = 30 * time.Second
	handOver = 5 * time.Second // how long a replaced driver is held for what was registered through it
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
	} else {
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

// keep tells each new driver all wishes, and again those that failed. The driver before is held until the new one has been
// told once, so that a reload leaves no moment in which nothing is registered.
func (r *Registry) keep(ctx context.Context) {
	defer close(r.wanted.ended)
	release := func() {}
	defer func() { release() }()
	for ctx.Err() == nil && r.component.Ready(ctx) == nil {
		release = r.hold(ctx, release)
	}
}

// hold does so for as long as one driver is there. What it answers lets go of that driver.
func (r *Registry) hold(ctx context.Context, before func()) (release func()) {
	call, current, err := r.component.Stream(ctx, "hold")
	if err != nil {
		return before
	}
	limit, cancel := context.WithTimeout(current, handOver)
	failed := r.tellAll(limit, true)
	cancel()
	before()
	for wait := retryMin; r.pause(current, failed, wait); wait = min(2*wait, retryMax) {
		if !failed {
			wait = retryMin
		}
		failed = r.tellAll(current, false)
	}
	release = sync.OnceFunc(func() { call.End(&err) })
	if !r.replaced() {
		release() // the old one must be closed before there is a new one
	}
	return release
}

// replaced tells whether there is a driver now.
func (r *Registry) replaced() bool {
	past, end := context.WithCancel(context.Background())
	end()
	return r.component.Ready(past) == nil
}

// tellAll tells the driver what it has not been told, or everything, and whether something failed.
func (r *Registry) tellAll(ctx context.Context, all bool) (failed bool) {
	for at, it := range r.wanted.open(all) {
		if ctx.Err() != nil {
			return true
		}
		failed = r.tell(ctx, at, it) != nil || failed
	}
	return failed
}

// pause waits until there is something to tell; false: the driver is being replaced, or Close was called.
func (r *Registry) pause(ctx context.Context, failed bool, wait time.Duration) bool {
	var again <-chan time.Time
	if failed {
		again = time.After(wait)
	}
	select {
	case <-again:
	case <-r.wanted.wake:
	case <-ctx.Done():
	}
	return ctx.Err() == nil
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
