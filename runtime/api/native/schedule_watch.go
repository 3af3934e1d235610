package native

import (
	"context"
	"time"

	"github.com/outrigger-mesh/outrigger/components/schedule"
	commonv1 "github.com/outrigger-mesh/outrigger/proto/outrigger/common/v1"
	pb "github.com/outrigger-mesh/outrigger/proto/outrigger/schedule/v1"

	"google.golang.org/protobuf/types/known/timestamppb"
)

func (s *scheduleServer) Watch(stream pb.Schedule_WatchServer) error {
	return deliver(stream, s.draining, s.start)
}

func (s *scheduleServer) start(ctx context.Context, start *pb.WatchRequest_Start) (*deliveries[pb.WatchResponse, schedule.Delivery], error) {
	c, who, err := open(ctx, s.schedules, start.GetComponent())
	if err != nil {
		return nil, err
	}
	deadline, err := ackDeadline(start.GetAckDeadline())
	if err != nil {
		return nil, c.Named(err)
	}
	w, err := c.Watch(ctx, who, start.GetPrefix(), deadline)
	if err != nil {
		return nil, err
	}
	return &deliveries[pb.WatchResponse, schedule.Delivery]{share: firings{w}, delivery: firing,
		id:       func(d *schedule.Delivery) string { return d.DeliveryID },
		started:  &pb.WatchResponse{Message: &pb.WatchResponse_Started_{Started: &pb.WatchResponse_Started{}}},
		draining: &pb.WatchResponse{Message: &pb.WatchResponse_Draining{Draining: &commonv1.Draining{}}},
	}, nil
}

// firings are settled without a word: what a stream cannot tell its driver comes again.
type firings struct{ *schedule.Stream }

func (f firings) Ack(ids ...string) error                   { f.Stream.Ack(ids...); return nil }
func (f firings) Nack(id string, delay time.Duration) error { f.Stream.Nack(id, delay); return nil }
func (f firings) Reject(id, reason string) error            { f.Stream.Reject(id, reason); return nil }
func (f firings) Return(ids ...string) error                { f.Stream.Return(ids...); return nil }
func (f firings) Extend(id string) error                    { f.Stream.Extend(id); return nil }

func firing(d *schedule.Delivery) *pb.WatchResponse {
	return &pb.WatchResponse{Message: &pb.WatchResponse_Delivery_{Delivery: &pb.WatchResponse_Delivery{
		DeliveryId: d.DeliveryID, Attempt: int32(d.Attempt), FiringId: d.ID, Name: d.Job.Name, Scheduled: timestamppb.New(d.Scheduled),
		Data: d.Job.Data, ContentType: d.Job.ContentType, Metadata: d.Job.Metadata}}}
}
