package native

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/outrigger-mesh/outrigger/components"
	"github.com/outrigger-mesh/outrigger/components/pubsub"
	"github.com/outrigger-mesh/outrigger/components/schedule"
	"github.com/outrigger-mesh/outrigger/components/transaction"
	commonv1 "github.com/outrigger-mesh/outrigger/proto/outrigger/common/v1"

	"google.golang.org/grpc"
	"google.golang.org/grpc/status"
)

// deliveries is what an application has asked for with its start, and how the service tells of it.
type deliveries[A, D any] struct {
	share    share[D]
	started  *A
	delivery func(*D) *A
	id       func(*D) string
	draining *A
}

// share is an application's part of what is delivered: of events, or of firings.
type share[D any] interface {
	// Next waits for deliveries, and answers the ErrDraining of its package once after Drain.
	Next() ([]D, error)
	Grant(messages, bytes int64) error
	Ack(ids ...string) error
	Nack(id string, delay time.Duration) error
	Reject(id, reason string) error
	Extend(id string) error
	Return(ids ...string) error
	Drain()
	Close()
}

// quiet is a share whose deliveries are settled without a word: what a stream cannot tell its driver comes again.
type quiet[D any] struct{ unsaid[D] }

type unsaid[D any] interface {
	Next() ([]D, error)
	Grant(messages, bytes int64) error
	Ack(ids ...string)
	Nack(id string, delay time.Duration)
	Reject(id, reason string)
	Extend(id string)
	Return(ids ...string)
	Drain()
	Close()
}

func (q quiet[D]) Ack(ids ...string) error                   { q.unsaid.Ack(ids...); return nil }
func (q quiet[D]) Nack(id string, delay time.Duration) error { q.unsaid.Nack(id, delay); return nil }
func (q quiet[D]) Reject(id, reason string) error            { q.unsaid.Reject(id, reason); return nil }
func (q quiet[D]) Return(ids ...string) error                { q.unsaid.Return(ids...); return nil }
func (q quiet[D]) Extend(id string) error                    { q.unsaid.Extend(id); return nil }

// request is what an application says on a stream that delivers: the message set that all of them have.
type request[Q, S any] interface {
	*Q
	GetStart() *S
	GetCredit() *commonv1.Credit
	GetAck() *commonv1.Ack
	GetNack() *commonv1.Nack
	GetReject() *commonv1.Reject
	GetExtend() *commonv1.Extend
}

type startMessage[S any] interface {
	*S
	GetCredit() *commonv1.Credit
}

// deliver serves a stream. It runs what the application says on a goroutine of its own, which ends with the stream.
func deliver[Q, S, A, D any, R request[Q, S], M startMessage[S]](stream grpc.BidiStreamingServer[Q, A], draining context.Context,
	begin func(context.Context, *S) (*deliveries[A, D], error),
) error {
	first, err := stream.Recv()
	if err != nil && err != io.EOF { // nothing has no start either
		return err
	}
	start := R(first).GetStart()
	if start == nil {
		return errNoStart
	}
	ctx, end := context.WithCancelCause(stream.Context())
	defer end(nil)
	d, err := begin(ctx, start)
	if err != nil {
		return err
	}
	defer d.share.Close()
	if credit := M(start).GetCredit(); credit != nil {
		if err := d.share.Grant(credit.GetMessages(), credit.GetBytes()); err != nil {
			return err
		}
	}
	if err := stream.Send(d.started); err != nil {
		return err
	}
	if draining != nil {
		defer context.AfterFunc(draining, d.share.Drain)()
	}
	go func() { end(hear[Q, S, A, D, R](stream, d.share)) }()
	err = d.tell(stream)
	switch heard := context.Cause(ctx); {
	case errors.Is(heard, io.EOF):
		return nil // the application will say no more, and what it has not settled goes back
	case isStatus(heard):
		return heard // the end of the stream itself, which is no failure of the component
	}
	return err
}

func isStatus(err error) bool {
	_, ok := err.(interface{ GRPCStatus() *status.Status })
	return ok
}

var errNoStart = fmt.Errorf("%w: the first message of a stream is its start: {\"start\": {...}}", components.ErrInvalid)

// tell sends what is delivered, until the stream ends.
func (d *deliveries[A, D]) tell(stream interface{ Send(*A) error }) error {
	for {
		some, err := d.share.Next()
		if errors.Is(err, pubsub.ErrDraining) || errors.Is(err, schedule.ErrDraining) || errors.Is(err, transaction.ErrDraining) {
			err = stream.Send(d.draining)
		}
		if err != nil {
			return err
		}
		for i := range some {
			if err := stream.Send(d.delivery(&some[i])); err != nil {
				return errors.Join(err, d.unsent(some[i:]))
			}
		}
	}
}

// unsent gives back what the application was not sent: that is no attempt.
func (d *deliveries[A, D]) unsent(some []D) error {
	ids := make([]string, len(some))
	for i := range some {
		ids[i] = d.id(&some[i])
	}
	return d.share.Return(ids...)
}

// hear takes what the application says, until it says no more or something that makes no sense.
func hear[Q, S, A, D any, R request[Q, S]](stream grpc.BidiStreamingServer[Q, A], to share[D]) error {
	for {
		m, err := stream.Recv()
		if err != nil {
			return err
		}
		switch in := R(m); {
		case in.GetCredit() != nil:
			err = to.Grant(in.GetCredit().GetMessages(), in.GetCredit().GetBytes())
		case in.GetAck() != nil:
			err = to.Ack(in.GetAck().GetDeliveryIds()...)
		case in.GetNack() != nil:
			var delay time.Duration
			if delay, err = span("delay", in.GetNack().GetDelay()); err == nil {
				err = to.Nack(in.GetNack().GetDeliveryId(), delay)
			}
		case in.GetReject() != nil:
			err = to.Reject(in.GetReject().GetDeliveryId(), in.GetReject().GetReason())
		case in.GetExtend() != nil:
			err = to.Extend(in.GetExtend().GetDeliveryId())
		case in.GetStart() != nil:
			err = fmt.Errorf("%w: a stream has one start", components.ErrInvalid)
		default: // what a newer application says is passed over
		}
		if err != nil {
			return err
		}
	}
}
