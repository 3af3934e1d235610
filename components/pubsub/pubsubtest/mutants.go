package pubsubtest

import (
	"context"
	"crypto/rand"
	"errors"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/outrigger-mesh/outrigger/components"
	"github.com/outrigger-mesh/outrigger/components/componenttest"
	"github.com/outrigger-mesh/outrigger/components/pubsub"
)

// hooks takes the place of some calls of a driver and its sessions; those that are nil go through.
type hooks struct {
	pubsub.Driver
	publish   func(ctx context.Context, events []pubsub.Publication) ([]pubsub.Result, error)
	subscribe func(ctx context.Context, s pubsub.Subscription) (pubsub.Session, error)
	fetch     func(ctx context.Context, s pubsub.Session, room pubsub.Room) ([]pubsub.Message, error)
	settle    func(ctx context.Context, s pubsub.Session, all []pubsub.Settlement) error
	close     func(ctx context.Context, s pubsub.Session) error
}

func (h *hooks) Publish(ctx context.Context, events []pubsub.Publication) ([]pubsub.Result, error) {
	if h.publish != nil {
		return h.publish(ctx, events)
	}
	return h.Driver.Publish(ctx, events)
}

func (h *hooks) Subscribe(ctx context.Context, s pubsub.Subscription) (pubsub.Session, error) {
	var session pubsub.Session
	var err error
	if h.subscribe != nil {
		session, err = h.subscribe(ctx, s)
	} else {
		session, err = h.Driver.Subscribe(ctx, s)
	}
	if err != nil {
		return nil, err
	}
	return &hooked{session, h}, nil
}

func (h *hooks) Close(ctx context.Context) error { return h.Driver.(components.Closer).Close(ctx) }

// hooked is a session of them.
type hooked struct {
	pubsub.Session
	h *hooks
}

func (s *hooked) Fetch(ctx context.Context, room pubsub.Room) ([]pubsub.Message, error) {
	if s.h.fetch != nil {
		return s.h.fetch(ctx, s.Session, room)
	}
	return s.Session.Fetch(ctx, room)
}

func (s *hooked) Settle(ctx context.Context, all []pubsub.Settlement) error {
	if s.h.settle != nil {
		return s.h.settle(ctx, s.Session, all)
	}
	return s.Session.Settle(ctx, all)
}

func (s *hooked) Close(ctx context.Context) error {
	if s.h.close != nil {
		return s.h.close(ctx, s.Session)
	}
	return s.Session.Close(ctx)
}

// unwell is a driver that is failing whatever its server says.
type unwell struct{ pubsub.Driver }

func (unwell) Check(context.Context) error { return components.ErrUnavailable }

type mutant = componenttest.Mutant[pubsub.Driver]

func broken(name string, change func(h *hooks)) mutant {
	return mutant{Name: name, Break: func(d pubsub.Driver) pubsub.Driver {
		h := &hooks{Driver: d}
		change(h)
		return h
	}}
}

// published is a mutant that changes what is published.
func published(name string, change func(p *pubsub.Publication)) mutant {
	return broken(name, func(h *hooks) {
		h.publish = func(ctx context.Context, events []pubsub.Publication) ([]pubsub.Result, error) {
			events = slices.Clone(events)
			for i := range events {
				change(&events[i])
			}
			return h.Driver.Publish(ctx, events)
		}
	})
}

// subscribed is one that changes what is subscribed to.
func subscribed(name string, change func(s *pubsub.Subscription)) mutant {
	return broken(name, func(h *hooks) {
		h.subscribe = func(ctx context.Context, s pubsub.Subscription) (pubsub.Session, error) {
			change(&s)
			return h.Driver.Subscribe(ctx, s)
		}
	})
}

// fetched is one that changes messages.
func fetched(name string, change func(m *pubsub.Message)) mutant {
	return broken(name, func(h *hooks) {
		h.fetch = func(ctx context.Context, s pubsub.Session, room pubsub.Room) ([]pubsub.Message, error) {
			all, err := s.Fetch(ctx, room)
			for i := range all {
				change(&all[i])
			}
			return all, err
		}
	})
}

