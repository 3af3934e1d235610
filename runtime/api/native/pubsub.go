package native

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/outrigger-mesh/outrigger/components"
	"github.com/outrigger-mesh/outrigger/components/pubsub"
	commonv1 "github.com/outrigger-mesh/outrigger/proto/outrigger/common/v1"
	pb "github.com/outrigger-mesh/outrigger/proto/outrigger/pubsub/v1"
	"github.com/outrigger-mesh/outrigger/runtime/api"

	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/timestamppb"
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
		return nil, err
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
			return nil, fmt.Errorf("%w: event %d names the component %q, the request %q", components.ErrInvalid, i, e.GetComponent(), in.GetComponent())
		}
		topic := e.GetTopic()
		if topic == "" {
			topic = in.GetTopic()
		}
		if all[i], err = newEvent(e, topic); err != nil {
			return nil, fmt.Errorf("event %d: %w", i, err)
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

// moment is zero for what is unset.
func moment(field string, t *timestamppb.Timestamp) (time.Time, error) {
	if t == nil {
		return time.Time{}, nil
	}
	if t.CheckValid() != nil {
		return time.Time{}, fmt.Errorf("%w: %s %ds %dns is not a time", components.ErrInvalid, field, t.GetSeconds(), t.GetNanos())
	}
	return t.AsTime(), nil
}

// Subscribe runs what the application says on a goroutine of its own, which ends with the stream.
func (s *pubsubServer) Subscribe(stream pb.PubSub_SubscribeServer) error {
	first, err := stream.Recv()
	if err != nil {
		return err
	}
	start := first.GetStart()
	if start == nil {
		return fmt.Errorf("%w: the first message of a subscription is start", components.ErrInvalid)
	}
	ctx, end := context.WithCancelCause(stream.Context())
	defer end(nil)
	sub, err := s.start(ctx, start)
	if err != nil {
		return err
	}
	defer sub.Close()
	if err := stream.Send(&pb.SubscribeResponse{Message: &pb.SubscribeResponse_Started_{Started: &pb.SubscribeResponse_Started{Group: sub.Group()}}}); err != nil {
		return err
	}
	if s.draining != nil {
		defer context.AfterFunc(s.draining, sub.Drain)()
	}
	go func() { end(hear(stream, sub)) }()
	err = deliver(stream, sub, start.GetTopic())
	if errors.Is(context.Cause(ctx), io.EOF) {
		return nil // the application will say no more, and what it has not settled goes back
	}
	return err
}

func (s *pubsubServer) start(ctx context.Context, start *pb.SubscribeRequest_Start) (*pubsub.Stream, error) {
	c, who, err := open(ctx, s.pubsubs, start.GetComponent())
	if err != nil {
		return nil, err
	}
	o := pubsub.SubscribeOptions{Topic: start.GetTopic(), Group: start.GetGroup(), Earliest: start.GetFrom() == pb.SubscribeRequest_FROM_EARLIEST}
	if _, known := pb.SubscribeRequest_From_name[int32(start.GetFrom())]; !known {
		return nil, fmt.Errorf("%w: from %d is not known", components.ErrInvalid, start.GetFrom())
	}
	if o.ReplayFrom, err = moment("replay_from", start.GetReplayFrom()); err != nil {
		return nil, err
	}
	if d := start.GetAckDeadline(); d != nil {
		if d.CheckValid() != nil || d.AsDuration() <= 0 {
			return nil, fmt.Errorf("%w: an ack deadline of %ds %dns is not above 0", components.ErrInvalid, d.GetSeconds(), d.GetNanos())
		}
		o.AckDeadline = d.AsDuration()
	}
	sub, err := c.Subscribe(ctx, who, o)
	if err != nil {
		return nil, err
	}
	if credit := start.GetCredit(); credit != nil {
		if err := sub.Grant(credit.GetMessages(), credit.GetBytes()); err != nil {
			sub.Close()
			return nil, err
		}
	}
	return sub, nil
}

// deliver sends what is delivered, until the stream ends.
func deliver(stream pb.PubSub_SubscribeServer, sub *pubsub.Stream, topic string) error {
	for {
		some, err := sub.Next()
		if errors.Is(err, pubsub.ErrDraining) {
			err = stream.Send(&pb.SubscribeResponse{Message: &pb.SubscribeResponse_Draining{Draining: &commonv1.Draining{}}})
		}
		if err != nil {
			return err
		}
		for i := range some {
			if err := stream.Send(delivery(&some[i], topic)); err != nil {
				return err
			}
		}
	}
}

func delivery(d *pubsub.Delivery, topic string) *pb.SubscribeResponse {
	e := d.Event
	out := &pb.Event{Id: e.ID, Source: e.Source, Type: e.Type, Subject: e.Subject, ContentType: e.ContentType, Data: e.Data,
		OrderingKey: e.OrderingKey, Metadata: e.Metadata}
	if !e.Time.IsZero() {
		out.Time = timestamppb.New(e.Time)
	}
	return &pb.SubscribeResponse{Message: &pb.SubscribeResponse_Delivery_{Delivery: &pb.SubscribeResponse_Delivery{
		DeliveryId: d.ID, Attempt: int32(d.Attempt), Topic: topic, Event: out}}}
}

// hear takes what the application says, until it says no more or something that makes no sense.
func hear(stream pb.PubSub_SubscribeServer, sub *pubsub.Stream) error {
	for {
		in, err := stream.Recv()
		if err != nil {
			return err
		}
		switch m := in.GetMessage().(type) {
		case *pb.SubscribeRequest_Credit:
			err = sub.Grant(m.Credit.GetMessages(), m.Credit.GetBytes())
		case *pb.SubscribeRequest_Ack:
			err = sub.Ack(m.Ack.GetDeliveryIds()...)
		case *pb.SubscribeRequest_Nack:
			var delay time.Duration
			if delay, err = pause(m.Nack.GetDelay()); err == nil {
				err = sub.Nack(m.Nack.GetDeliveryId(), delay)
			}
		case *pb.SubscribeRequest_Reject:
			err = sub.Reject(m.Reject.GetDeliveryId(), m.Reject.GetReason())
		case *pb.SubscribeRequest_Extend:
			err = sub.Extend(m.Extend.GetDeliveryId())
		case *pb.SubscribeRequest_Start_:
			err = fmt.Errorf("%w: a subscription has one start", components.ErrInvalid)
		default: // what a newer application says is passed over
		}
		if err != nil {
			return err
		}
	}
}

// pause is 0 for what is unset.
func pause(d *durationpb.Duration) (time.Duration, error) {
	if d == nil {
		return 0, nil
	}
	if d.CheckValid() != nil {
		return 0, fmt.Errorf("%w: delay %ds %dns is not a duration", components.ErrInvalid, d.GetSeconds(), d.GetNanos())
	}
	return d.AsDuration(), nil
}
