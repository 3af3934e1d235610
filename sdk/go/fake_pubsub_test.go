package client_test

import (
	"context"
	"strconv"
	"sync"
	"time"

	"google.golang.org/grpc/codes"

	commonv1 "github.com/outrigger-mesh/outrigger/proto/outrigger/common/v1"
	pubsubv1 "github.com/outrigger-mesh/outrigger/proto/outrigger/pubsub/v1"
)

// events are topics of one group each. They outlive a sidecar.
type events struct {
	pubsubv1.UnimplementedPubSubServer
	mu       sync.Mutex
	waiting  map[string][]*pending
	keys     map[string]string // idempotency keys to ids
	serial   int
	nacks    []time.Duration
	rejected []string
	extended map[string]int
	starts   []*pubsubv1.SubscribeRequest_Start
	changed  chan struct{} // closed at each change
	draining chan struct{} // closed by the test
}

type pending struct {
	topic   string
	event   *pubsubv1.Event
	attempt int32
}

func newEvents() *events {
	return &events{waiting: map[string][]*pending{}, keys: map[string]string{}, extended: map[string]int{}, changed: make(chan struct{}), draining: make(chan struct{})}
}

// edit makes a change.
func (e *events) edit(change func()) {
	e.mu.Lock()
	defer e.mu.Unlock()
	change()
	close(e.changed)
	e.changed = make(chan struct{})
}

func (e *events) Publish(_ context.Context, in *pubsubv1.PublishRequest) (out *pubsubv1.PublishResponse, err error) {
	e.edit(func() {
		if in.GetTopic() == "" {
			err = problem(codes.InvalidArgument, "INVALID_ARGUMENT", "the topic is empty")
			return
		}
		if id, used := e.keys[in.GetIdempotencyKey()]; used {
			out = &pubsubv1.PublishResponse{Id: id}
			return
		}
		e.serial++
		out = &pubsubv1.PublishResponse{Id: strconv.Itoa(e.serial)}
		if in.GetIdempotencyKey() != "" {
			e.keys[in.GetIdempotencyKey()] = out.Id
		}
		e.waiting[in.GetTopic()] = append(e.waiting[in.GetTopic()], &pending{topic: in.GetTopic(), event: &pubsubv1.Event{Id: out.Id, Source: "/shop/orders",
			Type: "outrigger.event", Subject: in.GetSubject(), Time: in.GetTime(), ContentType: in.GetContentType(), Data: in.GetData(), OrderingKey: in.GetOrderingKey(), Metadata: in.GetMetadata()}})
	})
	return out, err
}

func (e *events) PublishMany(ctx context.Context, in *pubsubv1.PublishManyRequest) (*pubsubv1.PublishManyResponse, error) {
	out := &pubsubv1.PublishManyResponse{}
	for _, one := range in.GetEvents() {
		if one.GetTopic() == "" {
			one.Topic = in.GetTopic()
		}
		if one.GetOrderingKey() == "bad" {
			out.Results = append(out.Results, &pubsubv1.PublishManyResponse_Result{Error: &commonv1.Failure{Code: int32(codes.FailedPrecondition), Reason: "EARLIER_EVENT_FAILED"}})
			continue
		}
		r, err := e.Publish(ctx, one)
		if err != nil {
			return nil, err
		}
		out.Results = append(out.Results, &pubsubv1.PublishManyResponse_Result{Id: r.GetId()})
	}
	return out, nil
}

func (e *events) Subscribe(stream pubsubv1.PubSub_SubscribeServer) error {
	in, err := stream.Recv()
	if err != nil {
		return err
	}
	start := in.GetStart()
	if start.GetTopic() == "" {
		return problem(codes.InvalidArgument, "INVALID_ARGUMENT", "the topic is empty")
	}
	e.edit(func() { e.starts = append(e.starts, start) })
	if err := stream.Send(&pubsubv1.SubscribeResponse{Message: &pubsubv1.SubscribeResponse_Started_{Started: &pubsubv1.SubscribeResponse_Started{Group: "shop/orders"}}}); err != nil {
		return err
	}
	s := &fakeSubscription{e: e, topic: start.GetTopic(), credit: start.GetCredit().GetMessages(), flying: map[string]*pending{}}
	ended := make(chan struct{})
	go func() { defer close(ended); s.hear(stream) }()
	defer e.edit(func() {
		for _, p := range s.flying {
			e.waiting[p.topic] = append([]*pending{p}, e.waiting[p.topic]...)
		}
		s.flying = nil
	})
	draining := e.draining
	for {
		e.mu.Lock()
		changed := e.changed
		e.mu.Unlock()
		for d := s.next(); d != nil; d = s.next() {
			if err := stream.Send(&pubsubv1.SubscribeResponse{Message: &pubsubv1.SubscribeResponse_Delivery_{Delivery: d}}); err != nil {
				return err
			}
		}
		select {
		case <-changed:
		case <-ended:
			return nil
		case <-stream.Context().Done():
			return stream.Context().Err()
		case <-draining:
			draining = nil
			s.stop()
			if err := stream.Send(&pubsubv1.SubscribeResponse{Message: &pubsubv1.SubscribeResponse_Draining{Draining: &commonv1.Draining{}}}); err != nil {
				return err
			}
		}
	}
}

type fakeSubscription struct {
	e       *events
	topic   string
	credit  int64
	stopped bool
	flying  map[string]*pending
}

func (s *fakeSubscription) stop() {
	s.e.mu.Lock()
	defer s.e.mu.Unlock()
	s.stopped = true
}

func (s *fakeSubscription) next() *pubsubv1.SubscribeResponse_Delivery {
	s.e.mu.Lock()
	defer s.e.mu.Unlock()
	if s.credit == 0 || s.stopped || len(s.e.waiting[s.topic]) == 0 {
		return nil
	}
	s.credit--
	p := s.e.waiting[s.topic][0]
	s.e.waiting[s.topic] = s.e.waiting[s.topic][1:]
	p.attempt++
	s.e.serial++
	id := strconv.Itoa(s.e.serial)
	s.flying[id] = p
	return &pubsubv1.SubscribeResponse_Delivery{DeliveryId: id, Attempt: p.attempt, Topic: p.topic, Event: p.event}
}

func (s *fakeSubscription) hear(stream pubsubv1.PubSub_SubscribeServer) {
	for {
		in, err := stream.Recv()
		if err != nil {
			return
		}
		s.e.edit(func() {
			s.credit += in.GetCredit().GetMessages()
			if c := in.GetCredit(); c != nil && c.GetMessages() == 0 {
				s.credit = 0
			}
			for _, id := range in.GetAck().GetDeliveryIds() {
				delete(s.flying, id)
			}
			if n := in.GetNack(); n != nil && s.flying[n.GetDeliveryId()] != nil {
				s.e.nacks = append(s.e.nacks, n.GetDelay().AsDuration())
				s.e.waiting[s.topic] = append(s.e.waiting[s.topic], s.flying[n.GetDeliveryId()])
				delete(s.flying, n.GetDeliveryId())
			}
			if r := in.GetReject(); r != nil {
				s.e.rejected = append(s.e.rejected, r.GetReason())
				delete(s.flying, r.GetDeliveryId())
			}
			if x := in.GetExtend(); x != nil {
				s.e.extended[x.GetDeliveryId()]++
			}
		})
	}
}
