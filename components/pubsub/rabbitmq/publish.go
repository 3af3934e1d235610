package rabbitmq

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"sync"
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
	back  *returns
	sent  uint64
	known map[string]bool // streams that there are
}

// sending is an event that the server is to confirm.
type sending struct {
	id     string // of the message, on its channel
	stream string
	answer *amqp.DeferredConfirmation
}

// Publish implements pubsub.Driver. What came back, since somebody has deleted the topic, is published once more.
func (d *driver) Publish(ctx context.Context, events []pubsub.Publication) ([]pubsub.Result, error) {
	results, left := make([]pubsub.Result, len(events)), make([]int, len(events))
	for i := range events {
		left[i], results[i].ID = i, events[i].Event.ID
	}
	for range 2 {
		var err error
		if left, err = d.publish.publish(ctx, events, left); err != nil {
			return nil, err
		}
		if len(left) == 0 {
			return results, nil
		}
	}
	return nil, backend.Unknown(ctx, d.streams.where, errors.New("the topic is deleted again and again"))
}

// publish has the server confirm those events, and answers which came back instead.
func (p *publisher) publish(ctx context.Context, events []pubsub.Publication, which []int) (left []int, err error) {
	all, ch, back, err := p.send(ctx, events, which)
	if err != nil {
		return nil, err
	}
	bounded, cancel := context.WithTimeout(ctx, confirmTime)
	defer cancel()
	for i, s := range all {
		acked, err := s.answer.WaitContext(bounded)
		if err == nil && !acked {
			err = errors.New("the server did not confirm it")
		}
		if err != nil {
			if bounded.Err() != nil {
				p.renew(ctx, ch)
			}
			return nil, backend.Unknown(ctx, p.d.streams.where, err)
		}
		if back.has(s.id) {
			left = append(left, which[i])
			p.forget(ctx, ch, s.stream)
		}
	}
	return left, nil
}

func (p *publisher) send(ctx context.Context, events []pubsub.Publication, which []int) (all []sending, ch *amqp.Channel, back *returns, err error) {
	select {
	case p.turn <- struct{}{}:
		defer func() { <-p.turn }()
	case <-ctx.Done():
		return nil, nil, nil, ctx.Err()
	}
	for n, i := range which {
		stream := p.d.stream(events[i].Topic)
		if err := p.ready(ctx, stream); err != nil {
			return nil, nil, nil, err
		}
		body, err := encode(&events[i].Event)
		if err != nil {
			return nil, nil, nil, err
		}
		p.sent++
		s := sending{id: strconv.FormatUint(p.sent, 36), stream: stream}
		s.answer, err = p.ch.PublishWithDeferredConfirm("", stream, true, false, amqp.Publishing{ContentType: eventType, MessageId: s.id, DeliveryMode: amqp.Persistent, Body: body})
		if err != nil && n == 0 {
			return nil, nil, nil, p.d.streams.said(ctx, err)
		}
		if err != nil {
			return nil, nil, nil, backend.Unknown(ctx, p.d.streams.where, err)
		}
		all = append(all, s)
	}
	return all, p.ch, p.back, nil
}

// forget has a stream made anew, if need be, before the next event.
func (p *publisher) forget(ctx context.Context, ch *amqp.Channel, stream string) {
	select {
	case p.turn <- struct{}{}:
	case <-ctx.Done():
		return
	}
	if p.ch == ch {
		delete(p.known, stream)
	}
	<-p.turn
}

// returns are the messages that came back on a channel, since nothing takes them: the server confirms them nevertheless, right after.
type returns struct {
	came  chan amqp.Return // without a buffer: what the server says next is heard when this was
	turns chan struct{}    // given while nothing that came waits to be noted
	ended chan struct{}
	ids   sync.Map
}

func newReturns(ch *amqp.Channel) *returns {
	r := &returns{came: ch.NotifyReturn(make(chan amqp.Return)), turns: make(chan struct{}), ended: make(chan struct{})}
	go r.run()
	return r
}

// run ends with the channel.
func (r *returns) run() {
	defer close(r.ended)
	for {
		select {
		case m, ok := <-r.came:
			if !ok {
				return
			}
			r.ids.Store(m.MessageId, true)
		case r.turns <- struct{}{}:
		}
	}
}

// has tells whether a message came back that was confirmed.
func (r *returns) has(id string) bool {
	select {
	case <-r.turns:
	case <-r.ended:
	}
	_, back := r.ids.LoadAndDelete(id)
	return back
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
		p.ch, p.back, p.known = ch, newReturns(ch), map[string]bool{}
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
	if there, err := d.exists(ctx, stream); there || err != nil {
		return err
	}
	d.making.Lock() // as in makeGroup
	defer d.making.Unlock()
	lock, err := d.lock(ctx, stream+".lock")
	if err != nil {
		return err
	}
	defer lock.Close()
	if there, err := d.exists(ctx, stream); there || err != nil {
		return err
	}
	ch, err := d.link.channel(ctx)
	if err != nil {
		return err
	}
	defer ch.Close()
	return d.link.said(ctx, within(ctx, func() error {
		if err := bear(ch, stream); err != nil {
			return err
		}
		args := amqp.Table{"x-queue-type": "stream", "x-max-age": fmt.Sprintf("%ds", int64(d.opts.Retention.Seconds())), "x-stream-max-segment-size-bytes": int64(64 << 20)}
		_, err := ch.QueueDeclare(stream, true, false, false, false, args)
		return err
	}))
}

func (d *driver) stream(t pubsub.Topic) string {
	return "outrigger." + d.name + ".topic." + hashed(t.Namespace, t.Name)
}
