package grpcproxy

import (
	"time"
)

// batch gathers what the frames of one read ask for, to be done once, with no lock held.
type batch struct {
	now   int64
	dirty []*conn
	wake  []*Upstream
	done  []*stream
}

var epoch = time.Now()

func newBatch() *batch { return &batch{now: int64(time.Since(epoch))} }

func (b *batch) touch(c *conn) {
	for _, d := range b.dirty {
		if d == c {
			return
		}
	}
	b.dirty = append(b.dirty, c)
}

func (b *batch) end() {
	for len(b.wake)+len(b.dirty) > 0 {
		if n := len(b.wake) - 1; n >= 0 {
			u := b.wake[n]
			b.wake = b.wake[:n]
			u.start(b)
			continue
		}
		n := len(b.dirty) - 1
		c := b.dirty[n]
		b.dirty = b.dirty[:n]
		c.flush(b)
	}
	for i, s := range b.done {
		if b.done[i] = nil; s.r.Done != nil {
			s.r.Done(&s.out)
		}
	}
	b.done = b.done[:0]
}
