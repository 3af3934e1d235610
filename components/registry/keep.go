package registry

import (
	"context"
	"sync"
	"time"
)

const (
	retryMin = 200 * time.Millisecond
	retryMax = 30 * time.Second
	handOver = 5 * time.Second // how long a replaced driver is held for what was registered through it
)

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
