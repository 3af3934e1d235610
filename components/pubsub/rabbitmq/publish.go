package rabbitmq

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
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

	line  *line
	sent  uint64            // events so far
	known map[string]uint64 // streams that were found, and how many had been sent by then

	aside sync.WaitGroup // channels that are to be closed
}

// line is a channel for publications. It is closed when nobody waits for an answer on it any more.
type line struct {
	ch      *amqp.Channel
	back    *returns
	left    atomic.Bool // nothing more is sent on it
	waiting sync.WaitGroup
}

// sending is an event on its way.
type sending struct {
	event  *pubsub.Event
	stream string
	number uint64 // its last try, among all that were sent; 0: there was none
	line   *line  // on which the answer is waited for
	answer *amqp.DeferredConfirmation
}

// Publish implements pubsub.Driver. What comes back, since somebody has deleted the topic, is published once more, to one that is made anew.
func (d *driver) Publish(ctx context.Context, events []pubsub.Publication) ([]pubsub.Result, error) {
	results, all := make([]pubsub.Result, len(events)), make([]*sending, len(events))
	for i := range events {
		results[i].ID = events[i].Event.ID
		all[i] = &sending{event: &events[i].Event, stream: d.stream(events[i].Topic)}
	}
	bounded, cancel := context.WithTimeout(ctx, d.confirm)
	defer cancel()
	left, err := d.publish.try(bounded, all)
	if err == nil && len(left) > 0 {
		taken := len(left) < len(all)
		if left, err = d.publish.try(bounded, left); err == nil && len(left) > 0 {
			err = d.streams.said(ctx, errors.New("the topic is deleted again and again"))
		}
		if taken && err != nil {
			err = errUnknown{err}
		}
	}
	switch unknown := (errUnknown{}); {
	case err == nil:
		return results, nil
	case errors.As(err, &unknown):
		return nil, backend.Unknown(ctx, d.streams.where, unknown.error)
	case errors.Is(err, context.DeadlineExceeded): // which may be the driver's
		return nil, d.streams.said(ctx, err)
	}
	return nil, err
}

// errUnknown is of events that may have been published, or some of them.
type errUnknown struct{ error }

// try has the server confirm events, and answers which came back instead.
func (p *publisher) try(ctx context.Context, all []*sending) (left []*sending, err error) {
	defer func() {
		for _, s := range all {
			if s.line != nil {
				s.line.waiting.Done()
				s.line = nil
			}
		}
	}()
	if err := p.send(ctx, all); err != nil {
		return nil, err
	}
	for _, s := range all {
		acked, err := s.answer.WaitContext(ctx)
		if err == nil && !acked {
			err = errors.New("the server did not confirm it")
		}
		if err != nil && ctx.Err() != nil {
			p.leave(s.line)
		}
		if err != nil {
			return nil, errUnknown{err}
		}
		if s.line.back.has(s.number) {
			left = append(left, s)
		} else if slices.ContainsFunc(left, func(before *sending) bool { return before.stream == s.stream }) {
			return nil, errUnknown{errors.New("the topic was deleted and made anew in between")} // the order would be another one
		}
	}
	return left, nil
}

func (p *publisher) send(ctx context.Context, all []*sending) error {
	select {
	case p.turn <- struct{}{}:
		defer func() { <-p.turn }()
	case <-ctx.Done():
		return ctx.Err()
	}
	for i, s := range all {
		err := p.ready(ctx, s)
		if err == nil {
			err = p.put(s)
		}
		if err != nil && i > 0 {
			return errUnknown{err}
		}
		if err != nil {
			return err
		}
	}
	return nil
}

func (p *publisher) put(s *sending) error {
	body, err := encode(s.event)
	if err != nil {
		return err
	}
	p.sent++
	s.number = p.sent
	s.answer, err = p.line.ch.PublishWithDeferredConfirm("", s.stream, true, false, amqp.Publishing{ContentType: eventType, CorrelationId: numbered(s.number),
		DeliveryMode: amqp.Persistent, Body: body})
	if err != nil {
		return p.d.streams.said(context.Background(), err)
	}
	s.line = p.line
	s.line.waiting.Add(1)
	return nil
}

// leave has the next one send on another channel than one on which answers stay away: it may be told of the stream's new leader no more.
func (p *publisher) leave(l *line) {
	if l.left.Swap(true) {
		return
	}
	p.aside.Go(func() {
		p.turn <- struct{}{} // whoever has begun to send on it
		<-p.turn
		l.waiting.Wait()
		_ = l.ch.Close()
	})
}

// ready has a channel, and makes the stream that is new, or that is gone: it was found before an event was sent that came back. Where a node is lost
// a stream that is there may take long to be found, so it is not looked for again otherwise. It is the caller's turn.
func (p *publisher) ready(ctx context.Context, s *sending) error {
	if p.line == nil || p.line.left.Load() || p.line.ch.IsClosed() {
		ch, err := p.d.streams.prepared(ctx, func(ch *amqp.Channel) error { return ch.Confirm(false) })
		if err != nil {
			return err
		}
		p.line = &line{ch: ch, back: newReturns(ch)}
	}
	if at, there := p.known[s.stream]; there && at >= s.number {
		return nil
	}
	if err := p.d.declareStream(ctx, s.stream); err != nil {
		return err
	}
	p.known[s.stream] = p.sent
	return nil
}

// declareStream makes a topic. One that is there with another retention stays as it is.
func (d *driver) declareStream(ctx context.Context, stream string) error {
	args := amqp.Table{"x-queue-type": "stream", "x-max-age": fmt.Sprintf("%ds", int64(d.opts.Retention.Seconds())), "x-stream-max-segment-size-bytes": int64(64 << 20)}
	err := d.streams.do(ctx, func(ch *amqp.Channel) error {
		_, err := ch.QueueDeclare(stream, true, false, false, false, args)
		return err
	})
	if code(err) == amqp.PreconditionFailed {
		return nil
	}
	return d.streams.said(ctx, err)
}

func (d *driver) stream(t pubsub.Topic) string {
	return "outrigger." + d.name + ".topic." + hashed(t.Namespace, t.Name)
}
