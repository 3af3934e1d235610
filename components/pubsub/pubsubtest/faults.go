package pubsubtest

import (
	"strings"
	"testing"
	"time"

	"github.com/outrigger-mesh/outrigger/components"
	"github.com/outrigger-mesh/outrigger/components/pubsub"
)

// faults is about bad input.
var faults = []test{
	{"CheckBeforeTheFirstTopic", func(t *testing.T, b *bench) {
		p := b.process(t, policy)
		if c, ok := p.driver.(components.Checker); ok { // each driver is one; broken ones, which wrap them, need not be
			if err := c.Check(t.Context()); err != nil {
				t.Errorf("a driver that nobody has used yet is not well: %v", err)
			}
		}
	}},
	{"BadEvents", func(t *testing.T, b *bench) {
		p := b.process(t, policy)
		for name, c := range map[string]struct {
			event pubsub.NewEvent
			want  error
		}{
			"no topic":              {pubsub.NewEvent{}, components.ErrInvalid},
			"long topic":            {pubsub.NewEvent{Topic: strings.Repeat("x", pubsub.MaxName+1)}, components.ErrInvalid},
			"control":               {pubsub.NewEvent{Topic: "a\nb"}, components.ErrInvalid},
			"not UTF-8":             {pubsub.NewEvent{Topic: "\xff"}, components.ErrInvalid},
			"long ordering key":     {pubsub.NewEvent{Topic: "t", Event: pubsub.Event{OrderingKey: strings.Repeat("x", pubsub.MaxOrderingKey+1)}}, components.ErrInvalid},
			"long idempotency key":  {pubsub.NewEvent{Topic: "t", IdempotencyKey: strings.Repeat("x", components.MaxKey+1)}, components.ErrInvalid},
			"large event":           {pubsub.NewEvent{Topic: "t", Event: pubsub.Event{Data: make([]byte, pubsub.MaxEvent)}}, components.ErrExhausted},
			"large event, metadata": {pubsub.NewEvent{Topic: "t", Event: pubsub.Event{Metadata: map[string]string{"x": strings.Repeat("x", pubsub.MaxEvent)}}}, components.ErrExhausted},
		} {
			_, err := p.Publish(t.Context(), b.caller, c.event)
			if outcome(t, err, c.want); t.Failed() {
				t.Fatal(name)
			}
		}
		_, err := p.PublishMany(t.Context(), b.caller, make([]pubsub.NewEvent, pubsub.MaxMany+1))
		outcome(t, err, components.ErrInvalid)
		_, err = p.Publish(t.Context(), components.Caller{}, pubsub.NewEvent{Topic: "t"})
		outcome(t, err, components.ErrUnauthenticated)
		p.join(earliest("t")).nothing()
	}},
	{"BadSubscriptions", func(t *testing.T, b *bench) {
		p := b.process(t, policy)
		for _, o := range []pubsub.SubscribeOptions{{}, {Topic: "a\x00"}, {Topic: "t", Group: "\n"}, {Topic: "t", Group: strings.Repeat("g", pubsub.MaxName+1)},
			{Topic: "t", AckDeadline: -1}, {Topic: "t", AckDeadline: 48 * time.Hour}} {
			_, err := p.Subscribe(t.Context(), b.caller, o)
			outcome(t, err, components.ErrInvalid)
		}
		s := p.join(pubsub.SubscribeOptions{Topic: "t"})
		outcome(t, s.Grant(-1, 0), components.ErrInvalid)
		outcome(t, s.Grant(1, -1), components.ErrInvalid)
		p.send("t", "", "fine")
		s.want("fine")
	}},
}
