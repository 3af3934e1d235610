package apitest

import (
	"context"
	"errors"
	"io"
	"strings"
	"testing"
	"time"

	commonv1 "github.com/outrigger-mesh/outrigger/proto/outrigger/common/v1"
	pubsubv1 "github.com/outrigger-mesh/outrigger/proto/outrigger/pubsub/v1"
	"github.com/outrigger-mesh/outrigger/runtime/api/server"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/timestamppb"
)

// subscription is a stream that a test holds in its hand.
type subscription struct {
	pubsubv1.PubSub_SubscribeClient
	t *testing.T
}

// subscribe is over gRPC always; duplex_test.go has what streams both ways are over HTTP with JSON.
func subscribe(t *testing.T, s *sidecar, f front, start *pubsubv1.SubscribeRequest_Start) *subscription {
	t.Helper()
	var cc grpc.ClientConnInterface = dial(t, "passthrough:///"+s.grpc)
	if !f.json {
		cc = f.dial(t, s)
	}
	stream := must[pubsubv1.PubSub_SubscribeClient](t)(pubsubv1.NewPubSubClient(cc).Subscribe(within(t)))
	sub := &subscription{stream, t}
	sub.say(&pubsubv1.SubscribeRequest{Message: &pubsubv1.SubscribeRequest_Start_{Start: start}})
	return sub
}

func (s *subscription) say(m *pubsubv1.SubscribeRequest) {
	s.t.Helper()
	if err := s.Send(m); err != nil && !errors.Is(err, io.EOF) {
		s.t.Fatal(err)
	}
}

func (s *subscription) started() *pubsubv1.SubscribeResponse_Started {
	s.t.Helper()
	in := must[*pubsubv1.SubscribeResponse](s.t)(s.Recv())
	if in.GetStarted() == nil {
		s.t.Fatalf("the first message is %v, want started", in)
	}
	return in.GetStarted()
}

func (s *subscription) delivery(data string, attempt int32) *pubsubv1.SubscribeResponse_Delivery {
	s.t.Helper()
	d := must[*pubsubv1.SubscribeResponse](s.t)(s.Recv()).GetDelivery()
	if string(d.GetEvent().GetData()) != data || d.GetAttempt() != attempt {
		s.t.Fatalf("delivered was %v, want %q, attempt %d", d, data, attempt)
	}
	return d
}

func (s *subscription) ack(ids ...string) {
	s.say(&pubsubv1.SubscribeRequest{Message: &pubsubv1.SubscribeRequest_Ack{Ack: &commonv1.Ack{DeliveryIds: ids}}})
}

func (s *subscription) credit(messages, bytes int64) {
	s.say(&pubsubv1.SubscribeRequest{Message: &pubsubv1.SubscribeRequest_Credit{Credit: &commonv1.Credit{Messages: messages, Bytes: bytes}}})
}

