package grpcproxy

import (
	"runtime"
	"slices"
	"sync"
	"time"
)

const keepWorkers = 256

// workers run blocking handlers: their stacks have grown already. What is more than MaxWorkers waits, up to MaxQueue; those of a
// patient method have the bound MaxPatient and no queue.
type workers struct {
	r       *Relay
	patient bool
	mu      sync.Mutex
	idle    []*worker
	n       int
	queue   []*stream
	stopped bool
}

type worker struct {
	ch   chan *stream
	resp []byte
	b    batch
}

func (w *workers) bounds() (most, queue int) {
	if w.patient {
		return w.r.MaxPatient, 0
	}
	return w.r.MaxWorkers, w.r.MaxQueue
}

// run returns false if the queue is full.
func (w *workers) run(s *stream) bool {
	most, queue := w.bounds()
	w.mu.Lock()
	if n := len(w.idle); n > 0 {
		k := w.idle[n-1]
		w.idle = w.idle[:n-1]
		w.mu.Unlock()
		k.ch <- s
		return true
	}
	if w.n >= most {
		full := len(w.queue) >= queue
		if !full {
			w.queue = append(w.queue, s)
		}
		w.mu.Unlock()
		return !full
	}
	w.n++
	w.mu.Unlock()
	k := &worker{ch: make(chan *stream, 1)}
	w.r.tasks.Start(func() { w.loop(k, s) })
	return true
}

// stop ends the workers as they become idle. Calls that come later still run, each on a goroutine of its own.
func (w *workers) stop() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.stopped = true
	for _, k := range w.idle {
		close(k.ch)
	}
	w.n -= len(w.idle)
	w.idle = nil
}

func (w *workers) loop(k *worker, s *stream) {
	for {
		k.do(s)
		w.mu.Lock()
		if len(w.queue) > 0 {
			s, w.queue[0] = w.queue[0], nil
			w.queue = w.queue[1:]
			w.mu.Unlock()
			continue
		}
		if w.stopped || len(w.idle) >= keepWorkers {
			w.n--
			w.mu.Unlock()
			return
		}
		w.idle = append(w.idle, k)
		w.mu.Unlock()
		if s = <-k.ch; s == nil {
			return
		}
	}
}

func (w *worker) do(s *stream) {
	k := s.call
	if s.finished.Load() { // it has waited too long
		return
	}
	h := k.m.Handler
	if k.m.Slow != nil {
		h, k.slow = k.m.Slow, true
	}
	resp, st := k.m.call(h, k, k.body[5:], append(w.resp[:0], 0, 0, 0, 0, 0))
	b := &w.b
	b.now = int64(time.Since(epoch))
	s.mu.Lock()
	s.respond(resp, st, b)
	s.mu.Unlock()
	if w.resp = resp; cap(resp) > 64<<10 {
		w.resp = nil
	}
	k.giveBody()
	c := s.h[0].c
	c.mu.Lock()
	first := !c.soon
	c.soon = true
	c.mu.Unlock()
	if !first { // one that goes on soon writes this too
		b.dirty = slices.DeleteFunc(b.dirty, func(d *conn) bool { return d == c })
	} else {
		if !s.r.NoYield {
			runtime.Gosched() // others may be about to answer
		}
		c.mu.Lock()
		c.soon = false
		c.mu.Unlock()
		b.touch(c)
	}
	b.end()
}
