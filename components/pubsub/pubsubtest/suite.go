// Package pubsubtest is what each driver of pub/sub must do: Run holds one to it, through the front that callers use.
package pubsubtest

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/outrigger-mesh/outrigger/components"
	"github.com/outrigger-mesh/outrigger/components/componenttest"
	"github.com/outrigger-mesh/outrigger/components/pubsub"
)

// Opener opens a driver on a back end. Each call is another process on the same back end; when all that are open are closed and
// another is opened, that is a restart. The suite closes what it opens.
type Opener func(t *testing.T, p pubsub.Policy) pubsub.Driver

// Harness makes a back end for one test and undoes it by t.Cleanup. It need not be empty: the suite's topics are new.
type Harness func(t *testing.T) Opener

const (
	patience = 20 * time.Second       // for what must happen
	quiet    = 120 * time.Millisecond // in which what must not happen would
)

type test struct {
	name string
	run  func(*testing.T, *bench)
}

// Run runs the suite. Of what a Restricted driver does not offer it tests only that it is refused.
func Run(t *testing.T, h Harness) {
	for _, tests := range [][]test{events, groups, settling, ordering, credits, faults} {
		for _, c := range tests {
			t.Run(c.name, func(t *testing.T) {
				t.Parallel()
				c.run(t, &bench{open: h(t), caller: components.Caller{Namespace: "test-" + strings.ToLower(rand.Text()[:8]), App: "app"}})
			})
		}
	}
}

// bench is what one test works with: processes on one back end.
type bench struct {
	open   Opener
	caller components.Caller
}

var policy = pubsub.Policy{MaxAttempts: 20, MaxDelay: time.Hour, DeadLetterTopic: "dead"}

// process is one sidecar.
type process struct {
	*pubsub.PubSub
	t      *testing.T
	b      *bench
	driver pubsub.Driver
	subs   []*subscriber
}

func (b *bench) process(t *testing.T, p pubsub.Policy) *process {
	t.Helper()
	one := &process{t: t, b: b, driver: b.open(t, p)}
	one.PubSub = pubsub.New(componenttest.Component("pubsub", one.driver), pubsub.Options{})
	t.Cleanup(one.stop)
	return one
}

// stop is the orderly end. It may be called more than once.
func (p *process) stop() {
	for _, s := range p.subs {
		s.close()
	}
	p.subs = nil
	componenttest.Close(p.t, p.driver)
	p.driver = nil
}

func (p *process) offers(f pubsub.Feature) bool {
	r, ok := p.driver.(pubsub.Restricted)
	return !ok || r.Offers(f)
}

func (p *process) publish(e pubsub.NewEvent) (id string) {
	p.t.Helper()
	id, err := p.Publish(context.Background(), p.b.caller, e)
	if err != nil {
		p.t.Fatalf("publish: %v", err)
	}
	return id
}

// send publishes events with texts as data.
func (p *process) send(topic, key string, texts ...string) {
	p.t.Helper()
	for _, text := range texts {
		p.publish(pubsub.NewEvent{Topic: topic, Event: pubsub.Event{Data: []byte(text), OrderingKey: key}})
	}
}

// subscriber is a stream and a goroutine that reads from it.
type subscriber struct {
	*pubsub.Stream
	t          *testing.T
	cancel     context.CancelFunc
	deliveries chan pubsub.Delivery
	once       sync.Once
	reading    sync.WaitGroup
	err        error
}

const plenty = 1000

// join subscribes with credit for plenty of messages.
func (p *process) join(o pubsub.SubscribeOptions) *subscriber {
	p.t.Helper()
	return p.joinWith(o, plenty, 0)
}

func (p *process) joinWith(o pubsub.SubscribeOptions, messages, bytes int64) *subscriber {
	p.t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	stream, err := p.Subscribe(ctx, p.b.caller, o)
	if err != nil {
		cancel()
		p.t.Fatalf("subscribe: %v", err)
	}
	s := &subscriber{Stream: stream, t: p.t, cancel: cancel, deliveries: make(chan pubsub.Delivery, 32<<10)}
	p.subs = append(p.subs, s)
	if messages > 0 {
		if err := s.Grant(messages, bytes); err != nil {
			p.t.Fatal(err)
		}
	}
	s.reading.Go(func() {
		for {
			some, err := s.Next()
			if errors.Is(err, pubsub.ErrDraining) {
				continue
			}
			if err != nil {
				s.err = err
				close(s.deliveries)
				return
			}
			for _, d := range some {
				s.deliveries <- d
			}
		}
	})
	return s
}