func TestPubSub(t *testing.T) {
	each(t, func(t *testing.T, f front, s *sidecar, cc grpc.ClientConnInterface) {
		ctx, c := within(t), pubsubv1.NewPubSubClient(cc)
		sub := subscribe(t, s, f, &pubsubv1.SubscribeRequest_Start{Topic: "orders", Credit: &commonv1.Credit{Messages: 1}})
		if g := sub.started().GetGroup(); g != "shop/orders" {
			t.Errorf("the group is %q, want that of the application", g)
		}
		first := must[*pubsubv1.PublishResponse](t)(c.Publish(ctx, &pubsubv1.PublishRequest{Topic: "orders", Data: []byte("1\x00\xff"), ContentType: "x/y",
			OrderingKey: "k", Metadata: map[string]string{"a": "b"}, Subject: "s", IdempotencyKey: "once"}))
		d := sub.delivery("1\x00\xff", 1)
		e := d.GetEvent()
		if e.GetId() != first.GetId() || e.GetSource() != "/shop/orders" || e.GetType() != "outrigger.event" || time.Since(e.GetTime().AsTime()) > time.Minute ||
			e.GetContentType() != "x/y" || e.GetOrderingKey() != "k" || e.GetMetadata()["a"] != "b" || e.GetSubject() != "s" || d.GetTopic() != "orders" {
			t.Error(d)
		}
		again := must[*pubsubv1.PublishResponse](t)(c.Publish(ctx, &pubsubv1.PublishRequest{Topic: "orders", Data: []byte("1\x00\xff"), ContentType: "x/y",
			OrderingKey: "k", Metadata: map[string]string{"a": "b"}, Subject: "s", IdempotencyKey: "once"}))
		if again.GetId() != first.GetId() {
			t.Errorf("the same key answers %q, and answered %q", again.GetId(), first.GetId())
		}
		_, err := c.Publish(ctx, &pubsubv1.PublishRequest{Topic: "orders", IdempotencyKey: "once"})
		refused(t, "other content with the same key", err, codes.AlreadyExists, "IDEMPOTENCY_KEY_REUSED")
		many := must[*pubsubv1.PublishManyResponse](t)(c.PublishMany(ctx, &pubsubv1.PublishManyRequest{Topic: "orders", Events: []*pubsubv1.PublishRequest{
			{Data: []byte("2"), OrderingKey: "k"}, {Topic: "\n", OrderingKey: "l"}, {Data: []byte("x"), OrderingKey: "m", IdempotencyKey: "once"}, {OrderingKey: "m"}}}))
		for i, want := range []string{"", "INVALID_ARGUMENT", "IDEMPOTENCY_KEY_REUSED", "EARLIER_EVENT_FAILED"} {
			if r := many.GetResults()[i]; r.GetError().GetReason() != want || (r.GetId() == "") != (want != "") {
				t.Errorf("event %d: %v, want %q", i, r, want)
			}
		}
		sub.say(&pubsubv1.SubscribeRequest{Message: &pubsubv1.SubscribeRequest_Nack{Nack: &commonv1.Nack{DeliveryId: d.GetDeliveryId(), Delay: durationpb.New(time.Millisecond)}}})
		sub.credit(3, 0)
		sub.ack(d.GetDeliveryId(), "nonsense") // stale
		d = sub.delivery("1\x00\xff", 2)
		sub.say(&pubsubv1.SubscribeRequest{Message: &pubsubv1.SubscribeRequest_Extend{Extend: &commonv1.Extend{DeliveryId: d.GetDeliveryId()}}})
		sub.say(&pubsubv1.SubscribeRequest{Message: &pubsubv1.SubscribeRequest_Reject{Reject: &commonv1.Reject{DeliveryId: d.GetDeliveryId(), Reason: "odd"}}})
		d = sub.delivery("2", 1)
		dead := subscribe(t, s, f, &pubsubv1.SubscribeRequest_Start{Topic: "dead-letters", From: pubsubv1.SubscribeRequest_FROM_EARLIEST, Credit: &commonv1.Credit{Messages: 1}})
		dead.started()
		if md := dead.delivery("1\x00\xff", 1).GetEvent().GetMetadata(); md["deadletterreason"] != "rejected" || md["deadlettertext"] != "odd" || md["deadlettertopic"] != "orders" {
			t.Error(md)
		}
		sub.ack(d.GetDeliveryId())
		if err := sub.CloseSend(); err != nil {
			t.Fatal(err)
		}
		if in, err := sub.Recv(); !errors.Is(err, io.EOF) {
			t.Error("after the end of what the application says:", in, err)
		}
		next := subscribe(t, s, f, &pubsubv1.SubscribeRequest_Start{Topic: "orders", Credit: &commonv1.Credit{Messages: 5, Bytes: 100}})
		next.started()
		must[*pubsubv1.PublishResponse](t)(c.Publish(ctx, &pubsubv1.PublishRequest{Topic: "orders", Data: []byte("3")}))
		next.delivery("3", 1) // and nothing that was settled
	})
}

