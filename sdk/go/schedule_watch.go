package client

import (
	"context"
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
	Concurrency int           // firings handled at once, up to 16384; 0: 16
	AckDeadline time.Duration // after which a frozen process loses what it has, up to 24 h; 0: 30 s
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
	l, err := limits{handlers: o.Concurrency, deadline: o.AckDeadline}.filled() // none ahead: another instance may be free
	if err != nil {
		return err
	}
	start := &schedulev1.WatchRequest_Start{Component: s.component, Prefix: o.Prefix, Credit: l.credit(), AckDeadline: durationpb.New(l.deadline)}
	return s.client.resume(ctx, "schedule", "watch", func(ctx context.Context) error {
		return consume(ctx, l, func(ctx context.Context) (deliveries[Firing], error) { return s.watch(ctx, start) }, handle)
	})
}

// firings is a stream of deliveries of firings.
type firings struct {
	schedulev1.Schedule_WatchClient
}

func (s *Schedule) watch(ctx context.Context, start *schedulev1.WatchRequest_Start) (firings, error) {
	stream, err := s.api.Watch(ctx)
	if err != nil {
		return firings{}, err
	}
	// That it cannot be sent shows, with the reason, when receiving.
	_ = stream.Send(&schedulev1.WatchRequest{Message: &schedulev1.WatchRequest_Start_{Start: start}})
	return firings{stream}, nil
}

func (f firings) hear() (heard[Firing], error) {
	in, err := f.Recv()
	h := heard[Firing]{started: in.GetStarted() != nil, draining: in.GetDraining() != nil}
	if d := in.GetDelivery(); d != nil {
		h.delivery = &delivery[Firing]{d.GetDeliveryId(), d.GetAttempt(), Firing{ID: d.GetFiringId(), Name: d.GetName(), Attempt: int(d.GetAttempt()),
			Scheduled: moment(d.GetScheduled()), Data: d.GetData(), ContentType: d.GetContentType(), Metadata: d.GetMetadata()}}
	}
	return h, err
}

func (f firings) say(message any) error {
	out := &schedulev1.WatchRequest{}
	switch m := message.(type) {
	case *commonv1.Credit:
		out.Message = &schedulev1.WatchRequest_Credit{Credit: m}
	case *commonv1.Ack:
		out.Message = &schedulev1.WatchRequest_Ack{Ack: m}
	case *commonv1.Nack:
		out.Message = &schedulev1.WatchRequest_Nack{Nack: m}
	case *commonv1.Reject:
		out.Message = &schedulev1.WatchRequest_Reject{Reject: m}
	case *commonv1.Extend:
		out.Message = &schedulev1.WatchRequest_Extend{Extend: m}
	}
	return f.Send(out)
}