// settled is one that changes settlements.
func settled(name string, change func(s *pubsub.Settlement)) mutant {
	return broken(name, func(h *hooks) {
		h.settle = func(ctx context.Context, s pubsub.Session, all []pubsub.Settlement) error {
			all = slices.Clone(all)
			for i := range all {
				change(&all[i])
			}
			return s.Settle(ctx, all)
		}
	})
}

// renamed is one that keeps topics under other names.
func renamed(name string, change func(t pubsub.Topic) pubsub.Topic) mutant {
	return broken(name, func(h *hooks) {
		h.publish = func(ctx context.Context, events []pubsub.Publication) ([]pubsub.Result, error) {
			events = slices.Clone(events)
			for i := range events {
				events[i].Topic = change(events[i].Topic)
			}
			return h.Driver.Publish(ctx, events)
		}
		h.subscribe = func(ctx context.Context, s pubsub.Subscription) (pubsub.Session, error) {
			s.Topic = change(s.Topic)
			return h.Driver.Subscribe(ctx, s)
		}
	})
}

// Mutants are faults that drivers may have, each of which Run finds. What they break must be a driver that is not Restricted.
func Mutants() []componenttest.Mutant[pubsub.Driver] {
	return slices.Concat(contentMutants, placeMutants, settlingMutants, orderMutants)
}

var contentMutants = []mutant{
	{Name: "failing while nobody uses it", Break: func(d pubsub.Driver) pubsub.Driver { return unwell{d} }},
	published("metadata dropped", func(p *pubsub.Publication) { p.Event.Metadata = nil }),
	published("time cut to milliseconds", func(p *pubsub.Publication) { p.Event.Time = p.Event.Time.Truncate(time.Millisecond) }),
	published("data kept as text", func(p *pubsub.Publication) { p.Event.Data = []byte(strings.ToValidUTF8(string(p.Event.Data), "?")) }),
	published("long data cut", func(p *pubsub.Publication) { p.Event.Data = p.Event.Data[:min(len(p.Event.Data), 1<<20-1)] }),
	published("long ordering key cut", func(p *pubsub.Publication) {
		p.Event.OrderingKey = p.Event.OrderingKey[:min(len(p.Event.OrderingKey), 255)]
	}),
	published("idempotency key ignored", func(p *pubsub.Publication) { p.IdempotencyKey = "" }),
	published("other content not noticed", func(p *pubsub.Publication) { p.Fingerprint = nil }),
	published("ids made anew", func(p *pubsub.Publication) { p.Event.ID = rand.Text() }),
	broken("published twice", func(h *hooks) {
		h.publish = func(ctx context.Context, events []pubsub.Publication) ([]pubsub.Result, error) {
			if _, err := h.Driver.Publish(ctx, events); err != nil {
				return nil, err
			}
			return h.Driver.Publish(ctx, events)
		}
	}),
	broken("many backwards", func(h *hooks) {
		h.publish = func(ctx context.Context, events []pubsub.Publication) ([]pubsub.Result, error) {
			events = slices.Clone(events)
			slices.Reverse(events)
			results, err := h.Driver.Publish(ctx, events)
			slices.Reverse(results)
			return results, err
		}
	}),
	broken("many goes on after a failure", func(h *hooks) {
		h.publish = func(ctx context.Context, events []pubsub.Publication) ([]pubsub.Result, error) {
			var all []pubsub.Result
			for i := range events {
				one, err := h.Driver.Publish(ctx, events[i:i+1])
				if err != nil {
					return nil, err
				}
				all = append(all, one...)
			}
			return all, nil
		}
	}),
}

