package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strconv"

	"google.golang.org/grpc"
	"google.golang.org/grpc/mem"
	"google.golang.org/protobuf/encoding/protowire"
)

// daprBus speaks the part of daprd's API that is measured, by the numbers of its fields: its Go package would bring half of
// Dapr into this module. Messages are put together by hand, which costs less than marshalling, to daprd's advantage.
type daprBus struct {
	conns []*grpc.ClientConn
	topic string
}

const (
	daprService   = "/dapr.proto.runtime.v1.Dapr/"
	daprComponent = "bus"
)

func (b *daprBus) publish(ctx context.Context, i int, events [][]byte) error {
	method, request := "BulkPublishEventAlpha1", daprName(b.topic)
	if len(events) == 1 {
		method = "PublishEvent"
		request = text(field(request, 3, events[0]), 4, "text/plain")
	} else {
		for n, data := range events {
			request = field(request, 3, text(field(text(nil, 1, strconv.Itoa(n)), 2, data), 3, "text/plain"))
		}
	}
	var answer frame
	err := b.conns[i%len(b.conns)].Invoke(ctx, daprService+method, raw(request), &answer, grpc.ForceCodecV2(frames{}))
	if err != nil {
		return err
	}
	defer answer.data.Free()
	if answer.data.Len() > 0 && len(events) > 1 { // a bulk publication tells only what failed
		return fmt.Errorf("some of %d events were not published", len(events))
	}
	return nil
}

func (b *daprBus) subscribe(ctx context.Context, got func([]byte), ended func(error)) error {
	s, err := b.conns[0].NewStream(ctx, &grpc.StreamDesc{ServerStreams: true, ClientStreams: true},
		daprService+"SubscribeTopicEventsAlpha1", grpc.ForceCodecV2(frames{}))
	if err != nil {
		return err
	}
	if err := s.SendMsg(raw(field(nil, 1, daprName(b.topic)))); err != nil {
		return err
	}
	if event, err := daprEvent(s); err != nil {
		return err
	} else if event != nil {
		return errors.New("an event came before the message that the subscription has begun")
	}
	go func() {
		for {
			event, err := daprEvent(s)
			if err != nil {
				ended(err)
				return
			}
			id, _ := pick(event, 1)
			data, _ := pick(event, 7)
			got(data)
			if err := s.SendMsg(raw(field(nil, 2, field(field(nil, 1, id), 2, nil)))); err != nil && !errors.Is(err, io.EOF) {
				ended(err)
				return
			}
		}
	}()
	return nil
}

// daprEvent receives a message and answers the event in it, if there is one.
func daprEvent(s grpc.ClientStream) ([]byte, error) {
	var f frame
	if err := s.RecvMsg(&f); err != nil {
		return nil, err
	}
	defer f.data.Free()
	return pick(f.data.Materialize(), 2)
}

func daprName(topic string) []byte { return text(text(nil, 1, daprComponent), 2, topic) }

func raw(message []byte) *frame { return &frame{mem.BufferSlice{mem.SliceBuffer(message)}} }

func field(message []byte, number protowire.Number, value []byte) []byte {
	return protowire.AppendBytes(protowire.AppendTag(message, number, protowire.BytesType), value)
}

func text(message []byte, number protowire.Number, value string) []byte {
	return protowire.AppendString(protowire.AppendTag(message, number, protowire.BytesType), value)
}

// pick answers the bytes of a message's field; nil if it has none.
func pick(message []byte, number protowire.Number) ([]byte, error) {
	for len(message) > 0 {
		n, kind, size := protowire.ConsumeTag(message)
		if size < 0 {
			return nil, protowire.ParseError(size)
		}
		message = message[size:]
		if size = protowire.ConsumeFieldValue(n, kind, message); size < 0 {
			return nil, protowire.ParseError(size)
		}
		if n == number && kind == protowire.BytesType {
			value, _ := protowire.ConsumeBytes(message)
			return value, nil
		}
		message = message[size:]
	}
	return nil, nil
}
