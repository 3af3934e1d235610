package components

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"time"
)

// Component is a configured, named instance of a driver, as the front before it sees it. It outlives its driver: it is
// there before the driver is ready, and a reload puts another driver in while calls go on. Safe for concurrent use.
type Component[D any] struct {
	id      ID
	limits  atomic.Pointer[Limits]
	observe Observer

	current atomic.Pointer[generation[D]]
	arrival atomic.Pointer[chan struct{}] // closed and replaced when current changes
	failure atomic.Pointer[error]         // why there is none
}

// Limits keep a slow back end from holding more than its share of the sidecar.
type Limits struct {
	Concurrency int // calls under way at once; 0: 1024
	Queue       int // calls that wait for one of those to end; 0: 4096
}

// Observer is told of each call's end. It must be fast and safe for concurrent use.
type Observer interface {
	Observe(ctx context.Context, id ID, op string, start time.Time, err error)
}

// generation is one driver between its start and its end. refs counts the calls that use it, and one for being current.
type generation[D any] struct {
	id      ID
	driver  D
	limits  Limits
	instant bool  // the driver is Instant
	absent  error // what ErrNotFound becomes, made once: a cache is asked most for what it does not have
	refs    atomic.Int64
	slots   chan struct{} // one for each call under way. Not the component's: a frozen driver must not block the next
	queued  atomic.Int64
	retired context.Context // ends when another has taken its place
	retire  context.CancelFunc
	idle    chan struct{}  // closed when the last call has ended
	heir    *generation[D] // has the same driver, and a reference that is let go with the last call
}

// NewComponent makes one without a driver: until Set is called its calls fail with ErrUnavailable.
func NewComponent[D any](id ID, limits Limits, observe Observer) *Component[D] {
	c := &Component[D]{id: id, observe: observe}
	c.setLimits(limits)
	arrival := make(chan struct{})
	c.arrival.Store(&arrival)
	return c
}

func (c *Component[D]) setLimits(l Limits) {
	if l.Concurrency <= 0 {
		l.Concurrency = 1024
	}
	if l.Queue <= 0 {
		l.Queue = 4096
	}
	c.limits.Store(&l)
}

// SetLimits changes the limits; the driver stays. Calls under way count towards the old ones, and streams end as if the
// driver had been replaced. Not to be called together with Set, SetAs or Clear.
func (c *Component[D]) SetLimits(l Limits) {
	c.setLimits(l)
	if old := c.current.Load(); old != nil {
		g := c.generation(old.id, old.driver)
		g.refs.Add(1) // the driver is not idle before the calls of the old generation have ended
		old.heir = g
		c.swap(g)
	}
}

// ID tells who this is now: a reload may have given the name to another driver.
func (c *Component[D]) ID() ID {
	if g := c.current.Load(); g != nil {
		return g.id
	}
	return c.id
}

// Instant tells whether a call made now would not wait: its driver is Instant, or there is none.
func (c *Component[D]) Instant() bool {
	g := c.current.Load()
	return g == nil || g.instant
}

// Set puts a driver in place of the one before, SetAs one of another kind under the same name. Streams on the old one end
// with ErrUnavailable, reason RELOADED; retired closes when its last call has ended, so that it can be closed then.
func (c *Component[D]) Set(driver D) (retired <-chan struct{}) {
	return c.SetAs(c.id.Driver, *c.limits.Load(), driver)
}

// SetAs is Set for a driver that has another name than the component began with, or other limits.
func (c *Component[D]) SetAs(name string, limits Limits, driver D) (retired <-chan struct{}) {
	id := c.id
	id.Driver = name
	c.setLimits(limits)
	return c.swap(c.generation(id, driver))
}

// errNoKey is ErrNotFound in words that nobody takes for a component that is missing.
var errNoKey = fmt.Errorf("%w: there is no such key", ErrNotFound)

func (c *Component[D]) generation(id ID, driver D) *generation[D] {
	l := *c.limits.Load()
	g := &generation[D]{id: id, driver: driver, limits: l, absent: named(id, errNoKey),
		slots: make(chan struct{}, l.Concurrency), idle: make(chan struct{})}
	_, g.instant = any(driver).(Instant)
	g.retired, g.retire = context.WithCancel(context.Background())
	g.refs.Store(1)
	return g
}