// passBy is a stream that returns what it is given, n deliveries at least, and ends.
func (p *process) passBy(o pubsub.SubscribeOptions, n int) {
	p.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	s, err := p.Subscribe(ctx, p.b.caller, o)
	if err != nil {
		p.t.Fatalf("subscribe: %v", err)
	}
	defer s.Close()
	if err := s.Grant(plenty, 0); err != nil {
		p.t.Fatal(err)
	}
	for n > 0 {
		some, err := s.Next()
		if err != nil {
			p.t.Fatalf("%d are to come: %v", n, err)
		}
		for _, d := range some {
			if err := s.Return(d.ID); err != nil {
				p.t.Fatal(err)
			}
		}
		n -= len(some)
	}
}

func (s *subscriber) close() {
	s.once.Do(func() {
		s.cancel()
		s.reading.Wait()
		s.Close()
	})
}

// get waits for the next delivery.
func (s *subscriber) get() pubsub.Delivery {
	s.t.Helper()
	select {
	case d, ok := <-s.deliveries:
		if !ok {
			s.t.Fatalf("the stream has ended: %v", s.err)
		}
		return d
	case <-time.After(patience):
		s.t.Fatalf("nothing was delivered within %s", patience)
		panic("unreachable")
	}
}

// want waits for deliveries with these data, in this order, and acknowledges them.
func (s *subscriber) want(texts ...string) {
	s.t.Helper()
	for _, text := range texts {
		d := s.get()
		if string(d.Event.Data) != text {
			s.t.Fatalf("delivered was %.60q (attempt %d), want %.60q", d.Event.Data, d.Attempt, text)
		}
		s.ack(d)
	}
}

// wantAll waits for first deliveries with these data, in any order, and answers them: events with different keys, or none, have
// no order among each other.
func (s *subscriber) wantAll(texts ...string) (all []pubsub.Delivery) {
	s.t.Helper()
	left := map[string]bool{}
	for _, text := range texts {
		left[text] = true
	}
	for range texts {
		d := s.get()
		if !left[string(d.Event.Data)] || d.Attempt != 1 {
			s.t.Fatalf("delivered was %.60q (attempt %d), want one of %q, attempt 1", d.Event.Data, d.Attempt, texts)
		}
		delete(left, string(d.Event.Data))
		all = append(all, d)
	}
	return all
}

// first waits for a delivery with this text and attempt.
func (s *subscriber) first(text string, attempt int) pubsub.Delivery {
	s.t.Helper()
	d := s.get()
	if string(d.Event.Data) != text || d.Attempt != attempt {
		s.t.Fatalf("delivered was %.60q, attempt %d; want %.60q, attempt %d", d.Event.Data, d.Attempt, text, attempt)
	}
	return d
}

// nothing fails if something comes soon.
func (s *subscriber) nothing() {
	s.t.Helper()
	select {
	case d, ok := <-s.deliveries:
		if ok {
			s.t.Fatalf("delivered was %.60q (attempt %d), want nothing", d.Event.Data, d.Attempt)
		}
		s.t.Fatalf("the stream has ended: %v", s.err)
	case <-time.After(quiet):
	}
}

func (s *subscriber) ack(all ...pubsub.Delivery) {
	s.t.Helper()
	for _, d := range all {
		s.check(s.Ack(d.ID))
	}
}

func (s *subscriber) check(err error) {
	s.t.Helper()
	if err != nil {
		s.t.Fatal(err)
	}
}

// outcome fails unless err is of a kind, or nil.
func outcome(t *testing.T, err, want error) {
	t.Helper()
	if !errors.Is(err, want) {
		t.Fatalf("error: %v; want: %v", err, want)
	}
}

func numbers(prefix string, n int) (all []string) {
	for i := range n {
		all = append(all, fmt.Sprint(prefix, i))
	}
	return all
}

// earliest are the options that see everything.
func earliest(topic string) pubsub.SubscribeOptions {
	return pubsub.SubscribeOptions{Topic: topic, Earliest: true}
}
