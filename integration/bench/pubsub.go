package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	commonv1 "github.com/outrigger-mesh/outrigger/proto/outrigger/common/v1"
	pubsubv1 "github.com/outrigger-mesh/outrigger/proto/outrigger/pubsub/v1"
)

const pubsubConfig = `cache: {default: {driver: memory}}
registry: {default: {driver: file}}
pubsub:
  default: {driver: local}
  os: {driver: local, options: {durability: os}}
`

// events measures publications, and how many events a second get from publishers to one stream, which acknowledges each.
func events(o options) ([]row, error) {
	file := filepath.Join(o.dir, "pubsub.yaml")
	if err := os.WriteFile(file, []byte(pubsubConfig), 0o600); err != nil {
		return nil, err
	}
	s, err := startSidecar(o, "bench-pubsub", 0, "-config", file)
	if err != nil {
		return nil, err
	}
	defer s.end()
	rows, err := compare(o, []kind{
		{name: "publish-os", target: s.grpc, call: "publish-os", pids: []int{s.pid()}},
		{name: "publish", target: s.grpc, call: "publish-default", pids: []int{s.pid()}},
	})
	if err != nil {
		return nil, err
	}
	conn, err := grpc.NewClient(s.grpc, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		return nil, err
	}
	defer conn.Close()
	for _, way := range []delivery{{"os", 64, 1}, {"default", 64, 1}, {"os", 4, 100}, {"default", 4, 100}} {
		var rates []float64
		for range o.rounds {
			rate, err := way.rate(pubsubv1.NewPubSubClient(conn), o.length)
			if err != nil {
				return nil, fmt.Errorf("%s: %w", way.name(), err)
			}
			rates = append(rates, rate)
		}
		rows = append(rows, row{Name: way.name(), Value: median(rates), Unit: "events/s"})
	}
	return rows, nil
}

// delivery is a way to publish: to a component, by so many at once, so many events in a call.
type delivery struct {
	component         string
	publishers, batch int
}

func (d delivery) name() string {
	kind, safe := "unary", "disk"
	if d.batch > 1 {
		kind = "many"
	}
	if d.component == "os" {
		safe = "os"
	}
	return "publish-to-delivery-" + kind + "-" + safe
}

// rate is how many events a second are delivered and acknowledged while as many are published as can be.
func (d delivery) rate(c pubsubv1.PubSubClient, length time.Duration) (float64, error) {
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	topic := fmt.Sprint("bench-", time.Now().UnixNano())
	const credit = 4096
	stream, err := c.Subscribe(ctx)
	if err != nil {
		return 0, err
	}
	start := &pubsubv1.SubscribeRequest_Start{Component: d.component, Topic: topic, Credit: &commonv1.Credit{Messages: credit}}
	if err := stream.Send(&pubsubv1.SubscribeRequest{Message: &pubsubv1.SubscribeRequest_Start_{Start: start}}); err != nil {
		return 0, err
	}
	if _, err := stream.Recv(); err != nil {
		return 0, err
	}
	end := time.Now().Add(length)
	var publishing sync.WaitGroup
	failed := make(chan error, d.publishers)
	for range d.publishers {
		publishing.Go(func() {
			for time.Now().Before(end) {
				if err := d.publish(ctx, c, topic); err != nil {
					failed <- err
					cancel()
					return
				}
			}
		})
	}
	n, err := acknowledge(stream, end)
	cancel()
	publishing.Wait()
	select {
	case e := <-failed:
		if !errors.Is(ctx.Err(), context.Canceled) || err != nil {
			return 0, errors.Join(e, err)
		}
	default:
	}
	return float64(n) / length.Seconds(), err
}

func (d delivery) publish(ctx context.Context, c pubsubv1.PubSubClient, topic string) error {
	value := make([]byte, payload)
	if d.batch == 1 {
		_, err := c.Publish(ctx, &pubsubv1.PublishRequest{Component: d.component, Topic: topic, Data: value})
		return err
	}
	in := &pubsubv1.PublishManyRequest{Component: d.component, Topic: topic}
	for range d.batch {
		in.Events = append(in.Events, &pubsubv1.PublishRequest{Data: value})
	}
	_, err := c.PublishMany(ctx, in)
	return err
}

// acknowledge counts deliveries until a time, and settles them 64 at once.
func acknowledge(stream pubsubv1.PubSub_SubscribeClient, end time.Time) (n int, err error) {
	var ids []string
	for time.Now().Before(end) {
		in, err := stream.Recv()
		if err != nil {
			return n, err
		}
		n++
		if ids = append(ids, in.GetDelivery().GetDeliveryId()); len(ids) < 64 {
			continue
		}
		for _, m := range []*pubsubv1.SubscribeRequest{
			{Message: &pubsubv1.SubscribeRequest_Ack{Ack: &commonv1.Ack{DeliveryIds: ids}}},
			{Message: &pubsubv1.SubscribeRequest_Credit{Credit: &commonv1.Credit{Messages: int64(len(ids))}}},
		} {
			if err := stream.Send(m); err != nil {
				return n, err
			}
		}
		ids = nil
	}
	return n, nil
}

// publisher makes the calls whose names begin with "publish-"; what follows is the component.
func publisher(conn *grpc.ClientConn, component string, value []byte) func() error {
	c := pubsubv1.NewPubSubClient(conn)
	return func() error {
		_, err := c.Publish(context.Background(), &pubsubv1.PublishRequest{Component: component, Topic: "bench", Data: value})
		return err
	}
}