// Clear takes the driver out; calls fail with ErrUnavailable and the reason until there is another.
func (c *Component[D]) Clear(why error) (retired <-chan struct{}) {
	c.failure.Store(&why)
	return c.swap(nil)
}

// Fail says why there is no driver yet.
func (c *Component[D]) Fail(why error) { c.failure.Store(&why) }

func (c *Component[D]) swap(g *generation[D]) <-chan struct{} {
	old := c.current.Swap(g)
	arrival := make(chan struct{})
	close(*c.arrival.Swap(&arrival))
	if old == nil {
		done := make(chan struct{})
		close(done)
		return done
	}
	old.retire()
	old.release()
	return old.idle
}

// Ready waits until there is a driver; if there is one, it does not look at ctx. Otherwise it answers ctx's error once it
// has ended.
func (c *Component[D]) Ready(ctx context.Context) error {
	for {
		arrival := *c.arrival.Load()
		if c.current.Load() != nil {
			return nil
		}
		select {
		case <-arrival:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

func (g *generation[D]) acquire() bool {
	for {
		n := g.refs.Load()
		if n == 0 {
			return false
		}
		if g.refs.CompareAndSwap(n, n+1) {
			return true
		}
	}
}

func (g *generation[D]) release() {
	if g.refs.Add(-1) == 0 {
		close(g.idle)
		if g.heir != nil {
			g.heir.release()
		}
	}
}

// Call is one use of a driver. Driver must not be used after End.
type Call[D any] struct {
	Driver D
	c      *Component[D]
	g      *generation[D]
	ctx    context.Context
	op     string
	start  time.Time
	slot   bool
	cancel func() // ends the context of a stream
}

// Begin starts a call of the driver: not if ctx is over already, not if there is no driver, and not before one of the
// component's places is free. Each Begin that succeeds needs one End:
//
//	call, err := c.Begin(ctx, "get")
//	if err != nil {
//		return nil, err
//	}
//	defer call.End(&err)
func (c *Component[D]) Begin(ctx context.Context, op string) (Call[D], error) {
	call := Call[D]{c: c, ctx: ctx, op: op, start: time.Now()}
	if err := ctx.Err(); err != nil {
		return call, call.refuse(err)
	}
	for {
		if call.g = c.acquire(); call.g == nil {
			return call, call.refuse(c.notReady())
		}
		call.Driver = call.g.driver
		switch err := call.g.place(ctx); err {
		case nil:
			call.slot = true
			return call, nil
		case errRetired:
			call.g.release()
		default:
			call.g.release()
			return call, call.refuse(err)
		}
	}
}

// TryBegin is Begin for who must not wait: false where it would have to, or the call is refused, which Begin then says.
func (c *Component[D]) TryBegin(ctx context.Context, op string) (call Call[D], ok bool) {
	if ctx.Err() != nil {
		return call, false
	}
	g := c.acquire()
	if g == nil {
		return call, false
	}
	select {
	case g.slots <- struct{}{}:
		return Call[D]{Driver: g.driver, c: c, g: g, ctx: ctx, op: op, start: time.Now(), slot: true}, true
	default:
		g.release()
		return call, false
	}
}

// Stream starts a call that may last: it takes no place, and the context it returns ends, with the cause ErrUnavailable
// and reason RELOADED, when the driver is replaced.
func (c *Component[D]) Stream(ctx context.Context, op string) (Call[D], context.Context, error) {
	call := Call[D]{c: c, ctx: ctx, op: op, start: time.Now()}
	if err := ctx.Err(); err != nil {
		return call, ctx, call.refuse(err)
	}
	if call.g = c.acquire(); call.g == nil {
		return call, ctx, call.refuse(c.notReady())
	}
	call.Driver = call.g.driver
	ctx, cancel := context.WithCancelCause(ctx)
	stop := context.AfterFunc(call.g.retired, func() {
		cancel(WithReason(fmt.Errorf("%w: the component was reloaded", ErrUnavailable), ReasonReloaded))
	})
	call.cancel = func() { stop(); cancel(nil) }
	return call, ctx, nil
}

// Glance starts a call that does not wait, and so takes no place; false if there is no driver or ctx is over. It is ended with
// EndGlance.
func (c *Component[D]) Glance(ctx context.Context, op string) (call Call[D], ok bool) {
	if ctx.Err() != nil {
		return call, false
	}
	g := c.acquire()
	if g == nil {
		return call, false
	}
	return Call[D]{Driver: g.driver, c: c, g: g, ctx: ctx, op: op, start: time.Now()}, true
}

// EndGlance ends a call that Glance began. Only one that was of use is observed: after the others a call that may wait follows.
func (k *Call[D]) EndGlance(ofUse bool) {
	k.g.release()
	if ofUse {
		k.finish(nil)
	}
}

func (c *Component[D]) acquire() *generation[D] {
	for {
		g := c.current.Load()
		if g == nil || g.acquire() {
			return g
		}
	}
}

func (c *Component[D]) notReady() error {
	why := "it is starting"
	if p := c.failure.Load(); p != nil {
		why = (*p).Error()
	}
	return &Detail{Err: fmt.Errorf("%w: not ready: %s", ErrUnavailable, why), Reason: ReasonComponentNotReady,
		RetryAfter: time.Second}
}

// errRetired tells a call that waited that there is another generation now.
var errRetired = errors.New("retired")

// place takes one of the places, waiting for it if the queue is not full.
func (g *generation[D]) place(ctx context.Context) error {
	select {
	case g.slots <- struct{}{}:
		return nil
	default:
	}
	if g.queued.Add(1) > int64(g.limits.Queue) {
		g.queued.Add(-1)
		return &Detail{Err: fmt.Errorf("%w: %d calls are under way and %d wait", ErrExhausted, g.limits.Concurrency, g.limits.Queue),
			Reason: ReasonOverloaded, Metadata: map[string]string{"limit": "concurrency"}, RetryAfter: 100 * time.Millisecond}
	}
	defer g.queued.Add(-1)
	select {
	case g.slots <- struct{}{}:
		if err := ctx.Err(); err != nil { // both came at once
			<-g.slots
			return err
		}
		return nil
	case <-g.retired.Done():
		return errRetired
	case <-ctx.Done():
		return ctx.Err()
	}
}

// refuse ends a call that did not reach the driver.
func (k *Call[D]) refuse(err error) error {
	k.finish(err)
	return named(k.id(), err)
}

// End ends the call with what it came to: *err is observed, and told which component it is of.
func (k *Call[D]) End(err *error) {
	if k.cancel != nil {
		k.cancel()
	}
	if k.slot {
		<-k.g.slots
	}
	k.g.release()
	k.finish(*err)
	switch {
	case *err == ErrNotFound:
		*err = k.g.absent
	case *err != nil:
		*err = named(k.g.id, *err)
	}
}

// Withdraw ends a call that has not used the driver and is made in another way: it is not observed.
func (k *Call[D]) Withdraw() {
	<-k.g.slots
	k.g.release()
}

func (k *Call[D]) finish(err error) {
	if k.c.observe != nil {
		k.c.observe.Observe(k.ctx, k.id(), k.op, k.start, err)
	}
}

func (k *Call[D]) id() ID {
	if k.g != nil {
		return k.g.id
	}
	return k.c.id
}

// Named says of err, which was found before a call of the driver began, whose it is; nil stays nil.
func (c *Component[D]) Named(err error) error {
	if err == nil {
		return nil
	}
	return named(c.ID(), err)
}

// named says in the text and in the metadata whose error it is, once.
func named(id ID, err error) error {
	if d, ok := err.(*Detail); ok && d.of == id {
		return d
	}
	d := &Detail{of: id, Err: fmt.Errorf("%s %q: %w", id.Capability, id.Name, err),
		Metadata: map[string]string{"capability": id.Capability, "component": id.Name, "driver": id.Driver}}
	if inner := (*Detail)(nil); errors.As(err, &inner) {
		d.Reason, d.RetryAfter = inner.Reason, inner.RetryAfter
		for key, value := range inner.Metadata {
			d.Metadata[key] = value
		}
	}
	return d
}
