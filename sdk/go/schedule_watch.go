package client

import (
	"context"
	"errors"
	"sync"
	"time"

	"google.golang.org/protobuf/types/known/durationpb"

	commonv1 "github.com/outrigger-mesh/outrigger/proto/outrigger/common/v1"
	schedulev1 "github.com/outrigger-mesh/outrigger/proto/outrigger/schedule/v1"
)

// Firing is a job that was due.
type Firing struct {
	ID          string // the same for each attempt, and for no other firing: what to tell repetitions by
	Name        string // the job's
	Attempt     int    // counts from 1
	Scheduled   time.Time
	Data        []byte
	ContentType string
	Metadata    map[string]string
}

// HandleOptions are what handling may be told. The zero value is a good one.
type HandleOptions struct {
	Prefix      string        // only jobs whose names begin so
	Concurrency int           // firings handled at once; 0: 16
	AckDeadline time.Duration // after which a frozen process loses what it has; 0: 30 s
}

// Handle has the application's firings handled until ctx ends; then it waits for the handlers under way and answers ctx's error.
// Another error is ErrClosed, or one that trying again cannot mend. Several may be at it, here or in other instances of the application:
// each firing goes to one.
//
// A firing is done with when handle answers nil. With an error it comes again, after a pause that grows from 0.1 s to a minute, until the
// component's attempts are used up; with Reject it does not. Each comes at least once, so handle must stand repetitions. As long as handle
// runs the firing is this one's; its job does not fire again before. The context that handle is given ends when the sidecar was lost, or
// with ctx.
//
// Restarts of the sidecar and reloads of the component are survived: what was not settled comes again.
func (s *Schedule) Handle(ctx context.Context, o HandleOptions, handle func(context.Context, Firing) error) error {
	if handle == nil {
		return invalid("a handler that is nil")
	}
	if o.Concurrency <= 0 {
		o.Concurrency = 16
	}
	if o.AckDeadline <= 0 {
		o.AckDeadline = 30 * time.Second
	}
	for pause := (backoff{}); ; {
		err := s.work(ctx, o, handle, func() { pause = backoff{} })
		switch {
		case s.client.closed():
			return ErrClosed
		case ctx.Err() != nil:
			return ctx.Err()
		case errors.Is(err, errDrained):
			err = nil
		case !resumable(err):
			return err
		}
		d := pause.next()
		if after, ok := RetryAfter(err); ok {
			d = min(max(d, after), longestPause)
		}
		s.client.log.DebugContext(ctx, "watch resumes", "capability", "schedule", "op", "watch", "after", d, "err", err)
		sleep(ctx, s.client.done, d) // that it was cut short shows in the next round
	}
}

// crew is one stream of firings with their handlers.
type crew struct {
	stream  schedulev1.Schedule_WatchClient
	handle  func(context.Context, Firing) error
	extend  time.Duration // how often a firing under way is kept
	working sync.WaitGroup

	mu      sync.Mutex // one says something at a time
	leaving bool       // no more is wanted
}

// work runs one stream until it is lost, drained or ctx ends. started is called when it is there.
func (s *Schedule) work(ctx context.Context, o HandleOptions, handle func(context.Context, Firing) error, started func()) error {
	life, cancel := context.WithCancel(context.WithoutCancel(ctx)) // what handlers come to is still told after ctx has ended
	defer cancel()
	early := context.AfterFunc(ctx, cancel)
	stream, err := s.api.Watch(life)
	if err == nil {
		// That it cannot be sent shows, with the reason, when receiving.
		_ = stream.Send(&schedulev1.WatchRequest{Message: &schedulev1.WatchRequest_Start_{Start: &schedulev1.WatchRequest_Start{Component: s.component,
			Prefix: o.Prefix, Credit: &commonv1.Credit{Messages: int64(o.Concurrency)}, AckDeadline: durationpb.New(o.AckDeadline)}}})
		_, err = stream.Recv()
	}
	if !early() {
		return ctx.Err()
	}
	if err != nil {
		return err
	}
	started()
	c := &crew{stream: stream, handle: handle, extend: max(o.AckDeadline/3, time.Millisecond)}
	return c.run(ctx, s.client.done)
}

