package client

import (
	"context"
	"time"

	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/timestamppb"

	commonv1 "github.com/outrigger-mesh/outrigger/proto/outrigger/common/v1"
	pubsubv1 "github.com/outrigger-mesh/outrigger/proto/outrigger/pubsub/v1"
)

// PubSub is a component that delivers events of topics to groups of subscribers. Topics belong to the application's namespace.
type PubSub struct {
	client    *Client
	component string
	api       pubsubv1.PubSubClient
}

// PubSub is the component of that name; empty means "default". Whether there is one shows at the first call (ErrNoComponent).
func (c *Client) PubSub(name string) *PubSub {
	return &PubSub{c, name, pubsubv1.NewPubSubClient(c.API())}
}

// Event is an event of CloudEvents 1.0. To publish one its Data are enough: the id, the source (/NAMESPACE/APP), the type
// (outrigger.event) and the time are made where they are left out.
type Event struct {
	Topic       string // of PublishMany, and of what is delivered
	ID          string
	Source      string
	Type        string
	Subject     string
	Time        time.Time
	ContentType string
	Data        []byte
	OrderingKey string // a group handles the events with the same key one after the other, in the order of publication; empty: no order
	Metadata    map[string]string

	IdempotencyKey string // of what is published: the same key gives the first answer within 24 h, and publishes nothing
	Attempt        int    // of what is delivered: counts from 1
}

// Publish publishes an event and answers its id. ErrExists, reason IDEMPOTENCY_KEY_REUSED, says that its idempotency key was used
// for another one.
func (p *PubSub) Publish(ctx context.Context, topic string, e Event) (id string, err error) {
	r, err := p.api.Publish(ctx, p.request(topic, e))
	return r.GetId(), err
}

// PublishResult is what became of one event of several.
type PublishResult struct {
	ID  string
	Err error
}

// PublishMany publishes up to 1000 events, of the topic where they name none, and answers a result for each. Those of one topic
// and ordering key keep their order; when one fails, those after it do, with reason EARLIER_EVENT_FAILED.
func (p *PubSub) PublishMany(ctx context.Context, topic string, events ...Event) ([]PublishResult, error) {
	in := &pubsubv1.PublishManyRequest{Component: p.component, Topic: topic, Events: make([]*pubsubv1.PublishRequest, len(events))}
	for i, e := range events {
		in.Events[i] = p.request(e.Topic, e)
	}
	r, err := p.api.PublishMany(ctx, in)
	if err != nil {
		return nil, err
	}
	results := make([]PublishResult, len(r.GetResults()))
	for i, one := range r.GetResults() {
		results[i] = PublishResult{one.GetId(), failure(one.GetError())}
	}
	return results, nil
}

func (p *PubSub) request(topic string, e Event) *pubsubv1.PublishRequest {
	out := &pubsubv1.PublishRequest{Component: p.component, Topic: topic, Data: e.Data, ContentType: e.ContentType, OrderingKey: e.OrderingKey,
		Metadata: e.Metadata, Id: e.ID, Source: e.Source, Type: e.Type, Subject: e.Subject, IdempotencyKey: e.IdempotencyKey}
	if !e.Time.IsZero() {
		out.Time = timestamppb.New(e.Time)
	}
	return out
}

func delivered(d *pubsubv1.SubscribeResponse_Delivery) Event {
	e := d.GetEvent()
	out := Event{Topic: d.GetTopic(), ID: e.GetId(), Source: e.GetSource(), Type: e.GetType(), Subject: e.GetSubject(), ContentType: e.GetContentType(),
		Data: e.GetData(), OrderingKey: e.GetOrderingKey(), Metadata: e.GetMetadata(), Attempt: int(d.GetAttempt())}
	if e.GetTime() != nil {
		out.Time = e.GetTime().AsTime()
	}
	return out
}

// eventsAhead is how many events wait here for a handler, so that none waits for an event.
const eventsAhead = 256

