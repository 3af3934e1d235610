package main

import (
	"context"
	"fmt"
	"sync"

	"google.golang.org/grpc"

	commonv1 "github.com/outrigger-mesh/outrigger/proto/outrigger/common/v1"
	pubsubv1 "github.com/outrigger-mesh/outrigger/proto/outrigger/pubsub/v1"
)

// ownBus is the sidecar's API.
type ownBus struct {
	conns            []*grpc.ClientConn
	component, topic string
}

func (b *ownBus) publish(ctx context.Context, i int, events [][]byte) error {
	client := pubsubv1.NewPubSubClient(b.conns[i%len(b.conns)])
	if len(events) == 1 {
		_, err := client.Publish(ctx, &pubsubv1.PublishRequest{Component: b.component, Topic: b.topic, Data: events[0], ContentType: "text/plain"})
		return err
	}
	in := &pubsubv1.PublishManyRequest{Component: b.component, Topic: b.topic}
	for _, data := range events {
		in.Events = append(in.Events, &pubsubv1.PublishRequest{Data: data, ContentType: "text/plain"})
	}
	out, err := client.PublishMany(ctx, in)
	for _, r := range out.GetResults() {
		if e := r.GetError(); e != nil && err == nil {
			err = fmt.Errorf("%s: %s", e.GetReason(), e.GetMessage())
		}
	}
	return err
}

const firstCredit = 1000 // messages

func (b *ownBus) subscribe(ctx context.Context, got func([]byte), ended func(error)) error {
	s, err := pubsubv1.NewPubSubClient(b.conns[0]).Subscribe(ctx)
	if err != nil {
		return err
	}
	err = s.Send(&pubsubv1.SubscribeRequest{Message: &pubsubv1.SubscribeRequest_Start_{Start: &pubsubv1.SubscribeRequest_Start{
		Component: b.component, Topic: b.topic, Credit: &commonv1.Credit{Messages: firstCredit}}}})
	if err != nil {
		return err
	}
	if first, err := s.Recv(); err != nil {
		return err
	} else if first.GetStarted() == nil {
		return fmt.Errorf("not Started, but %v", first)
	}
	var a acks
	wake := make(chan struct{}, 1)
	go a.send(s, wake, ended)
	go func() {
		for {
			m, err := s.Recv()
			d := m.GetDelivery()
			if err == nil && (d == nil || d.GetAttempt() != 1) {
				err = fmt.Errorf("not a first delivery: %v", m)
			}
			if err != nil {
				close(wake)
				ended(err)
				return
			}
			got(d.GetEvent().GetData())
			a.add(d.GetDeliveryId())
			select {
			case wake <- struct{}{}:
			default: // it will find this one, too
			}
		}
	}()
	return nil
}

// acks are deliveries that are handled but not yet acknowledged.
type acks struct {
	mu  sync.Mutex
	ids []string
}

func (a *acks) add(id string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.ids = append(a.ids, id)
}

func (a *acks) take() []string {
	a.mu.Lock()
	defer a.mu.Unlock()
	ids := a.ids
	a.ids = nil
	return ids
}

// send acknowledges what has come together whenever it is woken, and grants as much credit again.
func (a *acks) send(s pubsubv1.PubSub_SubscribeClient, wake <-chan struct{}, ended func(error)) {
	for range wake {
		ids := a.take()
		if len(ids) == 0 {
			continue
		}
		for _, m := range []*pubsubv1.SubscribeRequest{
			{Message: &pubsubv1.SubscribeRequest_Ack{Ack: &commonv1.Ack{DeliveryIds: ids}}},
			{Message: &pubsubv1.SubscribeRequest_Credit{Credit: &commonv1.Credit{Messages: int64(len(ids))}}},
		} {
			if err := s.Send(m); err != nil {
				ended(err)
				return
			}
		}
	}
}
