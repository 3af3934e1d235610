// Package upkeep has what the relays of the mesh share that is not about any protocol: whom to wait for at the end, and when to connect again.
package upkeep

import (
	"sync"
	"time"
)

// Tasks are the goroutines of a relay, so that its Close can wait for them. They may be used concurrently; the zero value has none. A sync.WaitGroup would not do: it must not be added to
// by a timer while it is waited for.
type Tasks struct {
	mu   sync.Mutex
	n    int
	none chan struct{} // closed when n is 0; nil: nobody waits
}

// Begin counts the caller as one, until End.
func (t *Tasks) Begin() {
	t.mu.Lock()
	t.n++
	t.mu.Unlock()
}

// End is called once for each Begin.
func (t *Tasks) End() {
	t.mu.Lock()
	if t.n--; t.n == 0 && t.none != nil {
		close(t.none)
		t.none = nil
	}
	t.mu.Unlock()
}

// Start runs f on a goroutine.
func (t *Tasks) Start(f func()) {
	t.Begin()
	go func() {
		defer t.End()
		f()
	}()
}

// After runs f when d has passed. It counts while it runs.
func (t *Tasks) After(d time.Duration, f func()) *time.Timer {
	return time.AfterFunc(d, func() {
		t.Begin()
		defer t.End()
		f()
	})
}

// Wait returns when there was a moment without any.
func (t *Tasks) Wait() {
	t.mu.Lock()
	if t.n == 0 {
		t.mu.Unlock()
		return
	}
	if t.none == nil {
		t.none = make(chan struct{})
	}
	none := t.none
	t.mu.Unlock()
	<-none
}