// SubscribeOptions are what a subscription may be told. The zero value is a good one.
type SubscribeOptions struct {
	Group       string        // who shares the events; empty: the application, all its instances
	Earliest    bool          // a group that is new begins with the oldest event, else with what is published from now on
	ReplayFrom  time.Time     // moves the group, of all its subscribers, to the first event of this time or later
	Concurrency int           // events handled at once, up to 16384; 0: 16
	AckDeadline time.Duration // after which a frozen process loses what it has, up to 24 h; 0: 30 s
}

// Subscribe has the events of a topic handled until ctx ends; then it waits for the handlers under way and answers ctx's error. What
// none of them has begun with goes to others at once.
// Another error is ErrClosed, or one that trying again cannot mend.
//
// An event is handled when handle answers nil. With an error it comes again, after a pause that grows from 0.1 s to a minute, until
// the component's attempts are used up; with Reject it does not. Each event comes at least once, so handle must stand repetitions.
// As long as handle runs the event is this subscriber's. The context that handle is given ends when it is not any more (the sidecar
// was lost), or with ctx.
//
// Restarts of the sidecar and reloads of the component are survived: what was not settled comes again.
func (p *PubSub) Subscribe(ctx context.Context, topic string, o SubscribeOptions, handle func(context.Context, Event) error) error {
	if handle == nil {
		return invalid("a handler that is nil")
	}
	l, err := limits{handlers: o.Concurrency, ahead: eventsAhead, deadline: o.AckDeadline}.filled()
	if err != nil {
		return err
	}
	start := &pubsubv1.SubscribeRequest_Start{Component: p.component, Topic: topic, Group: o.Group, From: pubsubv1.SubscribeRequest_FROM_LATEST,
		AckDeadline: durationpb.New(l.deadline), Credit: l.credit(), ReplayFrom: stamp(o.ReplayFrom)}
	if o.Earliest {
		start.From = pubsubv1.SubscribeRequest_FROM_EARLIEST
	}
	return p.client.resume(ctx, "pubsub", "subscribe", func(ctx context.Context) error {
		return consume(ctx, l, func(ctx context.Context) (deliveries[Event], error) { return p.subscribe(ctx, start) }, handle)
	})
}

// subscription is a stream of deliveries of events.
type subscription struct {
	pubsubv1.PubSub_SubscribeClient
	start *pubsubv1.SubscribeRequest_Start
}

func (p *PubSub) subscribe(ctx context.Context, start *pubsubv1.SubscribeRequest_Start) (subscription, error) {
	stream, err := p.api.Subscribe(ctx)
	if err != nil {
		return subscription{}, err
	}
	// That it cannot be sent shows, with the reason, when receiving.
	_ = stream.Send(&pubsubv1.SubscribeRequest{Message: &pubsubv1.SubscribeRequest_Start_{Start: start}})
	return subscription{stream, start}, nil
}

func (s subscription) hear() (heard[Event], error) {
	in, err := s.Recv()
	h := heard[Event]{started: in.GetStarted() != nil, draining: in.GetDraining() != nil}
	if h.started {
		s.start.ReplayFrom = nil // that is done: the next stream goes on where the group is
	}
	if d := in.GetDelivery(); d != nil {
		h.delivery = &delivery[Event]{d.GetDeliveryId(), d.GetAttempt(), delivered(d)}
	}
	return h, err
}

func (s subscription) say(message any) error {
	out := &pubsubv1.SubscribeRequest{}
	switch m := message.(type) {
	case *commonv1.Credit:
		out.Message = &pubsubv1.SubscribeRequest_Credit{Credit: m}
	case *commonv1.Ack:
		out.Message = &pubsubv1.SubscribeRequest_Ack{Ack: m}
	case *commonv1.Nack:
		out.Message = &pubsubv1.SubscribeRequest_Nack{Nack: m}
	case *commonv1.Reject:
		out.Message = &pubsubv1.SubscribeRequest_Reject{Reject: m}
	case *commonv1.Extend:
		out.Message = &pubsubv1.SubscribeRequest_Extend{Extend: m}
	}
	return s.Send(out)
}
