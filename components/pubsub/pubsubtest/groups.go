package pubsubtest

import (
	"fmt"
	"testing"
	"time"

	"github.com/outrigger-mesh/outrigger/components"
	"github.com/outrigger-mesh/outrigger/components/pubsub"
)

// groups is about who gets what.
var groups = []test{
	{"Latest", func(t *testing.T, b *bench) {
		p := b.process(t, policy)
		p.send("t", "", "before")
		s := p.join(pubsub.SubscribeOptions{Topic: "t"})
		p.send("t", "", "after")
		s.want("after")
		s.nothing()
	}},
	{"Earliest", func(t *testing.T, b *bench) {
		p := b.process(t, policy)
		p.send("t", "k", "1", "2")
		s := p.join(earliest("t"))
		s.want("1", "2")
		s.nothing()
	}},
	{"EachGroup", func(t *testing.T, b *bench) {
		p := b.process(t, policy)
		one := p.join(pubsub.SubscribeOptions{Topic: "t", Group: "one"})
		two := p.join(pubsub.SubscribeOptions{Topic: "t", Group: "two"})
		p.send("t", "k", numbers("", 10)...)
		one.want(numbers("", 10)...)
		two.want(numbers("", 10)...)
		p.send("u", "k", "u")
		p.join(pubsub.SubscribeOptions{Topic: "u", Group: "one", Earliest: true}).want("u")
	}},
	{"Sharing", func(t *testing.T, b *bench) {
		p, q := b.process(t, policy), b.process(t, policy)
		one, two := p.join(pubsub.SubscribeOptions{Topic: "t"}), q.join(pubsub.SubscribeOptions{Topic: "t"})
		const n, rounds = 200, 5 // the first may be over before both have said what they take
		seen := map[string]int{}
		share := map[*subscriber]int{}
		for round := 0; round < rounds && (share[one] == 0 || share[two] == 0); round++ {
			p.send("t", "", numbers(fmt.Sprint(round, "-"), n)...)
			for range n {
				var d pubsub.Delivery
				s := one
				select {
				case d = <-one.deliveries:
				case d = <-two.deliveries:
					s = two
				case <-time.After(patience):
					t.Fatalf("%d of %d were delivered", len(seen), (round+1)*n)
				}
				s.ack(d)
				share[s]++
				if seen[string(d.Event.Data)]++; seen[string(d.Event.Data)] > 1 {
					t.Fatalf("%q was delivered twice", d.Event.Data)
				}
			}
		}
		if share[one] == 0 || share[two] == 0 {
			t.Errorf("of two streams one got %d and the other %d", share[one], share[two])
		}
		one.nothing()
		two.nothing()
	}},
	{"Durable", func(t *testing.T, b *bench) {
		p := b.process(t, policy)
		p.join(pubsub.SubscribeOptions{Topic: "t"}).close()
		p.send("t", "k", "1", "2", "3")
		p.join(pubsub.SubscribeOptions{Topic: "t"}).want("1")
		p.stop()
		p = b.process(t, policy)
		p.send("t", "k", "4")
		s := p.join(pubsub.SubscribeOptions{Topic: "t"})
		s.want("2", "3", "4")
		s.nothing()
	}},
	{"SettledStaysSettled", func(t *testing.T, b *bench) {
		p := b.process(t, policy)
		s := p.join(pubsub.SubscribeOptions{Topic: "t"})
		const n = 100
		p.send("t", "", numbers("", n)...)
		odd := map[string]bool{}
		for i := range n {
			d := s.get()
			if i%3 == 1 {
				odd[string(d.Event.Data)] = true
			} else {
				s.ack(d)
			}
		}
		p.stop()
		p = b.process(t, policy)
		s = p.join(pubsub.SubscribeOptions{Topic: "t"})
		for range len(odd) {
			d := s.get()
			if !odd[string(d.Event.Data)] {
				t.Fatalf("%q came again, and was acknowledged", d.Event.Data)
			}
			s.ack(d)
		}
		s.nothing()
	}},
	{"Replay", func(t *testing.T, b *bench) {
		p := b.process(t, policy)
		if !p.offers(pubsub.Replay) {
			_, err := p.Subscribe(t.Context(), b.caller, pubsub.SubscribeOptions{Topic: "t", ReplayFrom: time.Now()})
			outcome(t, err, components.ErrUnsupported)
			return
		}
		p.send("t", "k", "1", "2")
		time.Sleep(20 * time.Millisecond) // so that the time between is between
		from := time.Now()
		time.Sleep(20 * time.Millisecond)
		p.send("t", "k", "3", "4")
		s := p.join(earliest("t"))
		s.want("1", "2", "3")
		held := s.first("4", 1)
		again := p.joinWith(pubsub.SubscribeOptions{Topic: "t", ReplayFrom: from}, 0, 0)
		s.close()
		s.ack(held)
		s.check(again.Grant(plenty, 0))
		again.want("3", "4")
		again.nothing()
		p.join(pubsub.SubscribeOptions{Topic: "t", ReplayFrom: from.Add(-time.Hour)})
		again.close()
		p.subs[len(p.subs)-1].want("1", "2", "3", "4")
	}},
}
