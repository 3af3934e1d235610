package client

import (
	"context"
	"errors"
	"time"

	"google.golang.org/protobuf/types/known/timestamppb"

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

// SubscribeOptions are what a subscription may be told. The zero value is a good one.
type SubscribeOptions struct {
	Group       string        // who shares the events; empty: the application, all its instances
	Earliest    bool          // a group that is new begins with the oldest event, else with what is published from now on
	ReplayFrom  time.Time     // moves the group, of all its subscribers, to the first event of this time or later
	Concurrency int           // events handled at once; 0: 16
	AckDeadline time.Duration // after which a frozen process loses what it has; 0: 30 s
}

// Reject is what a handler answers for an event that it will never be able to handle: it goes to the dead-letter topic, if the
// component has one.
func Reject(err error) error { return &rejection{err} }

type rejection struct{ err error }

func (r *rejection) Error() string {
	if r.err == nil {
		return "rejected"
	}
	return r.err.Error()
}
func (r *rejection) Unwrap() error { return r.err }

// Subscribe has the events of a topic handled until ctx ends; then it waits for the handlers under way and answers ctx's error.
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
	if o.Concurrency <= 0 {
		o.Concurrency = 16
	}
	if o.AckDeadline <= 0 {
		o.AckDeadline = 30 * time.Second
	}
	for pause := (backoff{}); ; {
		err := p.consume(ctx, topic, o, handle, func() { pause, o.ReplayFrom = backoff{}, time.Time{} })
		switch {
		case p.client.closed():
			return ErrClosed
		case ctx.Err() != nil:
			return ctx.Err()
		case errors.Is(err, errDrained):
			err = nil
		case !resumable(err):
			return err
		}
		d := pause.next()
		if after, ok := RetryAfter(err); ok {
			d = min(max(d, after), longestPause)
		}
		p.client.log.DebugContext(ctx, "subscription resumes", "capability", "pubsub", "op", "subscribe", "after", d, "err", err)
		sleep(ctx, p.client.done, d) // that it was cut short shows in the next round
	}
}

var errDrained = errors.New("the sidecar is ending")
