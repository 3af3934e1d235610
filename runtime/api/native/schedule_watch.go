package native

import (
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/outrigger-mesh/outrigger/components"
	"github.com/outrigger-mesh/outrigger/components/schedule"
	commonv1 "github.com/outrigger-mesh/outrigger/proto/outrigger/common/v1"
	pb "github.com/outrigger-mesh/outrigger/proto/outrigger/schedule/v1"

	"google.golang.org/protobuf/types/known/timestamppb"
)

// Watch runs what the application says on a goroutine of its own, which ends with the stream.
func (s *scheduleServer) Watch(stream pb.Schedule_WatchServer) error {
	first, err := stream.Recv()
	if err != nil {
		return err
	}
	start := first.GetStart()
	if start == nil {
		return fmt.Errorf("%w: the first message of a watch is start", components.ErrInvalid)
	}
	ctx, end := context.WithCancelCause(stream.Context())
	defer end(nil)
	w, err := s.start(ctx, start)
	if err != nil {
		return err
	}
	defer w.Close()
	if err := stream.Send(&pb.WatchResponse{Message: &pb.WatchResponse_Started_{Started: &pb.WatchResponse_Started{}}}); err != nil {
		return err
	}
	if s.draining != nil {
		defer context.AfterFunc(s.draining, w.Drain)()
	}
	go func() { end(hearOfFirings(stream, w)) }()
	err = fire(stream, w)
	if errors.Is(context.Cause(ctx), io.EOF) {
		return nil // the application will say no more, and what it has not settled goes back
	}
	return err
}

func (s *scheduleServer) start(ctx context.Context, start *pb.WatchRequest_Start) (*schedule.Stream, error) {
	c, who, err := open(ctx, s.schedules, start.GetComponent())
	if err != nil {
		return nil, err
	}
	deadline, err := span("ack_deadline", start.GetAckDeadline())
	if err == nil && start.GetAckDeadline() != nil && deadline <= 0 {
		err = fmt.Errorf("%w: an ack deadline of %s is not above 0", components.ErrInvalid, deadline)
	}
	if err != nil {
		return nil, c.Named(err)
	}
	w, err := c.Watch(ctx, who, start.GetPrefix(), deadline)
	if err != nil {
		return nil, err
	}
	if credit := start.GetCredit(); credit != nil {
		if err := w.Grant(credit.GetMessages(), credit.GetBytes()); err != nil {
			w.Close()
			return nil, err
		}
	}
	return w, nil
}

// fire sends what fires, until the stream ends.
func fire(stream pb.Schedule_WatchServer, w *schedule.Stream) error {
	for {
		some, err := w.Next()
		if errors.Is(err, schedule.ErrDraining) {
			err = stream.Send(&pb.WatchResponse{Message: &pb.WatchResponse_Draining{Draining: &commonv1.Draining{}}})
		}
		if err != nil {
			return err
		}
		for _, d := range some {
			if err := stream.Send(&pb.WatchResponse{Message: &pb.WatchResponse_Delivery_{Delivery: &pb.WatchResponse_Delivery{
				DeliveryId: d.DeliveryID, Attempt: int32(d.Attempt), FiringId: d.ID, Name: d.Job.Name, Scheduled: timestamppb.New(d.Scheduled),
				Data: d.Job.Data, ContentType: d.Job.ContentType, Metadata: d.Job.Metadata}}}); err != nil {
				return err
			}
		}
	}
}

// hearOfFirings takes what the application says, until it says no more or something that makes no sense.
func hearOfFirings(stream pb.Schedule_WatchServer, w *schedule.Stream) error {
	for {
		in, err := stream.Recv()
		if err != nil {
			return err
		}
		switch m := in.GetMessage().(type) {
		case *pb.WatchRequest_Credit:
			err = w.Grant(m.Credit.GetMessages(), m.Credit.GetBytes())
		case *pb.WatchRequest_Ack:
			w.Ack(m.Ack.GetDeliveryIds()...)
		case *pb.WatchRequest_Nack:
			delay, bad := span("delay", m.Nack.GetDelay())
			if err = bad; err == nil {
				w.Nack(m.Nack.GetDeliveryId(), delay)
			}
		case *pb.WatchRequest_Reject:
			w.Reject(m.Reject.GetDeliveryId(), m.Reject.GetReason())
		case *pb.WatchRequest_Extend:
			w.Extend(m.Extend.GetDeliveryId())
		case *pb.WatchRequest_Start_:
			err = fmt.Errorf("%w: a watch has one start", components.ErrInvalid)
		default: // what a newer application says is passed over
		}
		if err != nil {
			return err
		}
	}
}
