package client

import (
	"context"
	"errors"
	"strings"
	"sync"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/types/known/durationpb"

	commonv1 "github.com/outrigger-mesh/outrigger/proto/outrigger/common/v1"
)

const (
	defaultHandlers = 16
	mostHandlers    = 16 << 10 // what a sidecar lets a stream have unsettled
	ackDeadline     = 30 * time.Second
	extensions      = 3 // in an ack deadline
	shortestTick    = time.Millisecond
	firstRetry      = 100 * time.Millisecond
	lastRetry       = time.Minute
	longestReason   = 1 << 10
	// lastWords is how long the end of a stream waits until the sidecar has taken what was settled.
	lastWords = 5 * time.Second
)

// Reject is what a handler answers for what it will never be able to handle: an event goes to the dead-letter topic, if the component
// has one, and a firing is dropped. The sidecar takes the first KiB of the reason.
func Reject(err error) error { return &rejection{err} }

type rejection struct{ err error }

func (r *rejection) Error() string {
	if r.err == nil {
		return "rejected"
	}
	return r.err.Error()
}
func (r *rejection) Unwrap() error { return r.err }

// reason is the text in a form that can be sent, whatever the handler put into it.
func reason(err error) string {
	text := err.Error()
	return strings.ToValidUTF8(text[:min(len(text), longestReason)], "")
}

// deliveries is a stream of a capability that delivers.
type deliveries[T any] interface {
	hear() (heard[T], error)
	// say sends a Credit, Ack, Nack, Reject or Extend of commonv1.
	say(message any) error
	CloseSend() error
}

// heard is a message of such a stream; what a newer sidecar says is none of these.
type heard[T any] struct {
	started, draining bool
	delivery          *delivery[T]
}

type delivery[T any] struct {
	id      string
	attempt int32
	value   T
}

var (
	errDrained    = errors.New("the sidecar is ending")
	errNotStarted = madeHere(codes.Internal, "", "the sidecar began a stream with something else than that it has started", 0)
)

// limits are what a stream is begun with.
type limits struct {
	handlers int
	ahead    int // deliveries that wait here for a handler, so that none waits for a delivery
	deadline time.Duration
}

// filled has what was left out.
func (l limits) filled() (limits, error) {
	if l.handlers < 0 {
		return l, invalid("a concurrency below 0")
	}
	if l.handlers == 0 {
		l.handlers = defaultHandlers
	}
	l.handlers = min(l.handlers, mostHandlers)
	if l.deadline == 0 {
		l.deadline = ackDeadline // others are for the sidecar to judge
	}
	return l, nil
}

func (l limits) credit() *commonv1.Credit {
	return &commonv1.Credit{Messages: int64(l.handlers + l.ahead)}
}

// consumer is one stream with its handlers.
type consumer[T any] struct {
	stream deliveries[T]
	limits limits
	handle func(context.Context, T) error
	queue  chan *delivery[T]
	drain  chan struct{} // gets one when the sidecar is ending
	leave  chan struct{} // closed when no other handler is to begin

	mu      sync.Mutex
	held    map[string]bool // ids of deliveries that are not settled
	acks    []string
	others  []any // nacks, rejects and extensions
	settled int64
	last    bool          // what there is to say now is the last
	news    chan struct{} // there is something to say
}

// consume has what a stream delivers handled until it is lost, drained, or ctx ends; then it waits for the handlers under way. begin is
// called with a context for the stream.
func consume[T any](ctx context.Context, l limits, begin func(context.Context) (deliveries[T], error), handle func(context.Context, T) error) error {
	life, end := context.WithCancel(context.WithoutCancel(ctx)) // what handlers come to is still told after ctx has ended
	defer end()
	early := context.AfterFunc(ctx, end)
	stream, err := begin(life)
	if err == nil {
		var first heard[T]
		if first, err = stream.hear(); err == nil && !first.started {
			err = errNotStarted
		}
	}
	if !early() {
		return ctx.Err()
	}
	if err != nil {
		return err
	}
	c := &consumer[T]{stream: stream, limits: l, handle: handle, queue: make(chan *delivery[T], l.handlers+l.ahead), held: map[string]bool{},
		drain: make(chan struct{}, 1), leave: make(chan struct{}), news: make(chan struct{}, 1)}
	return c.run(ctx, end)
}

