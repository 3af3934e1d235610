package rpcproxy

import (
	"slices"
	"time"
)

// batch gathers what the frames of one read ask for, to be done once, with no lock held.
type batch struct {
	now   int64 // since epoch
	dirty []*conn
	wake  []*Upstream
	done  []Outcome
}

var epoch = time.Now()

func newBatch() *batch { return &batch{now: int64(time.Since(epoch))} }

func (b *batch) touch(c *conn) {
	if !slices.Contains(b.dirty, c) {
		b.dirty = append(b.dirty, c)
	}
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
		c.flush()
	}
	for i := range b.done {
		o := &b.done[i]
		if r := o.Call.r; r.Done != nil {
			r.Done(o)
		}
		o.Call.r.release(o.Call)
	}
	clear(b.done)
	b.done = b.done[:0]
}
