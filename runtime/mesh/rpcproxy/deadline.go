package rpcproxy

import (
	"fmt"
	"time"
)

const (
	lateGrace  = 20 * time.Millisecond // in which both ends may end a call themselves
	sweepAhead = time.Millisecond      // what is due so soon is ended in the same sweep,
	sweepEach  = time.Microsecond      // and for each call of the connection so much more
	sweepAgain = 50 * time.Millisecond // when what could not be ended is looked at once more
)

// due is when the call or its attempt is ended here. k.mu or the lock of its downstream connection is held when it is written.
func (k *Call) due() int64 {
	if k.tryDeadline != 0 && k.tryDeadline < k.deadline {
		return k.tryDeadline
	}
	return k.deadline
}

// watch sees to it that k is ended in time. There is one timer for a connection, set anew only for a call that ends before all
// others: it goes off once in the time that calls may take, however many of them end well. k.mu is held.
func (c *conn) watch(k *Call) {
	at := k.due()
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.sweepAt == 0 || at < c.sweepAt {
		c.sweepBy(at)
	}
}

// sweepBy sets the timer. c.mu is held.
func (c *conn) sweepBy(at int64) {
	if c.closed {
		return
	}
	c.sweepAt = at
	in := max(time.Duration(at)-time.Since(epoch), 0)
	if c.sweep == nil {
		c.sweep = c.r.tasks.After(in, c.expire)
	} else {
		c.sweep.Reset(in)
	}
}

// expire ends the calls whose time is up.
func (c *conn) expire() {
	b := newBatch()
	c.mu.Lock()
	c.sweepAt = 0
	all := make([]*Call, 0, len(c.calls))
	for k := range c.calls {
		all = append(all, k)
	}
	c.mu.Unlock()
	soon := b.now + int64(sweepAhead+time.Duration(len(all))*sweepEach)
	var next int64
	for _, k := range all {
		k.mu.Lock()
		at := k.due()
		if !k.finished.Load() && at != 0 && at <= soon {
			k.expired(soon, b)
			at = k.due()
		}
		open := !k.finished.Load()
		k.mu.Unlock()
		if open && (next == 0 || at < next) {
			next = at
		}
	}
	b.end()
	c.mu.Lock()
	if next != 0 && (c.sweepAt == 0 || next < c.sweepAt) {
		c.sweepBy(next)
	}
	c.mu.Unlock()
}

// expired ends the call, or its attempt. k.mu is held, here and below.
func (k *Call) expired(by int64, b *batch) {
	e := &Error{Flag: FlagTimeout, Code: codeDeadline, Reason: ReasonTimeout, Sent: k.on != nil}
	waited := time.Duration(b.now - k.born).Round(time.Millisecond)
	over := k.deadline <= by
	if over {
		e.Message = fmt.Sprintf("deadline exceeded after %v: %s", waited, k.awaited())
	} else {
		e.Message = "the attempt took too long: " + k.awaited()
	}
	if k.r.Late != nil {
		k.r.Late(k, e)
	}
	if !over {
		k.forget(b)
		k.tryDeadline = 0
		k.fail(e, -1, b)
		return
	}
	if k.up != nil && k.r.Attempted != nil {
		k.r.Attempted(k, k.up, e)
	}
	k.reply(e, b)
}

// awaited tells how far a call has come.
func (k *Call) awaited() string {
	switch {
	case k.parked:
		return "still waiting for an instance to be known"
	case k.up == nil:
		return "no instance was reached"
	case k.on == nil:
		return "still waiting for a connection to " + k.up.Name
	}
	return "connected to " + k.up.Name + ", the request was sent, no answer"
}