// run waits for all that it starts.
func (c *consumer[T]) run(ctx context.Context, end func()) error {
	handling, lose := context.WithCancel(ctx)
	defer lose()
	var handlers, talking sync.WaitGroup
	var why error
	lost := make(chan struct{})
	talking.Go(func() {
		why = c.listen()
		lose() // what the handlers have is not theirs any more
		close(lost)
	})
	talking.Go(c.talk)
	for range c.limits.handlers {
		handlers.Go(func() { c.work(handling) })
	}
	var err error
	select {
	case <-lost:
		err = why
	case <-ctx.Done():
		err = ctx.Err()
	case <-c.drain:
		err = errDrained
	}
	close(c.leave)
	c.note(func() { c.others = append(c.others, &commonv1.Credit{}) }) // first: what goes back is not to come again here
	c.giveBack()
	handlers.Wait()
	c.note(func() { c.last = true })
	select {
	case <-lost: // the sidecar has all that was said
	case <-time.After(lastWords):
	}
	end()
	talking.Wait()
	return err
}

// listen queues what is delivered. There is room for as much as there is credit; a sidecar that does not keep to it has to wait.
func (c *consumer[T]) listen() error {
	for {
		in, err := c.stream.hear()
		if err != nil {
			return err
		}
		if in.draining {
			select {
			case c.drain <- struct{}{}:
			default: // that was said
			}
		}
		if in.delivery == nil {
			continue
		}
		c.mu.Lock()
		c.held[in.delivery.id] = true
		c.mu.Unlock()
		c.queue <- in.delivery
		select {
		case <-c.leave:
			c.giveBack()
		default:
		}
	}
}

// giveBack has what no handler has begun go to others at once: those under way may take long. There is no pause, and it is the same attempt
// as if the stream had ended.
func (c *consumer[T]) giveBack() {
	for {
		select {
		case d := <-c.queue:
			c.note(func() {
				delete(c.held, d.id)
				c.others = append(c.others, &commonv1.Nack{DeliveryId: d.id})
			})
		default:
			return
		}
	}
}

// work handles one after the other. None begins once ctx has ended.
func (c *consumer[T]) work(ctx context.Context) {
	for {
		select {
		case <-c.leave:
			return
		case <-ctx.Done():
			return
		default:
		}
		select {
		case <-c.leave:
			return
		case <-ctx.Done():
			return
		case d := <-c.queue:
			c.settle(d, c.handle(ctx, d.value))
		}
	}
}

func (c *consumer[T]) settle(d *delivery[T], err error) {
	c.note(func() {
		delete(c.held, d.id)
		c.settled++
		var reject *rejection
		switch {
		case err == nil:
			c.acks = append(c.acks, d.id)
		case errors.As(err, &reject):
			c.others = append(c.others, &commonv1.Reject{DeliveryId: d.id, Reason: reason(err)})
		default:
			c.others = append(c.others, &commonv1.Nack{DeliveryId: d.id, Delay: durationpb.New(retryAfter(d.attempt))})
		}
	})
}

// retryAfter is the pause after a failed attempt.
func retryAfter(attempt int32) time.Duration {
	d := firstRetry
	for ; attempt > 1 && d < lastRetry; attempt-- {
		d *= 2
	}
	return min(d, lastRetry)
}

// note changes what there is to say, and has it said.
func (c *consumer[T]) note(change func()) {
	c.mu.Lock()
	change()
	c.mu.Unlock()
	select {
	case c.news <- struct{}{}:
	default:
	}
}

// talk says what there is to say, several acknowledgements at once, and keeps what is held here. It ends after the last word, or when
// there is nobody to talk to: then listen knows why.
func (c *consumer[T]) talk() {
	tick := time.NewTicker(max(c.limits.deadline/extensions, shortestTick))
	defer tick.Stop()
	for {
		extend := false
		select {
		case <-c.news:
		case <-tick.C:
			extend = true
		}
		all, last := c.take(extend)
		for _, m := range all {
			if c.stream.say(m) != nil {
				return
			}
		}
		if last {
			_ = c.stream.CloseSend() // it fails only where there is no stream any more
			return
		}
	}
}

func (c *consumer[T]) take(extend bool) (all []any, last bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	all = c.others
	if len(c.acks) > 0 {
		all = append(all, &commonv1.Ack{DeliveryIds: c.acks})
	}
	if extend {
		for id := range c.held {
			all = append(all, &commonv1.Extend{DeliveryId: id})
		}
	}
	select {
	case <-c.leave: // nobody would handle what comes
	default:
		if c.settled > 0 {
			all = append(all, &commonv1.Credit{Messages: c.settled})
		}
	}
	c.others, c.acks, c.settled = nil, nil, 0
	return all, c.last
}