// run answers errDrained when all that was to be said was said.
func (c *crew) run(ctx context.Context, closed <-chan struct{}) error {
	handling, lost := context.WithCancel(ctx)
	defer lost()
	leave, ended := make(chan struct{}, 1), make(chan error, 1)
	go func() {
		err := c.receive(handling, leave)
		lost() // what the handlers have is not theirs any more
		ended <- err
	}()
	select {
	case err := <-ended:
		c.working.Wait()
		return err
	case <-leave:
	case <-ctx.Done():
	case <-closed:
		lost()
	}
	c.mu.Lock()
	c.leaving = true
	c.mu.Unlock()
	c.working.Wait()
	c.say(nil)
	select {
	case <-ended:
	case <-time.After(lastWords):
	}
	return errDrained
}

// receive starts a handler for each firing. There are no more than there was credit for.
func (c *crew) receive(ctx context.Context, leave chan<- struct{}) error {
	for {
		in, err := c.stream.Recv()
		if err != nil {
			return err
		}
		if in.GetDraining() != nil {
			select {
			case leave <- struct{}{}:
			default: // that was said
			}
		}
		c.mu.Lock()
		if d := in.GetDelivery(); d != nil && !c.leaving { // else it goes back when the stream ends
			c.working.Go(func() { c.work(ctx, d) })
		}
		c.mu.Unlock()
	}
}

// work handles a firing and says how that went.
func (c *crew) work(ctx context.Context, d *schedulev1.WatchResponse_Delivery) {
	done := make(chan error, 1)
	go func() {
		done <- c.handle(ctx, Firing{ID: d.GetFiringId(), Name: d.GetName(), Attempt: int(d.GetAttempt()), Scheduled: d.GetScheduled().AsTime(), Data: d.GetData(),
			ContentType: d.GetContentType(), Metadata: d.GetMetadata()})
	}()
	keep := time.NewTicker(c.extend)
	defer keep.Stop()
	for {
		select {
		case <-keep.C:
			c.say(&schedulev1.WatchRequest{Message: &schedulev1.WatchRequest_Extend{Extend: &commonv1.Extend{DeliveryId: d.GetDeliveryId()}}})
		case err := <-done:
			c.say(outcome(d, err))
			c.say(&schedulev1.WatchRequest{Message: &schedulev1.WatchRequest_Credit{Credit: &commonv1.Credit{Messages: 1}}})
			return
		}
	}
}

func outcome(d *schedulev1.WatchResponse_Delivery, err error) *schedulev1.WatchRequest {
	id := d.GetDeliveryId()
	var reject *rejection
	switch {
	case err == nil:
		return &schedulev1.WatchRequest{Message: &schedulev1.WatchRequest_Ack{Ack: &commonv1.Ack{DeliveryIds: []string{id}}}}
	case errors.As(err, &reject):
		return &schedulev1.WatchRequest{Message: &schedulev1.WatchRequest_Reject{Reject: &commonv1.Reject{DeliveryId: id, Reason: err.Error()}}}
	}
	return &schedulev1.WatchRequest{Message: &schedulev1.WatchRequest_Nack{Nack: &commonv1.Nack{DeliveryId: id, Delay: durationpb.New(retryAfter(d.GetAttempt()))}}}
}

// say sends a message; none ends what this side says. Where there is no stream any more receive tells why.
func (c *crew) say(m *schedulev1.WatchRequest) {
	c.mu.Lock()
	defer c.mu.Unlock()
	switch {
	case m == nil:
		_ = c.stream.CloseSend()
	case m.GetCredit() == nil || !c.leaving:
		_ = c.stream.Send(m)
	}
}
