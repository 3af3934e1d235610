package pubsubtest

import (
	"bytes"
	"maps"
	"strings"
	"testing"
	"time"

	"github.com/outrigger-mesh/outrigger/components"
	"github.com/outrigger-mesh/outrigger/components/pubsub"
)

// events is about what is published.
var events = []test{
	{"Content", func(t *testing.T, b *bench) {
		p := b.process(t, policy)
		for _, e := range []pubsub.Event{
			{ID: "1", Source: "/a", Type: "t", Subject: "s", Time: time.Date(1961, 4, 12, 6, 7, 0, 123456789, time.UTC), ContentType: "text/plain",
				Data: []byte("\x00\xff\r\nä"), OrderingKey: "k", Metadata: map[string]string{"a": "1", "traceparent": "00-x", "empty": ""}},
			{ID: "2", Source: "/a", Type: "t", Time: time.Date(2030, 1, 2, 3, 4, 5, 6, time.UTC), OrderingKey: strings.Repeat("k", pubsub.MaxOrderingKey)},
			{ID: "3", Source: "/a", Type: "t", Time: time.Unix(0, 0).UTC(), Data: bytes.Repeat([]byte("0123456789abcdef"), 64<<10)},
		} {
			p.publish(pubsub.NewEvent{Topic: "t", Event: e})
			s := p.join(earliest("t"))
			d := s.get()
			got := *d.Event
			if got.ID != e.ID || got.Source != e.Source || got.Type != e.Type || got.Subject != e.Subject || !got.Time.Equal(e.Time) ||
				got.ContentType != e.ContentType || got.OrderingKey != e.OrderingKey || !bytes.Equal(got.Data, e.Data) || !maps.Equal(got.Metadata, e.Metadata) {
				t.Errorf("delivered was %+.300v\nwant %+.300v", got, e)
			}
			if d.Attempt != 1 {
				t.Errorf("attempt %d, want 1", d.Attempt)
			}
			s.ack(d)
			s.close()
		}
	}},
	{"LargestEvent", func(t *testing.T, b *bench) {
		p := b.process(t, policy)
		data := bytes.Repeat([]byte("x"), pubsub.MaxEvent-4<<10)
		p.publish(pubsub.NewEvent{Topic: "t", Event: pubsub.Event{Data: data}})
		s := p.join(earliest("t"))
		if d := s.get(); !bytes.Equal(d.Event.Data, data) {
			t.Errorf("%d bytes were delivered, want %d", len(d.Event.Data), len(data))
		}
	}},
	{"Topics", func(t *testing.T, b *bench) {
		p := b.process(t, policy)
		odd := []string{"t", "T", "t/", "/t", "a.b", "a:b", "a b", " ", "*", "#", ">", "ü", "日本", "..", "%2f", "t_", "t-", strings.Repeat("x", pubsub.MaxName), strings.Repeat("x", pubsub.MaxName-1)}
		for _, topic := range odd {
			p.send(topic, "", topic)
		}
		for _, topic := range odd {
			s := p.join(earliest(topic))
			s.want(topic)
			s.nothing()
			s.close()
		}
	}},
	{"Namespaces", func(t *testing.T, b *bench) {
		p := b.process(t, policy)
		other := &bench{open: b.open, caller: components.Caller{Namespace: b.caller.Namespace + "-other", App: "app"}}
		q := other.process(t, policy)
		p.send("t", "", "p")
		q.send("t", "", "q")
		p.join(earliest("t")).want("p")
		q.join(earliest("t")).want("q")
	}},
	{"Many", func(t *testing.T, b *bench) {
		p := b.process(t, policy)
		s, other := p.join(pubsub.SubscribeOptions{Topic: "t"}), p.join(pubsub.SubscribeOptions{Topic: "other"})
		var all []pubsub.NewEvent
		for _, text := range numbers("", 100) {
			all = append(all, pubsub.NewEvent{Topic: "t", Event: pubsub.Event{ID: text, Data: []byte(text), OrderingKey: "k"}})
		}
		all = append(all, pubsub.NewEvent{Topic: "other", Event: pubsub.Event{ID: "other", Data: []byte("other")}})
		results, err := p.PublishMany(t.Context(), b.caller, all)
		if err != nil {
			t.Fatal(err)
		}
		for i, r := range results {
			if r.Err != nil || r.ID != all[i].ID {
				t.Fatalf("event %d: %q, %v", i, r.ID, r.Err)
			}
		}
		s.want(numbers("", 100)...)
		other.want("other")
	}},
	{"Idempotency", func(t *testing.T, b *bench) {
		p := b.process(t, policy)
		once := pubsub.NewEvent{Topic: "t", Event: pubsub.Event{Data: []byte("once")}, IdempotencyKey: "k"}
		if !p.offers(pubsub.Idempotency) {
			_, err := p.Publish(t.Context(), b.caller, once)
			outcome(t, err, components.ErrUnsupported)
			return
		}
		id := p.publish(once)
		again := func() {
			t.Helper()
			if got := p.publish(once); got != id {
				t.Fatalf("the same key answers %q, and answered %q", got, id)
			}
			changed := once
			changed.Data = []byte("other")
			_, err := p.Publish(t.Context(), b.caller, changed)
			outcome(t, err, components.ErrExists)
		}
		again()
		p.stop()
		p = b.process(t, policy)
		again()
		elsewhere := once
		elsewhere.Topic = "other"
		if p.publish(elsewhere) == id {
			t.Error("another topic answers the same id")
		}
		s := p.join(earliest("t"))
		s.want("once")
		s.nothing()
	}},
	{"ManyFails", func(t *testing.T, b *bench) {
		p := b.process(t, policy)
		if !p.offers(pubsub.Idempotency) {
			t.Log("no publication of this driver fails by itself")
			return
		}
		event := func(text, key, idempotency string) pubsub.NewEvent {
			return pubsub.NewEvent{Topic: "t", Event: pubsub.Event{Data: []byte(text), OrderingKey: key}, IdempotencyKey: idempotency}
		}
		p.publish(event("before", "", "used"))
		results, err := p.PublishMany(t.Context(), b.caller, []pubsub.NewEvent{
			event("a", "k", ""), event("b", "k", "used"), event("c", "k", ""), event("d", "l", ""), event("e", "", ""), event("f", "k", "")})
		if err != nil {
			t.Fatal(err)
		}
		for i, want := range []error{nil, components.ErrExists, components.ErrPrecondition, nil, nil, components.ErrPrecondition} {
			outcome(t, results[i].Err, want)
		}
		s := p.join(earliest("t"))
		s.ack(s.wantAll("before", "a", "d", "e")...)
		s.nothing()
	}},
}
