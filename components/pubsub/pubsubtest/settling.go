package pubsubtest

import (
	"strings"
	"testing"
	"time"

	"github.com/outrigger-mesh/outrigger/components/pubsub"
)

// settling is about what becomes of deliveries.
var settling = []test{
	{"Nack", func(t *testing.T, b *bench) {
		p := b.process(t, policy)
		s := p.join(pubsub.SubscribeOptions{Topic: "t"})
		p.send("t", "", "x")
		for attempt := 1; attempt <= 3; attempt++ {
			s.check(s.Nack(s.first("x", attempt).ID, 0))
		}
		s.want("x")
		s.nothing()
	}},
	{"NackWithDelay", func(t *testing.T, b *bench) {
		p := b.process(t, policy)
		s := p.join(pubsub.SubscribeOptions{Topic: "t"})
		p.send("t", "", "x")
		const delay = 400 * time.Millisecond
		d := s.first("x", 1)
		begin := time.Now()
		s.check(s.Nack(d.ID, delay))
		p.send("t", "", "y")
		s.want("y")
		s.first("x", 2)
		if passed := time.Since(begin); passed < delay {
			t.Errorf("it came again after %s, before the delay of %s", passed, delay)
		}
	}},
	{"DelaySurvives", func(t *testing.T, b *bench) {
		p := b.process(t, policy)
		s := p.join(pubsub.SubscribeOptions{Topic: "t"})
		p.send("t", "", "x")
		s.check(s.Nack(s.first("x", 1).ID, 0))
		const delay = 700 * time.Millisecond
		begin := time.Now()
		s.check(s.Nack(s.first("x", 2).ID, delay))
		p.stop()
		p = b.process(t, policy)
		p.join(pubsub.SubscribeOptions{Topic: "t"}).first("x", 3)
		if passed := time.Since(begin); passed < delay {
			t.Errorf("it came again after %s, before the delay of %s", passed, delay)
		}
	}},
	{"EndGivesBack", func(t *testing.T, b *bench) {
		p, q := b.process(t, policy), b.process(t, policy)
		s := p.join(pubsub.SubscribeOptions{Topic: "t"})
		p.send("t", "k", "x", "y")
		s.first("x", 1)
		other := q.join(pubsub.SubscribeOptions{Topic: "t"})
		other.nothing()
		s.close()
		other.ack(other.first("x", 2))
		other.ack(other.first("y", 1))
		other.nothing()
	}},
	{"Harmless", func(t *testing.T, b *bench) {
		p := b.process(t, policy)
		s := p.join(pubsub.SubscribeOptions{Topic: "t", Group: "one"})
		other := p.join(pubsub.SubscribeOptions{Topic: "t", Group: "two"})
		p.send("t", "", "x")
		d, o := s.first("x", 1), other.first("x", 1)
		for _, id := range []string{o.ID, "", "nonsense", strings.Repeat("x", 10000), d.ID + "0"} {
			s.check(s.Ack(id))
			s.check(s.Nack(id, 0))
			s.check(s.Reject(id, "no"))
			s.check(s.Extend(id))
		}
		s.check(s.Nack(d.ID, 0))
		again := s.first("x", 2)
		s.check(s.Ack(d.ID)) // stale: it was given back
		s.check(s.Ack(again.ID, again.ID))
		s.check(s.Nack(again.ID, 0))
		s.check(s.Reject(again.ID, ""))
		s.nothing()
		other.nothing()
		other.close()
		p.join(pubsub.SubscribeOptions{Topic: "t", Group: "two"}).first("x", 2)
	}},
	{"Deadline", func(t *testing.T, b *bench) {
		p := b.process(t, policy)
		const deadline = 500 * time.Millisecond
		s := p.join(pubsub.SubscribeOptions{Topic: "t", AckDeadline: deadline})
		begin := time.Now()
		p.send("t", "", "x")
		d := s.first("x", 1)
		again := s.first("x", 2)
		if passed := time.Since(begin); passed < deadline {
			t.Errorf("it came again after %s, before its deadline of %s", passed, deadline)
		}
		s.check(s.Ack(d.ID))
		begin = time.Now()
		for time.Since(begin) < 3*deadline/2 {
			s.check(s.Extend(again.ID))
			s.nothing()
		}
		s.ack(again)
		s.nothing()
	}},
	{"Reject", func(t *testing.T, b *bench) {
		p := b.process(t, policy)
		dead := p.join(pubsub.SubscribeOptions{Topic: "dead"})
		s := p.join(pubsub.SubscribeOptions{Topic: "t", Group: "g"})
		p.publish(pubsub.NewEvent{Topic: "t", Event: pubsub.Event{ID: "1", Data: []byte("x"), OrderingKey: "k", Metadata: map[string]string{"a": "1"}}})
		p.send("t", "k", "y")
		s.check(s.Reject(s.first("x", 1).ID, "cannot be read"))
		s.want("y")
		e := dead.first("x", 1).Event
		for name, want := range map[string]string{"a": "1", pubsub.MetaReason: "rejected", pubsub.MetaText: "cannot be read", pubsub.MetaTopic: "t",
			pubsub.MetaGroup: "g", pubsub.MetaAttempts: "1"} {
			if e.Metadata[name] != want {
				t.Errorf("metadata %s is %q, want %q", name, e.Metadata[name], want)
			}
		}
		if e.ID != "1" || e.OrderingKey != "k" {
			t.Errorf("the dead letter has id %q and ordering key %q", e.ID, e.OrderingKey)
		}
		s.nothing()
		s.close()
		p.join(pubsub.SubscribeOptions{Topic: "t", Group: "g"}).nothing()
	}},
	{"Attempts", func(t *testing.T, b *bench) {
		few := policy
		few.MaxAttempts = 3
		p := b.process(t, few)
		dead := p.join(pubsub.SubscribeOptions{Topic: "dead"})
		p.join(pubsub.SubscribeOptions{Topic: "t"})
		s := p.subs[1]
		p.send("t", "k", "x", "y")
		s.check(s.Nack(s.first("x", 1).ID, 0))
		s.first("x", 2)
		s.close() // the end of a stream counts
		s = p.join(pubsub.SubscribeOptions{Topic: "t"})
		s.check(s.Nack(s.first("x", 3).ID, 0))
		s.want("y")
		if e := dead.first("x", 1).Event; e.Metadata[pubsub.MetaReason] != "attempts" || e.Metadata[pubsub.MetaAttempts] != "3" {
			t.Errorf("the dead letter's metadata are %v", e.Metadata)
		}
		s.nothing()
	}},
	{"ReturnedIsNoAttempt", func(t *testing.T, b *bench) {
		few := policy
		few.MaxAttempts = 2
		p := b.process(t, few)
		dead := p.join(pubsub.SubscribeOptions{Topic: "dead"})
		p.join(pubsub.SubscribeOptions{Topic: "t"}).close()
		p.send("t", "k", "x")
		p.send("t", "", "y")
		for range 2 * few.MaxAttempts { // streams that end before the application has got anything
			p.passBy(pubsub.SubscribeOptions{Topic: "t"}, 2)
		}
		s := p.join(pubsub.SubscribeOptions{Topic: "t"})
		s.wantAll("x", "y")
		dead.nothing()
	}},
	{"CrashesCount", func(t *testing.T, b *bench) {
		few := policy
		few.MaxAttempts, few.DeadLetterTopic = 2, ""
		p := b.process(t, few)
		for attempt := range 2 {
			s := p.join(pubsub.SubscribeOptions{Topic: "t"})
			if attempt == 0 {
				p.send("t", "k", "kills", "fine")
			}
			s.first("kills", attempt+1)
			s.close()
		}
		s := p.join(pubsub.SubscribeOptions{Topic: "t"})
		s.want("fine")
		s.nothing()
	}},
}
