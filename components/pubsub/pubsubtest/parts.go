package pubsubtest

import (
	"crypto/rand"
	"fmt"
	"strings"
	"testing"

	"github.com/outrigger-mesh/outrigger/components"
	"github.com/outrigger-mesh/outrigger/components/pubsub"
)

// What follows is for drivers whose sidecars have parts of a topic that change hands with deliveries under way.

func newBench(t *testing.T, h Harness) *bench {
	return &bench{open: h(t), caller: components.Caller{Namespace: "test-" + strings.ToLower(rand.Text()[:8]), App: "app"}}
}

// Room tests that a stream that has no room leaves its part, the only one of the topic, to one that has, and keeps what it is handling.
func Room(t *testing.T, h Harness) {
	b := newBench(t, h)
	p, q := b.process(t, policy), b.process(t, policy)
	full := p.joinWith(pubsub.SubscribeOptions{Topic: "t"}, 1, 0)
	p.send("t", "", "held")
	held := full.first("held", 1)
	s := q.join(pubsub.SubscribeOptions{Topic: "t"})
	p.send("t", "", numbers("", 10)...)
	s.want(numbers("", 10)...)
	full.ack(held)
	full.nothing()
	s.nothing()
}

// ComeAndGo tests that a stream of another sidecar that joins takes its share at once, and that what is under way goes on where it is: it is not
// repeated, and settled it stays settled.
func ComeAndGo(t *testing.T, h Harness) {
	b := newBench(t, h)
	p, q := b.process(t, policy), b.process(t, policy)
	one := p.join(pubsub.SubscribeOptions{Topic: "t"})
	all := func(prefix string, n int) (events []pubsub.NewEvent) {
		for _, text := range numbers(prefix, n) {
			events = append(events, pubsub.NewEvent{Topic: "t", Event: pubsub.Event{Data: []byte(text)}})
		}
		return events
	}
	many := func(events []pubsub.NewEvent) {
		t.Helper()
		if _, err := p.PublishMany(t.Context(), b.caller, events); err != nil {
			t.Fatal(err)
		}
	}
	many(all("", 300))
	seen := map[string]bool{}
	var held []pubsub.Delivery
	for range 300 {
		held = append(held, one.get())
		seen[string(held[len(held)-1].Event.Data)] = true
	}
	two := q.join(pubsub.SubscribeOptions{Topic: "t"})
	many(all("more", 600))
	for range 100 {
		if d := two.get(); seen[string(d.Event.Data)] || d.Attempt != 1 {
			t.Fatalf("%s, attempt %d, is under way elsewhere", d.Event.Data, d.Attempt)
		}
	}
	one.ack(held[:200]...) // of parts that the other has by now, too
	one.close()
	two.close()
	came := map[string]bool{}
	for _, d := range held[:200] {
		came[string(d.Event.Data)] = true
	}
	again := q.join(pubsub.SubscribeOptions{Topic: "t"})
	for i := range 700 {
		d := again.get()
		if came[string(d.Event.Data)] {
			t.Fatalf("%s came again, after %s", d.Event.Data, fmt.Sprint(i))
		}
		came[string(d.Event.Data)] = true
	}
	again.nothing()
}
