package postgresconn

import (
	"context"
	"errors"
	"sync/atomic"
)

// batchCalls and batchBytes bound what is sent on a connection before the answers are read.
const (
	batchCalls = 32
	batchBytes = 1 << 20
)

// call is a statement on its way.
type call struct {
	Statement
	state atomic.Int32  // waiting, then taken or given up
	sent  chan struct{} // closed when the arguments are not needed any more
	done  chan struct{} // closed when err and outcome are there

	err     error
	outcome outcome
	left    atomic.Bool // the caller has gone
}

const (
	waiting int32 = iota
	taken
	givenUp
)

// outcome is what is known of a statement that failed.
type outcome int

const (
	notDone    outcome = iota
	unknown            // it was sent, and there is no answer
	unreadable         // it, or its answer, is not what this program can write or read
)

// errNone is that no connection is there; it wraps why.
type noneError struct{ why error }

var errNone = errors.New("no connection")

func (e *noneError) Error() string        { return e.why.Error() }
func (e *noneError) Unwrap() error        { return e.why }
func (e *noneError) Is(target error) bool { return target == errNone }

// once has a statement sent and answered on one connection.
func (c *Client) once(ctx context.Context, s Statement) (error, outcome) {
	if err := ctx.Err(); err != nil {
		return err, notDone
	}
	one := &call{Statement: s, sent: make(chan struct{}), done: make(chan struct{})}
	if err := c.enqueue(one); err != nil {
		return err, notDone
	}
	select {
	case <-one.done:
		return one.err, one.outcome
	case <-ctx.Done():
	}
	if one.state.CompareAndSwap(waiting, givenUp) {
		return ctx.Err(), notDone
	}
	select {
	case <-one.sent: // soon
	case <-one.done:
	}
	one.left.Store(true)
	select {
	case <-one.done: // just then; Late may be called all the same, unless this is taken
		if one.left.CompareAndSwap(true, false) {
			return one.err, one.outcome
		}
	default:
	}
	return ctx.Err(), unknown
}

func (c *Client) enqueue(one *call) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.live == 0 && c.failure != nil {
		return &noneError{c.failure}
	}
	c.queue = append(c.queue, one)
	c.wake()
	return nil
}

// wake tells one worker that there is work. c.mu is held.
func (c *Client) wake() {
	select {
	case c.idle <- struct{}{}:
	default:
	}
}

// pass leaves the work to another worker.
func (c *Client) pass() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.wake()
}

// take is a share of what waits: others that serve get theirs. Nil if nothing waits.
func (c *Client) take() (batch []*call) {
	c.mu.Lock()
	defer c.mu.Unlock()
	most, bytes := min(batchCalls, (len(c.queue)+c.live-1)/max(c.live, 1)), 0
	i := 0
	for ; i < len(c.queue) && len(batch) < most && (len(batch) == 0 || bytes+c.queue[i].Bytes <= batchBytes); i++ {
		one := c.queue[i]
		c.queue[i] = nil
		if one.state.CompareAndSwap(waiting, taken) {
			batch, bytes = append(batch, one), bytes+one.Bytes
		}
	}
	if c.queue = c.queue[i:]; len(c.queue) > 0 {
		c.wake()
	} else {
		c.queue = nil
	}
	return batch
}

// joined and parted count the connections that serve.
func (c *Client) joined() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.live++
	c.failure = nil
	c.change()
	if len(c.queue) > 0 {
		c.wake()
	}
}

func (c *Client) parted() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.live--
	c.change()
}

// unreached notes why a connection was not to be had. If there is no other, those who wait are told, and from now on who comes: until
// then one that was lost may be replaced without anybody's noticing.
func (c *Client) unreached(why error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.live > 0 {
		return
	}
	c.failure = why
	c.change()
	for _, one := range c.queue {
		if one.state.CompareAndSwap(waiting, taken) {
			one.finish(&noneError{why}, notDone)
		}
	}
	c.queue = nil
}

func (c *Client) change() {
	close(c.changed)
	c.changed = make(chan struct{})
}

// finish tells the caller.
func (one *call) finish(err error, what outcome) {
	one.err, one.outcome = err, what
	close(one.done)
	if one.Late != nil && one.left.CompareAndSwap(true, false) && err == nil {
		one.Late()
	}
}
