package pubsub

import (
	"context"
	"crypto/rand"
	"fmt"
	"strings"
	"time"

	"github.com/outrigger-mesh/outrigger/components"
)

// NewEvent is an event as applications publish one. What CloudEvents requires and is left out is made up: the id, the source
// (/NAMESPACE/APP), the type (outrigger.event) and the time (now).
type NewEvent struct {
	Topic string
	Event
	IdempotencyKey string // the same key, for the same topic, publishes nothing and gives the first answer; empty: none
}

// Publish publishes an event and answers its id.
func (p *PubSub) Publish(ctx context.Context, caller components.Caller, e NewEvent) (id string, err error) {
	one, err := p.publication(caller, e)
	if err != nil {
		return "", p.component.Named(err)
	}
	results, err := p.publish(ctx, "publish", []Publication{one})
	if err != nil {
		return "", err
	}
	return results[0].ID, p.component.Named(results[0].Err)
}

// PublishMany publishes up to MaxMany events, and answers a result for each. Those of one topic and ordering key keep their
// order: if one fails, those after it do.
func (p *PubSub) PublishMany(ctx context.Context, caller components.Caller, events []NewEvent) ([]Result, error) {
	if len(events) > MaxMany {
		return nil, p.component.Named(fmt.Errorf("%w: %d events are more than %d", components.ErrInvalid, len(events), MaxMany))
	}
	results := make([]Result, len(events))
	sound := make([]Publication, 0, len(events))
	places := make([]int, 0, len(events))
	failed := lanes{}
	for i, e := range events {
		one, err := p.publication(caller, e)
		if err == nil && failed.has(e.Topic, e.OrderingKey) {
			err = Skipped()
		}
		if err != nil {
			failed.add(e.Topic, e.OrderingKey)
			results[i].Err = p.component.Named(err)
			continue
		}
		sound, places = append(sound, one), append(places, i)
	}
	if len(sound) == 0 {
		return results, nil
	}
	answers, err := p.publish(ctx, "publish_many", sound)
	if err != nil {
		return nil, err
	}
	for i, r := range answers {
		r.Err = p.component.Named(r.Err)
		results[places[i]] = r
	}
	return results, nil
}

// lanes are ordering keys of topics.
type lanes map[[2]string]bool

func (l lanes) has(topic, key string) bool { return key != "" && l[[2]string{topic, key}] }
func (l lanes) add(topic, key string) {
	if key != "" {
		l[[2]string{topic, key}] = true
	}
}

func (p *PubSub) publish(ctx context.Context, op string, events []Publication) (results []Result, err error) {
	call, err := p.component.Begin(ctx, op)
	if err != nil {
		return nil, err
	}
	defer call.End(&err)
	for i := range events {
		if events[i].IdempotencyKey != "" && !offers(call.Driver, Idempotency) {
			return nil, p.unsupported(Idempotency)
		}
	}
	if results, err = call.Driver.Publish(ctx, events); err == nil && len(results) != len(events) {
		err = fmt.Errorf("the driver answers %d results for %d events", len(results), len(events))
	}
	return results, err
}

func offers(d Driver, f Feature) bool {
	r, ok := d.(Restricted)
	return !ok || r.Offers(f)
}

// Offers tells whether the component offers a feature. Where it has no driver now, using it says so.
func (p *PubSub) Offers(ctx context.Context, f Feature) bool {
	call, ok := p.component.Glance(ctx, "publish")
	if !ok {
		return true
	}
	defer call.EndGlance(false)
	return offers(call.Driver, f)
}

func (p *PubSub) unsupported(f Feature) error {
	return fmt.Errorf("%w: driver %s has no %s", components.ErrUnsupported, p.component.ID().Driver, f)
}

// publication completes an event that is sound.
func (p *PubSub) publication(caller components.Caller, e NewEvent) (Publication, error) {
	if err := checkName("the topic", e.Topic); err != nil {
		return Publication{}, err
	}
	if err := checkCaller(caller); err != nil {
		return Publication{}, err
	}
	if err := checkEvent(&e.Event, e.IdempotencyKey); err != nil {
		return Publication{}, err
	}
	out := Publication{Topic: Topic{caller.Namespace, e.Topic}, Event: e.Event}
	if e.IdempotencyKey != "" {
		out.IdempotencyKey, out.Fingerprint = caller.App+"/"+e.IdempotencyKey, fingerprint(&e.Event)
	}
	complete(&out.Event, caller)
	return out, nil
}

func complete(e *Event, caller components.Caller) {
	if e.ID == "" {
		e.ID = rand.Text()
	}
	if e.Source == "" {
		e.Source = "/" + caller.String()
	}
	if e.Type == "" {
		e.Type = "outrigger.event"
	}
	if e.Time.IsZero() {
		e.Time = time.Now()
	}
}

func checkCaller(c components.Caller) error {
	if c.Namespace == "" || c.App == "" || strings.Contains(c.Namespace, "/") || strings.Contains(c.App, "/") {
		return fmt.Errorf("%w: %q is no application's identity", components.ErrUnauthenticated, c)
	}
	return nil
}
