package grpcproxy

import (
	"context"
	"runtime"
	"slices"
	"sync"
	"time"
)

// AnswerLater is what a Handler returns whose call ends by what Call.Later has given it.
var AnswerLater = &Status{Code: -2}

// Later is for a Handler on the connection's reader that has to wait for something which tells it when it is there: it
// costs no worker and no change of goroutines. The handler returns AnswerLater, and end is called once, by any goroutine, also
// before the handler has returned. What encode appends, or the Status that it answers, ends the call. The request is not
// valid any longer once the handler has returned; the call, as a context, is until it has ended.
func (k *Call) Later() (end func(encode func(resp []byte) ([]byte, *Status))) {
	if k.s == nil {
		s := k.c.promote(k)
		s.mu.Lock()
		s.h[0].rdone = true
		s.mu.Unlock()
	}
	return k.s.answerLate
}

var batches = sync.Pool{New: func() any { return new(batch) }}

// answerLate ends a call that was left for later.
func (s *stream) answerLate(encode func([]byte) ([]byte, *Status)) {
	handler := func(_ context.Context, _, resp []byte) ([]byte, *Status) { return encode(resp) }
	buf := smalls.Get().(*[]byte)
	resp, st := s.call.m.call(handler, s.call, nil, append((*buf)[:0], 0, 0, 0, 0, 0))
	b := batches.Get().(*batch)
	b.now = int64(time.Since(epoch))
	s.mu.Lock()
	s.respond(resp, st, b)
	s.mu.Unlock()
	if cap(resp) <= 64<<10 {
		*buf = resp
		smalls.Put(buf)
	}
	s.r.late.take(s.r, b)
	b.end()
	batches.Put(b)
}

// unflushed are connections with late answers. They are flushed when those who answer let others run, so that what comes to its end
// together, as the answers of a back end that were read at once do, is written together.
type unflushed struct {
	mu    sync.Mutex
	conns []*conn
	runs  bool // who flushes them
}

// take takes what is to be flushed of b.
func (u *unflushed) take(r *Relay, b *batch) {
	u.mu.Lock()
	for _, c := range b.dirty {
		if !slices.Contains(u.conns, c) {
			u.conns = append(u.conns, c)
		}
	}
	first := !u.runs && len(u.conns) > 0
	u.runs = u.runs || first
	u.mu.Unlock()
	clear(b.dirty)
	b.dirty = b.dirty[:0]
	if first {
		r.tasks.Start(func() { u.flush(r) })
	}
}

// flush flushes until there is nothing more.
func (u *unflushed) flush(r *Relay) {
	b := newBatch()
	for {
		if !r.NoYield {
			runtime.Gosched() // others may be about to answer
		}
		u.mu.Lock()
		if len(u.conns) == 0 {
			u.runs = false
			u.mu.Unlock()
			return
		}
		b.dirty, u.conns = u.conns, b.dirty[:0]
		u.mu.Unlock()
		b.now = int64(time.Since(epoch))
		b.end()
	}
}