func TestPubSubBadInput(t *testing.T) {
	each(t, func(t *testing.T, f front, s *sidecar, cc grpc.ClientConnInterface) {
		ctx, c := within(t), pubsubv1.NewPubSubClient(cc)
		for what, in := range map[string]*pubsubv1.PublishRequest{
			"no topic": {}, "control": {Topic: "a\x01"}, "long topic": {Topic: strings.Repeat("x", 256)},
			"long ordering key":                 {Topic: "t", OrderingKey: strings.Repeat("k", 1025)},
			"long idempotency key":              {Topic: "t", IdempotencyKey: strings.Repeat("k", 1025)},
			"metadata without a name":           {Topic: "t", Metadata: map[string]string{"": "v"}},
			"metadata named as an attribute":    {Topic: "t", Metadata: map[string]string{"Source": "v"}},
			"metadata with a control character": {Topic: "t", Metadata: map[string]string{"a\n": "v"}},
			"no time":                           {Topic: "t", Time: &timestamppb.Timestamp{Nanos: -1}},
		} {
			if in.GetTime() != nil && f.json {
				continue // JSON cannot say that
			}
			_, err := c.Publish(ctx, in)
			refused(t, what, err, codes.InvalidArgument, "INVALID_ARGUMENT")
		}
		_, err := c.Publish(ctx, &pubsubv1.PublishRequest{Component: "nope", Topic: "t"})
		refused(t, "no component", err, codes.NotFound, "COMPONENT_NOT_FOUND")
		_, err = c.Publish(ctx, &pubsubv1.PublishRequest{Topic: "t", Data: make([]byte, 4<<20-8<<10)})
		if code := status.Code(err); code != codes.ResourceExhausted {
			t.Error("a large event:", err)
		}
		_, err = c.PublishMany(ctx, &pubsubv1.PublishManyRequest{Topic: "t", Events: make([]*pubsubv1.PublishRequest, 1001)})
		refused(t, "too many", err, codes.InvalidArgument, "INVALID_ARGUMENT")
		_, err = c.PublishMany(ctx, &pubsubv1.PublishManyRequest{Topic: "t", Events: []*pubsubv1.PublishRequest{{Component: "other"}}})
		refused(t, "another component", err, codes.InvalidArgument, "INVALID_ARGUMENT")
		must[*pubsubv1.PublishResponse](t)(c.Publish(ctx, &pubsubv1.PublishRequest{Topic: "t", OrderingKey: strings.Repeat("k", 1024)}))

		for what, start := range map[string]*pubsubv1.SubscribeRequest_Start{
			"no topic": {}, "odd group": {Topic: "t", Group: "\x7f"}, "odd from": {Topic: "t", From: 7},
			"deadline of 0": {Topic: "t", AckDeadline: &durationpb.Duration{}}, "odd deadline": {Topic: "t", AckDeadline: &durationpb.Duration{Nanos: -1, Seconds: 1}},
			"odd replay": {Topic: "t", ReplayFrom: &timestamppb.Timestamp{Nanos: -1}}, "negative credit": {Topic: "t", Credit: &commonv1.Credit{Messages: -1}},
		} {
			_, err := subscribe(t, s, f, start).Recv()
			refused(t, what, err, codes.InvalidArgument, "INVALID_ARGUMENT")
		}
		for what, m := range map[string]*pubsubv1.SubscribeRequest{
			"a second start":  {Message: &pubsubv1.SubscribeRequest_Start_{Start: &pubsubv1.SubscribeRequest_Start{Topic: "t"}}},
			"negative credit": {Message: &pubsubv1.SubscribeRequest_Credit{Credit: &commonv1.Credit{Bytes: -1}}},
			"odd delay":       {Message: &pubsubv1.SubscribeRequest_Nack{Nack: &commonv1.Nack{DeliveryId: "x", Delay: &durationpb.Duration{Nanos: -1, Seconds: 1}}}},
		} {
			sub := subscribe(t, s, f, &pubsubv1.SubscribeRequest_Start{Topic: "t"})
			sub.started()
			sub.say(m)
			_, err := sub.Recv()
			refused(t, what, err, codes.InvalidArgument, "INVALID_ARGUMENT")
		}
		sub := subscribe(t, s, f, nil)
		_, err = sub.Recv()
		refused(t, "a start without content", err, codes.InvalidArgument, "INVALID_ARGUMENT")
	})
}

func TestPubSubDrains(t *testing.T) {
	draining, drain := context.WithCancel(context.Background())
	defer drain()
	s := start(t, func(o *server.Options) { o.Services.Draining = draining })
	f := fronts()[1]
	sub := subscribe(t, s, f, &pubsubv1.SubscribeRequest_Start{Topic: "t", Credit: &commonv1.Credit{Messages: 10}})
	sub.started()
	c := pubsubv1.NewPubSubClient(f.dial(t, s))
	must[*pubsubv1.PublishResponse](t)(c.Publish(within(t), &pubsubv1.PublishRequest{Topic: "t", Data: []byte("1")}))
	d := sub.delivery("1", 1)
	drain()
	if in := must[*pubsubv1.SubscribeResponse](t)(sub.Recv()); in.GetDraining() == nil {
		t.Fatal("not draining, but", in)
	}
	must[*pubsubv1.PublishResponse](t)(c.Publish(within(t), &pubsubv1.PublishRequest{Topic: "t", Data: []byte("2")}))
	sub.ack(d.GetDeliveryId())
	if err := sub.CloseSend(); err != nil {
		t.Fatal(err)
	}
	if in, err := sub.Recv(); !errors.Is(err, io.EOF) {
		t.Error("after draining:", in, err)
	}
}
