//go:build servers

package rabbitmq_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/outrigger-mesh/outrigger/components"
	"github.com/outrigger-mesh/outrigger/components/componenttest"
	"github.com/outrigger-mesh/outrigger/components/internal/backend"
	"github.com/outrigger-mesh/outrigger/components/internal/backend/wiretest"
	"github.com/outrigger-mesh/outrigger/components/pubsub"
	"github.com/outrigger-mesh/outrigger/components/pubsub/rabbitmq"
)

// TestAPublicationIsBounded: who waits for a server that says nothing does so for as long as the driver's page says, not for as long as its caller would,
// whether for a confirmation or for a channel.
func TestAPublicationIsBounded(t *testing.T) {
	o := options(t, "RABBITMQ")
	w := wiretest.New(t, o.Addresses[0])
	o.Addresses, o.Heartbeat = []string{w.Addr()}, time.Minute
	d := open(t, o)
	t.Cleanup(func() { componenttest.Close(t, d) })
	rabbitmq.ConfirmWithin(d, time.Second)
	topic := pubsub.Topic{Namespace: componenttest.Caller().App, Name: "t"}
	publish := func() error {
		ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
		defer cancel()
		_, err := d.Publish(ctx, []pubsub.Publication{{Topic: topic, Event: pubsub.Event{ID: "1"}}})
		if ctx.Err() != nil {
			t.Error("it took as long as its caller had")
		}
		return err
	}
	componenttest.Eventually(t, 20*time.Second, publish)
	w.Set(wiretest.Deaf)
	for _, want := range []components.Reason{backend.ReasonOutcomeUnknown, backend.ReasonUnreachable, backend.ReasonUnreachable} {
		var detail *components.Detail
		if err := publish(); !errors.As(err, &detail) || detail.Reason != want || !errors.Is(err, components.ErrUnavailable) {
			t.Errorf("%v; want %s", err, want)
		}
	}
	w.Set(wiretest.Whole)
	componenttest.Eventually(t, 20*time.Second, publish)
}

// TestWhoGivesUpTakesNobodyWithHim: a caller that does not wait for its answer has the channel replaced, on which others go on waiting for theirs.
func TestWhoGivesUpTakesNobodyWithHim(t *testing.T) {
	o := options(t, "RABBITMQ")
	w := wiretest.New(t, o.Addresses[0])
	o.Addresses, o.Heartbeat = []string{w.Addr()}, time.Minute
	d := open(t, o)
	t.Cleanup(func() { componenttest.Close(t, d) })
	rabbitmq.ConfirmWithin(d, time.Minute)
	topic := pubsub.Topic{Namespace: componenttest.Caller().App, Name: "t"}
	publish := func(ctx context.Context) error {
		_, err := d.Publish(ctx, []pubsub.Publication{{Topic: topic, Event: pubsub.Event{ID: "1"}}})
		return err
	}
	componenttest.Eventually(t, 20*time.Second, func() error { return publish(t.Context()) })
	w.Set(wiretest.Stalled)
	var others sync.WaitGroup
	for range 20 {
		others.Go(func() {
			if err := publish(t.Context()); err != nil {
				t.Error(err)
			}
		})
	}
	componenttest.Eventually(t, 20*time.Second, func() error {
		if n := rabbitmq.Sent(d); n < 21 {
			return fmt.Errorf("%d are sent", n)
		}
		return nil
	})
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	if err := publish(ctx); !errors.Is(err, context.DeadlineExceeded) {
		t.Error(err)
	}
	w.Set(wiretest.Whole)
	others.Wait()
	if err := publish(t.Context()); err != nil {
		t.Error(err)
	}
}

// TestATopicThatIsDeleted under those who publish to it, in parallel and through two sidecars, is made anew: all that was published since, and
// answered, is in it.
func TestATopicThatIsDeleted(t *testing.T) {
	for _, kind := range kinds {
		t.Run(strings.ToLower(kind), func(t *testing.T) { aTopicIsDeleted(t, kind) })
	}
}

func aTopicIsDeleted(t *testing.T, kind string) {
	topic := pubsub.Topic{Namespace: componenttest.Caller().App, Name: "t"}
	var (
		mu      sync.Mutex
		deleted int // times
		acked   = map[string]bool{}
		enough  = make(chan struct{}, 1)
	)
	ctx, end := context.WithCancel(t.Context())
	defer end()
	var workers sync.WaitGroup
	o := options(t, kind)
	d := open(t, o)
	t.Cleanup(func() { componenttest.Close(t, d) })
	slices.Reverse(o.Addresses) // another node of a cluster
	other := open(t, o)
	t.Cleanup(func() { componenttest.Close(t, other) })
	for i := range 8 {
		through := []pubsub.Driver{d, other}[i%2]
		workers.Go(func() {
			for n := 0; ctx.Err() == nil; n++ {
				mu.Lock()
				began := deleted
				mu.Unlock()
				var all []pubsub.Publication
				for j := range 1 + n%3 {
					all = append(all, pubsub.Publication{Topic: topic, Event: pubsub.Event{ID: fmt.Sprintf("%d.%d.%d", i, n, j)}})
				}
				if _, err := through.Publish(ctx, all); err != nil {
					if ctx.Err() == nil && !errors.Is(err, components.ErrUnavailable) {
						t.Errorf("%v", err)
					}
					continue
				}
				mu.Lock()
				for _, p := range all {
					if began == deleted { // else it may have been before
						acked[p.Event.ID] = true
					}
				}
				if len(acked) >= 200 {
					select {
					case enough <- struct{}{}:
					default:
					}
				}
				mu.Unlock()
			}
		})
	}
	for range 5 {
		<-enough
		if err := rabbitmq.DeleteTopic(t.Context(), d, topic); err != nil {
			t.Error(err)
		}
		mu.Lock()
		deleted++
		clear(acked)
		mu.Unlock()
		select {
		case <-enough:
		default:
		}
	}
	select {
	case <-enough:
	case <-time.After(time.Minute):
		t.Fatal("nothing is published any more")
	}
	end()
	workers.Wait()
	s, err := d.Subscribe(t.Context(), pubsub.Subscription{Topic: topic, Group: "new", Earliest: true})
	if err != nil {
		t.Fatal(err)
	}
	reading, stop := context.WithTimeout(t.Context(), 30*time.Second)
	defer stop()
	for len(acked) > 0 {
		all, err := s.Fetch(reading, pubsub.Room{Messages: 100, Bytes: 1 << 20})
		if err != nil {
			t.Fatalf("%d are lost", len(acked))
		}
		var settled []pubsub.Settlement
		for _, m := range all {
			delete(acked, m.Event.ID)
			settled = append(settled, pubsub.Settlement{Position: m.Position, Outcome: pubsub.Done})
		}
		if err := s.Settle(t.Context(), settled); err != nil {
			t.Fatal(err)
		}
	}
	if err := s.Close(t.Context()); err != nil {
		t.Error(err)
	}
}
