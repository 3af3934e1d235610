package client

import (
	"context"
	"errors"
	"sync"
	"time"

	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/timestamppb"

	commonv1 "github.com/outrigger-mesh/outrigger/proto/outrigger/common/v1"
	pubsubv1 "github.com/outrigger-mesh/outrigger/proto/outrigger/pubsub/v1"
)

const (
	// aheadOfHandlers is how many events wait here for a handler, so that none waits for an event.
	aheadOfHandlers = 256
	firstRetry      = 100 * time.Millisecond
	lastRetry       = time.Minute
	// lastWords is how long the end of a subscription waits until the sidecar has taken what was settled.
	lastWords = 5 * time.Second
)

// consumer is one stream of deliveries with its handlers.
type consumer struct {
	stream     pubsubv1.PubSub_SubscribeClient
	handle     func(context.Context, Event) error
	deliveries chan *pubsubv1.SubscribeResponse_Delivery
	draining   sync.Once
	drained    chan struct{}
	stop       chan struct{} // closed when no other handler is to begin

	mu      sync.Mutex
	held    map[string]bool // deliveries that are not settled
	acks    []string
	others  []*pubsubv1.SubscribeRequest // nacks, rejects and extensions
	closing bool
	say     chan struct{}
}

// consume runs one stream until it is lost, drained or ctx ends. started is called when the group is joined.
func (p *PubSub) consume(ctx context.Context, topic string, o SubscribeOptions, handle func(context.Context, Event) error, started func()) error {
	life, cancel := context.WithCancel(context.WithoutCancel(ctx)) // what handlers come to is still told after ctx has ended
	defer cancel()
	unjoined := context.AfterFunc(ctx, cancel)
	stream, err := p.join(life, topic, o)
	if err != nil {
		unjoined()
		return err
	}
	if !unjoined() {
		return ctx.Err()
	}
	started()
	c := &consumer{stream: stream, handle: handle, deliveries: make(chan *pubsubv1.SubscribeResponse_Delivery, o.Concurrency+aheadOfHandlers),
		drained: make(chan struct{}), stop: make(chan struct{}), held: map[string]bool{}, say: make(chan struct{}, 1)}
	return c.run(ctx, cancel, o, p.client.done)
}

func (p *PubSub) join(ctx context.Context, topic string, o SubscribeOptions) (pubsubv1.PubSub_SubscribeClient, error) {
	start := &pubsubv1.SubscribeRequest_Start{Component: p.component, Topic: topic, Group: o.Group, From: pubsubv1.SubscribeRequest_FROM_LATEST,
		AckDeadline: durationpb.New(o.AckDeadline), Credit: &commonv1.Credit{Messages: int64(o.Concurrency + aheadOfHandlers)}}
	if o.Earliest {
		start.From = pubsubv1.SubscribeRequest_FROM_EARLIEST
	}
	if !o.ReplayFrom.IsZero() {
		start.ReplayFrom = timestamppb.New(o.ReplayFrom)
	}
	stream, err := p.api.Subscribe(ctx)
	if err != nil {
		return nil, err
	}
	// That it cannot be sent shows, with the reason, when receiving.
	_ = stream.Send(&pubsubv1.SubscribeRequest{Message: &pubsubv1.SubscribeRequest_Start_{Start: start}})
	_, err = stream.Recv()
	return stream, err
}

func (c *consumer) run(ctx context.Context, cancel func(), o SubscribeOptions, closed <-chan struct{}) error {
	work, stopWork := context.WithCancel(ctx)
	defer stopWork()
	var handlers, talking sync.WaitGroup
	for range o.Concurrency {
		handlers.Go(func() { c.work(work) })
	}
	lost := make(chan error, 1)
	talking.Go(func() { lost <- c.receive() })
	talking.Go(func() { c.send(o.AckDeadline / 3) })
	var err error
	select {
	case err = <-lost:
		stopWork() // what they have is not theirs any more
	case <-ctx.Done():
		err = ctx.Err()
	case <-closed:
		err = ErrClosed
		stopWork()
	case <-c.drained:
		err = errDrained
	}
	close(c.stop)
	handlers.Wait()
	c.mu.Lock()
	c.closing = true
	c.mu.Unlock()
	c.nudge()
	if errors.Is(err, errDrained) || ctx.Err() != nil {
		select {
		case <-lost: // the sidecar has all that was said
		case <-time.After(lastWords):
		}
	}
	cancel()
	talking.Wait()
	return err
}

