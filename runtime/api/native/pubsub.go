package native

import (
	"context"
	"fmt"

	"github.com/outrigger-mesh/outrigger/components"
	"github.com/outrigger-mesh/outrigger/components/pubsub"
	commonv1 "github.com/outrigger-mesh/outrigger/proto/outrigger/common/v1"
	pb "github.com/outrigger-mesh/outrigger/proto/outrigger/pubsub/v1"
	"github.com/outrigger-mesh/outrigger/runtime/api"
)

type pubsubServer struct {
	pb.UnimplementedPubSubServer
	pubsubs  api.Components[*pubsub.PubSub]
	draining context.Context
}

func (s *pubsubServer) Publish(ctx context.Context, in *pb.PublishRequest) (*pb.PublishResponse, error) {
	c, who, err := open(ctx, s.pubsubs, in.GetComponent())
	if err != nil {
		return nil, err
	}
	e, err := newEvent(in, in.GetTopic())
	if err != nil {
		return nil, c.Named(err)
	}
	id, err := c.Publish(ctx, who, e)
	if err != nil {
		return nil, err
	}
	return &pb.PublishResponse{Id: id}, nil
}

func (s *pubsubServer) PublishMany(ctx context.Context, in *pb.PublishManyRequest) (*pb.PublishManyResponse, error) {
	c, who, err := open(ctx, s.pubsubs, in.GetComponent())
	if err != nil {
		return nil, err
	}
	all := make([]pubsub.NewEvent, len(in.GetEvents()))
	for i, e := range in.GetEvents() {
		if e.GetComponent() != "" && e.GetComponent() != in.GetComponent() {
			return nil, c.Named(fmt.Errorf("%w: event %d names the component %q, the request %q", components.ErrInvalid, i, e.GetComponent(), in.GetComponent()))
		}
		topic := e.GetTopic()
		if topic == "" {
			topic = in.GetTopic()
		}
		if all[i], err = newEvent(e, topic); err != nil {
			return nil, c.Named(fmt.Errorf("event %d: %w", i, err))
		}
	}
	results, err := c.PublishMany(ctx, who, all)
	if err != nil {
		return nil, err
	}
	out := &pb.PublishManyResponse{Results: make([]*pb.PublishManyResponse_Result, len(results))}
	for i, r := range results {
		out.Results[i] = &pb.PublishManyResponse_Result{Id: r.ID, Error: api.Failure(r.Err)}
	}
	return out, nil
}

func newEvent(in *pb.PublishRequest, topic string) (pubsub.NewEvent, error) {
	e := pubsub.NewEvent{Topic: topic, IdempotencyKey: in.GetIdempotencyKey(), Event: pubsub.Event{
		ID: in.GetId(), Source: in.GetSource(), Type: in.GetType(), Subject: in.GetSubject(),
		ContentType: in.GetContentType(), Data: in.GetData(), OrderingKey: in.GetOrderingKey(), Metadata: in.GetMetadata()}}
	var err error
	e.Time, err = moment("time", in.GetTime())
	return e, err
}

func (s *pubsubServer) Subscribe(stream pb.PubSub_SubscribeServer) error {
	return deliver(stream, s.draining, s.start)
}

func (s *pubsubServer) start(ctx context.Context, start *pb.SubscribeRequest_Start) (*deliveries[pb.SubscribeResponse, pubsub.Delivery], error) {
	c, who, err := open(ctx, s.pubsubs, start.GetComponent())
	if err != nil {
		return nil, err
	}
	o := pubsub.SubscribeOptions{Topic: start.GetTopic(), Group: start.GetGroup(), Earliest: start.GetFrom() == pb.SubscribeRequest_FROM_EARLIEST}
	if _, known := pb.SubscribeRequest_From_name[int32(start.GetFrom())]; !known {
		return nil, c.Named(fmt.Errorf("%w: from %d is not known", components.ErrInvalid, start.GetFrom()))
	}
	if o.ReplayFrom, err = moment("replay_from", start.GetReplayFrom()); err != nil {
		return nil, c.Named(err)
	}
	if o.AckDeadline, err = ackDeadline(start.GetAckDeadline()); err != nil {
		return nil, c.Named(err)
	}
	sub, err := c.Subscribe(ctx, who, o)
	if err != nil {
		return nil, err
	}
	return &deliveries[pb.SubscribeResponse, pubsub.Delivery]{share: sub,
		started:  &pb.SubscribeResponse{Message: &pb.SubscribeResponse_Started_{Started: &pb.SubscribeResponse_Started{Group: sub.Group()}}},
		delivery: func(d *pubsub.Delivery) *pb.SubscribeResponse { return delivery(d, start.GetTopic()) },
		id:       func(d *pubsub.Delivery) string { return d.ID },
		draining: &pb.SubscribeResponse{Message: &pb.SubscribeResponse_Draining{Draining: &commonv1.Draining{}}},
	}, nil
}

func delivery(d *pubsub.Delivery, topic string) *pb.SubscribeResponse {
	e := d.Event
	out := &pb.Event{Id: e.ID, Source: e.Source, Type: e.Type, Subject: e.Subject, ContentType: e.ContentType, Data: e.Data,
		OrderingKey: e.OrderingKey, Metadata: e.Metadata, Time: timestamp(e.Time)}
	return &pb.SubscribeResponse{Message: &pb.SubscribeResponse_Delivery_{Delivery: &pb.SubscribeResponse_Delivery{
		DeliveryId: d.ID, Attempt: int32(d.Attempt), Topic: topic, Event: out}}}
}
