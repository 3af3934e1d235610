package grpcproxy

import (
	"time"
)

// batch gathers what the frames of one read ask for, to be done once, with no lock held.
type batch struct {
	now   int64
	dirty []*conn
	wake  []*Upstream
	tried []tried
	done  []*stream
}

// tried is an attempt that did not decide how its request ended.
type tried struct {
	r   *Relay
	tag any
	up  *Upstream
	err *Error
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
	if len(b.tried)+len(b.done) > 0 {
		b.report()
	}
}

// report calls the hooks that are told of what has ended.
func (b *batch) report() {
	for _, t := range b.tried {
		t.r.Attempted(t.tag, t.up, t.err.Flag, t.err)
	}
	clear(b.tried)
	b.tried = b.tried[:0]
	for i, s := range b.done {
		b.done[i] = nil
		if s.trying && s.r.Attempted != nil {
			var err error
			if s.out.Err != nil {
				err = s.out.Err
			}
			s.r.Attempted(s.out.Tag, s.out.Upstream, s.out.Flag, err)
		}
		if s.r.Done != nil {
			s.r.Done(&s.out)
		}
	}
	b.done = b.done[:0]
}
