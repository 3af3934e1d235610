package pubsubtest

import (
	"strings"
	"testing"
	"time"

	"github.com/outrigger-mesh/outrigger/components/pubsub"
)

// credits is about how much is delivered.
var credits = []test{
	{"Messages", func(t *testing.T, b *bench) {
		p := b.process(t, policy)
		s := p.joinWith(pubsub.SubscribeOptions{Topic: "t"}, 0, 0)
		p.send("t", "", numbers("", 10)...)
		s.nothing()
		s.check(s.Grant(3, 0))
		s.want("0", "1", "2")
		s.nothing()
		s.check(s.Grant(1, 0))
		s.check(s.Grant(1, 0))
		s.want("3", "4")
		s.nothing()
		s.check(s.Grant(0, 100))
		s.nothing()
		s.check(s.Grant(10, 0))
		s.want(numbers("", 10)[5:]...)
	}},
	{"Bytes", func(t *testing.T, b *bench) {
		p := b.process(t, policy)
		s := p.joinWith(pubsub.SubscribeOptions{Topic: "t"}, 100, 25)
		ten := func(c string) string { return strings.Repeat(c, 10) }
		p.send("t", "k", ten("a"), ten("b"), ten("c"), ten("d"))
		s.want(ten("a"), ten("b"))
		s.nothing()
		s.check(s.Grant(0, 4))
		s.nothing()
		s.check(s.Grant(0, 1))
		s.want(ten("c"))
		s.nothing()
		p.publish(pubsub.NewEvent{Topic: "t", Event: pubsub.Event{Data: []byte("e"), Metadata: map[string]string{"abc": "def"}, OrderingKey: "k"}})
		s.check(s.Grant(0, 16))
		s.want(ten("d"))
		s.nothing()
		s.check(s.Grant(0, 1))
		s.want("e")
	}},
	{"Pause", func(t *testing.T, b *bench) {
		p := b.process(t, policy)
		s := p.joinWith(pubsub.SubscribeOptions{Topic: "t"}, 10, 0)
		p.send("t", "", "0")
		s.want("0")
		s.check(s.Grant(0, 0))
		p.send("t", "", "1", "2")
		s.nothing()
		s.check(s.Grant(1, 0))
		s.want("1")
		s.nothing()
	}},
	{"NotDeliveredIsNotAnAttempt", func(t *testing.T, b *bench) {
		p := b.process(t, policy)
		s := p.joinWith(pubsub.SubscribeOptions{Topic: "t"}, 1, 0)
		p.send("t", "", numbers("", 5)...)
		s.first("0", 1)
		s.close()
		s = p.join(pubsub.SubscribeOptions{Topic: "t"})
		for _, want := range numbers("", 5) {
			d := s.get()
			attempt := 1
			if want == "0" {
				attempt = 2
			}
			if string(d.Event.Data) != want || d.Attempt != attempt {
				t.Errorf("delivered was %q, attempt %d; want %q, attempt %d", d.Event.Data, d.Attempt, want, attempt)
			}
		}
	}},
	{"Drain", func(t *testing.T, b *bench) {
		p, q := b.process(t, policy), b.process(t, policy)
		s := p.join(pubsub.SubscribeOptions{Topic: "t"})
		p.send("t", "", "1")
		d := s.first("1", 1)
		s.Drain()
		other := q.join(pubsub.SubscribeOptions{Topic: "t"})
		p.send("t", "", "2", "3")
		s.check(s.Grant(10, 0))
		other.ack(other.wantAll("2", "3")...) // in any order: one may have been on its way to the other stream
		s.ack(d)
		s.nothing()
		s.close()
		other.nothing()
	}},
	{"StalledOthersGoOn", func(t *testing.T, b *bench) {
		p := b.process(t, policy)
		o := pubsub.SubscribeOptions{Topic: "t"}
		stalled := p.joinWith(o, 10_000, 0)
		busy := p.joinWith(pubsub.SubscribeOptions{Topic: "t", Group: "busy"}, 10_000, 0)
		const n = 10_000
		for i := range n / pubsub.MaxMany {
			all := make([]pubsub.NewEvent, pubsub.MaxMany)
			for j := range all {
				all[j] = pubsub.NewEvent{Topic: "t", Event: pubsub.Event{Data: []byte(numbers("", 1)[0])}}
			}
			if _, err := p.PublishMany(t.Context(), b.caller, all); err != nil {
				t.Fatalf("after %d: %v", i*pubsub.MaxMany, err)
			}
		}
		for range n {
			busy.ack(busy.get())
		}
		busy.nothing()
		for end := time.Now().Add(patience); len(stalled.deliveries) < n; time.Sleep(time.Millisecond) {
			if time.Now().After(end) {
				t.Fatalf("%d of %d were delivered", len(stalled.deliveries), n)
			}
		}
		stalled.close()
		if d := p.join(o).get(); d.Attempt < 2 { // more, where all this has taken longer than an event may be kept
			t.Errorf("attempt %d", d.Attempt)
		}
	}},
}
