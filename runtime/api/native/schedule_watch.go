package native

import (
	"context"

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
	return &deliveries[pb.WatchResponse, schedule.Delivery]{share: quiet[schedule.Delivery]{w}, delivery: firing,
		id:       func(d *schedule.Delivery) string { return d.DeliveryID },
		started:  &pb.WatchResponse{Message: &pb.WatchResponse_Started_{Started: &pb.WatchResponse_Started{}}},
		draining: &pb.WatchResponse{Message: &pb.WatchResponse_Draining{Draining: &commonv1.Draining{}}},
	}, nil
}

func firing(d *schedule.Delivery) *pb.WatchResponse {
	return &pb.WatchResponse{Message: &pb.WatchResponse_Delivery_{Delivery: &pb.WatchResponse_Delivery{
		DeliveryId: d.DeliveryID, Attempt: int32(d.Attempt), FiringId: d.ID, Name: d.Job.Name, Scheduled: timestamppb.New(d.Scheduled),
		Data: d.Job.Data, ContentType: d.Job.ContentType, Metadata: d.Job.Metadata}}}
}
