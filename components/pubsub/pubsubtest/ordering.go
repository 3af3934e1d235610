package pubsubtest

import (
	"fmt"
	"math/rand/v2"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/outrigger-mesh/outrigger/components/pubsub"
)

// ordering is about ordering keys.
var ordering = []test{
	{"OneAtATime", func(t *testing.T, b *bench) {
		p, q := b.process(t, policy), b.process(t, policy)
		one, two := p.join(pubsub.SubscribeOptions{Topic: "t"}), q.join(pubsub.SubscribeOptions{Topic: "t"})
		p.send("t", "k", numbers("", 20)...)
		for i := range 20 {
			s, other := one, two
			var d pubsub.Delivery
			select {
			case d = <-one.deliveries:
			case d = <-two.deliveries:
				s, other = two, one
			case <-time.After(patience):
				t.Fatalf("%d were delivered", i)
			}
			if string(d.Event.Data) != strconv.Itoa(i) {
				t.Fatalf("delivered was %q, want %d", d.Event.Data, i)
			}
			if i%7 == 0 {
				s.nothing()
				other.nothing()
			}
			s.ack(d)
		}
	}},
	{"NackHoldsUpItsKey", func(t *testing.T, b *bench) {
		p := b.process(t, policy)
		s := p.join(pubsub.SubscribeOptions{Topic: "t"})
		p.send("t", "k", "k1")
		s.check(s.Nack(s.first("k1", 1).ID, 1500*time.Millisecond))
		p.send("t", "k", "k2")
		p.send("t", "l", "l1")
		p.send("t", "", "free1", "free2")
		s.ack(s.wantAll("l1", "free1", "free2")...)
		s.nothing()
		s.ack(s.first("k1", 2))
		s.want("k2")
	}},
	{"NoKeyWaitsForNothing", func(t *testing.T, b *bench) {
		p := b.process(t, policy)
		s := p.join(pubsub.SubscribeOptions{Topic: "t"})
		p.send("t", "", numbers("", 50)...)
		for range 50 {
			s.get() // without settling any
		}
	}},
	{"FirstDeliveriesInOrder", firstDeliveriesInOrder},
}

// firstDeliveriesInOrder has two consumers with ten keys, random nacks and restarts.
func firstDeliveriesInOrder(t *testing.T, b *bench) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	random := rand.New(rand.NewPCG(seed, 1))
	const keys, each = 10, 40
	p, q := b.process(t, policy), b.process(t, policy)
	o := pubsub.SubscribeOptions{Topic: "t"}
	subs := []*subscriber{p.join(o), q.join(o)}
	for i := range each {
		var all []pubsub.NewEvent
		for k := range keys {
			all = append(all, pubsub.NewEvent{Topic: "t", Event: pubsub.Event{Data: fmt.Appendf(nil, "%d %d", k, i), OrderingKey: strconv.Itoa(k)}})
		}
		if _, err := p.PublishMany(t.Context(), b.caller, all); err != nil {
			t.Fatal(err)
		}
	}
	begun, acked := map[string]int{}, map[string]int{}
	for end := time.Now().Add(patience); len(acked) < keys*each; {
		if time.Now().After(end) {
			t.Fatalf("%d of %d were handled in %s", len(acked), keys*each, patience)
		}
		if random.IntN(60) == 0 {
			i := random.IntN(2)
			subs[i].close()
			subs[i] = []*process{p, q}[i].join(o)
		}
		if random.IntN(250) == 0 {
			p.stop()
			q.stop()
			p, q = b.process(t, policy), b.process(t, policy)
			subs = []*subscriber{p.join(o), q.join(o)}
		}
		var d pubsub.Delivery
		s := subs[0]
		select {
		case d = <-subs[0].deliveries:
		case d = <-subs[1].deliveries:
			s = subs[1]
		case <-time.After(patience):
			t.Fatalf("nothing comes, and %d of %d were handled", len(acked), keys*each)
		}
		key, number, _ := strings.Cut(string(d.Event.Data), " ")
		n, err := strconv.Atoi(number)
		switch {
		case err != nil:
			t.Fatalf("delivered was %q", d.Event.Data)
		case n > begun[key]:
			t.Fatalf("key %s: %d came before %d", key, n, begun[key])
		case n == begun[key]:
			begun[key]++
		}
		if random.IntN(4) == 0 && d.Attempt < policy.MaxAttempts {
			s.check(s.Nack(d.ID, time.Duration(random.IntN(5))*time.Millisecond))
			continue
		}
		s.ack(d)
		acked[string(d.Event.Data)]++
	}
}