func (c *consumer) receive() error {
	for {
		in, err := c.stream.Recv()
		if err != nil {
			return err
		}
		if d := in.GetDelivery(); d != nil {
			c.mu.Lock()
			c.held[d.GetDeliveryId()] = true
			c.mu.Unlock()
			c.deliveries <- d // there is room for as many as there is credit
		}
		if in.GetDraining() != nil {
			c.draining.Do(func() { close(c.drained) })
		}
	}
}

func (c *consumer) work(ctx context.Context) {
	for {
		select {
		case <-c.stop:
			return
		default:
		}
		select {
		case <-c.stop:
			return
		case d := <-c.deliveries:
			c.settle(d, c.handle(ctx, delivered(d)))
		}
	}
}

// settle notes what is to be said of a delivery.
func (c *consumer) settle(d *pubsubv1.SubscribeResponse_Delivery, err error) {
	id := d.GetDeliveryId()
	c.mu.Lock()
	delete(c.held, id)
	var reject *rejection
	switch {
	case err == nil:
		c.acks = append(c.acks, id)
	case errors.As(err, &reject):
		c.others = append(c.others, &pubsubv1.SubscribeRequest{Message: &pubsubv1.SubscribeRequest_Reject{
			Reject: &commonv1.Reject{DeliveryId: id, Reason: err.Error()}}})
	default:
		c.others = append(c.others, &pubsubv1.SubscribeRequest{Message: &pubsubv1.SubscribeRequest_Nack{
			Nack: &commonv1.Nack{DeliveryId: id, Delay: durationpb.New(retryAfter(d.GetAttempt()))}}})
	}
	c.mu.Unlock()
	c.nudge()
}

// retryAfter is the pause after a failed attempt.
func retryAfter(attempt int32) time.Duration {
	d := firstRetry
	for ; attempt > 1 && d < lastRetry; attempt-- {
		d *= 2
	}
	return min(d, lastRetry)
}

func (c *consumer) nudge() {
	select {
	case c.say <- struct{}{}:
	default:
	}
}

// send says what there is to say, several acknowledgements at once, and keeps what is held here.
func (c *consumer) send(extendEvery time.Duration) {
	extend := time.NewTicker(max(extendEvery, time.Millisecond))
	defer extend.Stop()
	for {
		select {
		case <-c.say:
		case <-extend.C:
			c.extend()
		case <-c.stream.Context().Done():
			return
		}
		all, settled, closing := c.take()
		if settled > 0 && !closing {
			all = append(all, &pubsubv1.SubscribeRequest{Message: &pubsubv1.SubscribeRequest_Credit{Credit: &commonv1.Credit{Messages: int64(settled)}}})
		}
		for _, m := range all {
			if c.stream.Send(m) != nil {
				return // receive tells why
			}
		}
		if closing {
			_ = c.stream.CloseSend() // it fails only where there is no stream any more
			return
		}
	}
}

func (c *consumer) extend() {
	c.mu.Lock()
	defer c.mu.Unlock()
	for id := range c.held {
		c.others = append(c.others, &pubsubv1.SubscribeRequest{Message: &pubsubv1.SubscribeRequest_Extend{Extend: &commonv1.Extend{DeliveryId: id}}})
	}
}

// take answers what is to be said, and how many deliveries that settles.
func (c *consumer) take() (all []*pubsubv1.SubscribeRequest, settled int, closing bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	all, settled = c.others, len(c.acks)
	for _, m := range all {
		if m.GetExtend() == nil {
			settled++
		}
	}
	if len(c.acks) > 0 {
		all = append(all, &pubsubv1.SubscribeRequest{Message: &pubsubv1.SubscribeRequest_Ack{Ack: &commonv1.Ack{DeliveryIds: c.acks}}})
	}
	c.others, c.acks = nil, nil
	return all, settled, c.closing
}