var placeMutants = []mutant{
	renamed("topics fold case", func(t pubsub.Topic) pubsub.Topic {
		return pubsub.Topic{Namespace: t.Namespace, Name: strings.ToLower(t.Name)}
	}),
	renamed("namespaces ignored", func(t pubsub.Topic) pubsub.Topic {
		return pubsub.Topic{Namespace: strings.TrimSuffix(t.Namespace, "-other"), Name: t.Name}
	}),
	renamed("slashes lost", func(t pubsub.Topic) pubsub.Topic {
		return pubsub.Topic{Namespace: t.Namespace, Name: strings.ReplaceAll(t.Name, "/", "_")}
	}),
	subscribed("one group for all", func(s *pubsub.Subscription) { s.Group = "g" }),
	subscribed("a group for each stream", func(s *pubsub.Subscription) { s.Group = rand.Text() }),
	subscribed("latest is earliest", func(s *pubsub.Subscription) { s.Earliest = true }),
	subscribed("earliest is latest", func(s *pubsub.Subscription) { s.Earliest = false }),
	subscribed("replay ignored", func(s *pubsub.Subscription) { s.ReplayFrom = time.Time{} }),
	subscribed("replay of everything", func(s *pubsub.Subscription) {
		if !s.ReplayFrom.IsZero() {
			s.ReplayFrom = time.Unix(1, 0)
		}
	}),
}

var settlingMutants = []mutant{
	settled("acknowledged comes again", func(s *pubsub.Settlement) {
		if s.Outcome == pubsub.Done {
			s.Outcome = pubsub.Again
		}
	}),
	settled("given back is lost", func(s *pubsub.Settlement) {
		if s.Outcome == pubsub.Again {
			s.Outcome = pubsub.Done
		}
	}),
	settled("returned is an attempt", func(s *pubsub.Settlement) {
		if s.Outcome == pubsub.Returned {
			s.Outcome = pubsub.Again
		}
	}),
	settled("delay ignored", func(s *pubsub.Settlement) { s.Delay = 0 }),
	fetched("attempts not counted", func(m *pubsub.Message) { m.Attempt = 1 }),
	fetched("attempts begin with 0", func(m *pubsub.Message) { m.Attempt-- }),
	broken("an end settles everything", func(h *hooks) {
		var mu sync.Mutex
		given := map[pubsub.Session][]string{}
		h.fetch = func(ctx context.Context, s pubsub.Session, room pubsub.Room) ([]pubsub.Message, error) {
			all, err := s.Fetch(ctx, room)
			mu.Lock()
			defer mu.Unlock()
			for _, m := range all {
				given[s] = append(given[s], m.Position)
			}
			return all, err
		}
		h.close = func(ctx context.Context, s pubsub.Session) error {
			mu.Lock()
			var all []pubsub.Settlement
			for _, p := range given[s] {
				all = append(all, pubsub.Settlement{Position: p, Outcome: pubsub.Done})
			}
			mu.Unlock()
			return errors.Join(s.Settle(ctx, all), s.Close(ctx))
		}
	}),
	broken("the last settlement lost at the end", func(h *hooks) {
		var mu sync.Mutex
		last := map[pubsub.Session][]pubsub.Settlement{}
		h.settle = func(ctx context.Context, s pubsub.Session, all []pubsub.Settlement) error {
			mu.Lock()
			before := last[s]
			last[s] = slices.Clone(all)
			mu.Unlock()
			return s.Settle(ctx, before)
		}
	}),
}

var orderMutants = []mutant{
	published("ordering keys ignored", func(p *pubsub.Publication) { p.Event.OrderingKey = "" }),
	published("one ordering key for all", func(p *pubsub.Publication) { p.Event.OrderingKey = "k" }),
	broken("a key is freed when it is delivered", func(h *hooks) {
		h.fetch = func(ctx context.Context, s pubsub.Session, room pubsub.Room) ([]pubsub.Message, error) {
			all, err := s.Fetch(ctx, room)
			var done []pubsub.Settlement
			for _, m := range all {
				done = append(done, pubsub.Settlement{Position: m.Position, Outcome: pubsub.Done})
			}
			return all, errors.Join(err, s.Settle(ctx, done))
		}
	}),
	broken("messages backwards", func(h *hooks) {
		h.fetch = func(ctx context.Context, s pubsub.Session, room pubsub.Room) ([]pubsub.Message, error) {
			all, err := s.Fetch(ctx, room)
			slices.Reverse(all)
			return all, err
		}
	}),
}
