package rpcproxy

import (
	"sync"
	"time"
)

// tasks are the goroutines of a relay, so that Close can wait for them. A sync.WaitGroup would not do: it must not be added to
// by a timer while it is waited for.
type tasks struct {
	mu   sync.Mutex
	n    int
	none chan struct{} // closed when n is 0; nil: nobody waits
}

func (t *tasks) begin() {
	t.mu.Lock()
	t.n++
	t.mu.Unlock()
}

func (t *tasks) end() {
	t.mu.Lock()
	if t.n--; t.n == 0 && t.none != nil {
		close(t.none)
		t.none = nil
	}
	t.mu.Unlock()
}

// start runs f on a goroutine.
func (t *tasks) start(f func()) {
	t.begin()
	go func() {
		defer t.end()
		f()
	}()
}

// after runs f when d has passed. It counts while it runs.
func (t *tasks) after(d time.Duration, f func()) *time.Timer {
	return time.AfterFunc(d, func() {
		t.begin()
		defer t.end()
		f()
	})
}

// wait returns when there was a moment without any.
func (t *tasks) wait() {
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
