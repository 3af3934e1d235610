package rabbitmq

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/fxamacker/cbor/v2"
	amqp "github.com/rabbitmq/amqp091-go"

	"github.com/outrigger-mesh/outrigger/components/internal/backend"
	"github.com/outrigger-mesh/outrigger/components/pubsub"
)

// confirmTime is how long a stream may take to confirm an event: it may be choosing its leader.
const confirmTime = 10 * time.Second

// What messages of a stream are.
const (
	eventType = "application/vnd.outrigger.event+cbor"
	markType  = "application/vnd.outrigger.mark" // by which a new group finds the end of a topic
)

// record is an event as it is kept.
type record struct {
	ID       string            `cbor:"1,keyasint"`
	Source   string            `cbor:"2,keyasint"`
	Type     string            `cbor:"3,keyasint"`
	Subject  string            `cbor:"4,keyasint,omitempty"`
	Time     int64             `cbor:"5,keyasint"` // nanoseconds since 1970
	Content  string            `cbor:"6,keyasint,omitempty"`
	Data     []byte            `cbor:"7,keyasint"`
	Key      string            `cbor:"8,keyasint,omitempty"`
	Metadata map[string]string `cbor:"9,keyasint,omitempty"`
}

func encode(e *pubsub.Event) ([]byte, error) {
	return cbor.Marshal(record{e.ID, e.Source, e.Type, e.Subject, e.Time.UnixNano(), e.ContentType, e.Data, e.OrderingKey, e.Metadata})
}

// decode reads a message; one that is none of ours is data.
func decode(m *amqp.Delivery) pubsub.Event {
	var r record
	if m.ContentType != eventType || cbor.Unmarshal(m.Body, &r) != nil {
		return pubsub.Event{ID: m.MessageId, Type: m.Type, ContentType: m.ContentType, Time: m.Timestamp, Data: m.Body}
	}
	return pubsub.Event{ID: r.ID, Source: r.Source, Type: r.Type, Subject: r.Subject, Time: time.Unix(0, r.Time).UTC(), ContentType: r.Content, Data: r.Data,
		OrderingKey: r.Key, Metadata: r.Metadata}
}

// publisher has a channel on which the server confirms what it has. Safe for concurrent use.
type publisher struct {
	d    *driver
	turn chan struct{} // holds an element while somebody sends, which guards the rest

	ch    *amqp.Channel
	known map[string]bool // streams that there are
}

// Publish implements pubsub.Driver.
func (d *driver) Publish(ctx context.Context, events []pubsub.Publication) ([]pubsub.Result, error) {
	results := make([]pubsub.Result, len(events))
	pending := make([]*amqp.DeferredConfirmation, len(events))
	ch, err := d.publish.send(ctx, events, pending)
	if err != nil {
		return nil, err
	}
	bounded, cancel := context.WithTimeout(ctx, confirmTime)
	defer cancel()
	for i, p := range pending {
		acked, err := p.WaitContext(bounded)
		if err == nil && !acked {
			err = errors.New("the server did not confirm it")
		}
		if err != nil {
			if bounded.Err() != nil {
				d.publish.renew(ctx, ch)
			}
			return nil, backend.Unknown(ctx, d.streams.where, err)
		}
		results[i].ID = events[i].Event.ID
	}
	return results, nil
}

func (p *publisher) send(ctx context.Context, events []pubsub.Publication, pending []*amqp.DeferredConfirmation) (*amqp.Channel, error) {
	select {
	case p.turn <- struct{}{}:
		defer func() { <-p.turn }()
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	for i := range events {
		stream := p.d.stream(events[i].Topic)
		if err := p.ready(ctx, stream); err != nil {
			return nil, err
		}
		body, err := encode(&events[i].Event)
		if err != nil {
			return nil, err
		}
		pending[i], err = p.ch.PublishWithDeferredConfirm("", stream, false, false, amqp.Publishing{ContentType: eventType, DeliveryMode: amqp.Persistent, Body: body})
		if err != nil && i == 0 {
			return nil, p.d.streams.said(ctx, err)
		}
		if err != nil {
			return nil, backend.Unknown(ctx, p.d.streams.where, err)
		}
	}
	return p.ch, nil
}

// renew has the next one send on another channel than one on which answers stay away: it may be told of the stream's new leader no more.
func (p *publisher) renew(ctx context.Context, ch *amqp.Channel) {
	select {
	case p.turn <- struct{}{}:
	case <-ctx.Done():
		return
	}
	if p.ch == ch {
		p.ch = nil
	}
	<-p.turn
	_ = within(ctx, ch.Close)
}

// ready has a channel, and makes the stream if it is not there. It is the caller's turn.
func (p *publisher) ready(ctx context.Context, stream string) error {
	if p.ch == nil || p.ch.IsClosed() {
		ch, err := p.d.streams.channel(ctx)
		if err != nil {
			return err
		}
		if err := within(ctx, func() error { return ch.Confirm(false) }); err != nil {
			return p.d.streams.said(ctx, err)
		}
		p.ch, p.known = ch, map[string]bool{}
	}
	if p.known[stream] {
		return nil
	}
	if err := p.d.declareStream(ctx, stream); err != nil {
		return err
	}
	p.known[stream] = true
	return nil
}

// declareStream makes a topic. One that is there with another retention stays as it is.
func (d *driver) declareStream(ctx context.Context, stream string) error {
	ch, err := d.streams.channel(ctx)
	if err != nil {
		return err
	}
	args := amqp.Table{"x-queue-type": "stream", "x-max-age": fmt.Sprintf("%ds", int64(d.opts.Retention.Seconds())), "x-stream-max-segment-size-bytes": int64(64 << 20)}
	err = within(ctx, func() error {
		_, err := ch.QueueDeclare(stream, true, false, false, false, args)
		return err
	})
	if code(err) == amqp.PreconditionFailed { // which ends the channel
		return nil
	}
	if err == nil {
		err = within(ctx, ch.Close)
	}
	return d.streams.said(ctx, err)
}

func (d *driver) stream(t pubsub.Topic) string {
	return "outrigger." + d.name + ".topic." + hashed(t.Namespace, t.Name)
}
