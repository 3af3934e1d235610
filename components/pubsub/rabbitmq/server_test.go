//go:build servers

package rabbitmq_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/outrigger-mesh/outrigger/components"
	"github.com/outrigger-mesh/outrigger/components/componenttest"
	"github.com/outrigger-mesh/outrigger/components/internal/backend"
	"github.com/outrigger-mesh/outrigger/components/internal/backend/wiretest"
	"github.com/outrigger-mesh/outrigger/components/pubsub"
	"github.com/outrigger-mesh/outrigger/components/pubsub/pubsubtest"
	"github.com/outrigger-mesh/outrigger/components/pubsub/rabbitmq"
)

// kinds are the servers that are started for these tests, as in their variables.
var kinds = []string{"RABBITMQ", "RABBITMQ_CLUSTER"}

func options(t testing.TB, kind string) rabbitmq.Options {
	t.Helper()
	out := componenttest.Defaults[rabbitmq.Options](t, pubsub.Drivers, "rabbitmq")
	out.Addresses = strings.Split(os.Getenv("OUTRIGGER_"+kind), ",")
	out.User, out.Password = os.Getenv("OUTRIGGER_"+kind+"_USER"), components.Secret(os.Getenv("OUTRIGGER_"+kind+"_PASSWORD"))
	if out.Addresses[0] == "" {
		t.Fatalf("OUTRIGGER_%s is not set: go run ./integration/servers/cmd rabbitmq rabbitmq-cluster -- go test -tags servers ...", kind)
	}
	return out
}

func open(t testing.TB, o rabbitmq.Options) pubsub.Driver {
	t.Helper()
	env := components.Env{ID: components.ID{Capability: "pubsub", Name: "default", Driver: "rabbitmq"}, Logger: slog.New(slog.DiscardHandler)}
	d, err := rabbitmq.Open(context.WithoutCancel(t.Context()), env, o)
	if err != nil {
		t.Fatal(err)
	}
	return d
}

func TestConformance(t *testing.T) {
	for _, kind := range kinds {
		t.Run(strings.ToLower(kind), func(t *testing.T) {
			t.Parallel()
			pubsubtest.Run(t, func(t *testing.T) pubsubtest.Opener {
				return func(t *testing.T, p pubsub.Policy) pubsub.Driver {
					o := options(t, kind)
					o.Delivery = p
					return open(t, o)
				}
			})
		})
	}
}

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const canary = "canary-4711-secret"

func TestWhoIsRefusedIsToldWhyAndNoSecret(t *testing.T) {
	for name, c := range map[string]struct {
		change func(o *rabbitmq.Options)
		want   string
		reason components.Reason
	}{
		"a wrong password": {func(o *rabbitmq.Options) { o.Password = canary }, "username or password", backend.ReasonRefused},
		"no rights": {func(o *rabbitmq.Options) {
			o.User, o.Password = os.Getenv("OUTRIGGER_RABBITMQ_LIMITED_USER"), components.Secret(os.Getenv("OUTRIGGER_RABBITMQ_LIMITED_PASSWORD"))
		}, "vhost", backend.ReasonRefused},
		"no such vhost": {func(o *rabbitmq.Options) { o.Vhost = "none" }, "vhost", backend.ReasonRefused},
		"nobody there":  {func(o *rabbitmq.Options) { o.Addresses = []string{"127.0.0.1:1"} }, "connection refused", backend.ReasonUnreachable},
	} {
		t.Run(name, func(t *testing.T) {
			o := options(t, "RABBITMQ")
			c.change(&o)
			began := time.Now()
			_, err := rabbitmq.Open(t.Context(), components.Env{ID: components.ID{Name: "default"}, Logger: slog.New(slog.DiscardHandler)}, o)
			var d *components.Detail
			if !errors.As(err, &d) || d.Reason != c.reason || !strings.Contains(err.Error(), c.want) || !strings.Contains(err.Error(), o.Addresses[0]) {
				t.Errorf("%v", err)
			}
			if passed := time.Since(began); passed > 5*time.Second {
				t.Errorf("it took %v", passed)
			}
			for _, secret := range []string{canary, o.Password.Reveal()} {
				if strings.Contains(fmt.Sprintf("%v %+v %#v", err, err, err), secret) {
					t.Error("the password is in the error")
				}
			}
		})
	}
}

// front is a driver behind its front, in a namespace of its own.
func front(t *testing.T, o rabbitmq.Options) (*pubsub.PubSub, components.Caller) {
	t.Helper()
	d := open(t, o)
	t.Cleanup(func() { componenttest.Close(t, d) })
	return pubsub.New(componenttest.Component("pubsub", d), pubsub.Options{}), components.Caller{Namespace: componenttest.Caller().App, App: "app"}
}

func subscribe(ctx context.Context, t *testing.T, p *pubsub.PubSub, c components.Caller) *pubsub.Stream {
	t.Helper()
	s, err := p.Subscribe(ctx, c, pubsub.SubscribeOptions{Topic: "t"})
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Grant(1000, 0); err != nil {
		t.Fatal(err)
	}
	return s
}

func publish(t *testing.T, p *pubsub.PubSub, c components.Caller, key, text string) {
	t.Helper()
	componenttest.Eventually(t, 20*time.Second, func() error {
		ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
		defer cancel()
		_, err := p.Publish(ctx, c, pubsub.NewEvent{Topic: "t", Event: pubsub.Event{ID: text, Data: []byte(text), OrderingKey: key}})
		return err
	})
}

// TestStreamsOutlastTheirConnection: the consumers are made anew when the connection was lost, what was settled and kept does not come again,
// what was under way does, and how often it was tried and until when it waits is known.
func TestStreamsOutlastTheirConnection(t *testing.T) {
	o := options(t, "RABBITMQ")
	w := wiretest.New(t, o.Addresses[0])
	o.Addresses = []string{w.Addr()}
	p, c := front(t, o)
	ctx, end := context.WithCancel(t.Context())
	s := subscribe(ctx, t, p, c)
	came := make(chan pubsub.Delivery, 100)
	var reading sync.WaitGroup
	reading.Go(func() {
		for {
			all, err := s.Next()
			if err != nil {
				return
			}
			for _, d := range all {
				came <- d
			}
		}
	})
	defer func() { end(); reading.Wait(); s.Close() }()
	want := func(text string, attempt int) pubsub.Delivery {
		t.Helper()
		select {
		case d := <-came:
			if string(d.Event.Data) != text || d.Attempt != attempt {
				t.Fatalf("%q came, attempt %d; want %q, attempt %d", d.Event.Data, d.Attempt, text, attempt)
			}
			return d
		case <-time.After(20 * time.Second):
			t.Fatalf("%q does not come", text)
			panic("unreachable")
		}
	}
	for i := range 3 {
		settled, held, slow := fmt.Sprint(i, " settled"), fmt.Sprint(i, " held"), fmt.Sprint(i, " slow")
		publish(t, p, c, "k", settled)
		if err := s.Ack(want(settled, 1).ID); err != nil {
			t.Fatal(err)
		}
		publish(t, p, c, "l", slow)
		const delay = 4 * time.Second
		begun := time.Now()
		if err := s.Nack(want(slow, 1).ID, delay); err != nil {
			t.Fatal(err)
		}
		publish(t, p, c, "k", held)
		first := want(held, 1)
		time.Sleep(300 * time.Millisecond) // three times in which it is kept
		w.Set(wiretest.Cut)
		w.Set(wiretest.Whole)
		again := want(held, 2)
		if err := s.Ack(first.ID); err != nil { // which means nothing any more
			t.Fatal(err)
		}
		publish(t, p, c, "k", fmt.Sprint(i, " behind"))
		select {
		case d := <-came:
			t.Errorf("%q came, attempt %d, before what holds it up was settled", d.Event.Data, d.Attempt)
		case <-time.After(200 * time.Millisecond):
		}
		if err := s.Ack(again.ID); err != nil {
			t.Fatal(err)
		}
		if err := s.Ack(want(fmt.Sprint(i, " behind"), 1).ID); err != nil {
			t.Fatal(err)
		}
		last := want(slow, 2)
		if passed := time.Since(begun); passed < delay {
			t.Errorf("it came again after %s, before its delay of %s", passed, delay)
		}
		if err := s.Ack(last.ID); err != nil {
			t.Fatal(err)
		}
	}
}

// TestAPublicationWhoseAnswerIsLost: nobody knows of it.
func TestAPublicationWhoseAnswerIsLost(t *testing.T) {
	o := options(t, "RABBITMQ")
	w := wiretest.New(t, o.Addresses[0])
	o.Addresses = []string{w.Addr()}
	p, c := front(t, o)
	publish(t, p, c, "", "first")
	w.Set(wiretest.Deaf)
	lost := make(chan error, 1)
	go func() {
		_, err := p.Publish(t.Context(), c, pubsub.NewEvent{Topic: "t", Event: pubsub.Event{Data: []byte("lost")}})
		lost <- err
	}()
	componenttest.Eventually(t, 10*time.Second, func() error {
		if w.Lost() == 0 {
			return errors.New("no answer was lost")
		}
		return nil
	})
	w.Set(wiretest.Whole)
	var d *components.Detail
	if err := <-lost; !errors.As(err, &d) || d.Reason != backend.ReasonOutcomeUnknown {
		t.Errorf("%v", err)
	}
	publish(t, p, c, "", "next")
}

// TestWhatIsHeldIsRenewed: the server takes away what a consumer has for half an hour, with all on its channel. Nothing comes twice, or before what
// it is behind, when parts are given back before that.
func TestWhatIsHeldIsRenewed(t *testing.T) {
	const every = 200 * time.Millisecond
	d := open(t, options(t, "RABBITMQ"))
	t.Cleanup(func() { componenttest.Close(t, d) })
	rabbitmq.RenewEvery(d, every)
	p, c := pubsub.New(componenttest.Component("pubsub", d), pubsub.Options{}), componenttest.Caller()
	ctx, end := context.WithCancel(t.Context())
	s := subscribe(ctx, t, p, c)
	defer func() { end(); s.Close() }()
	publish(t, p, c, "0", "0")
	first, begun := rabbitmq.HeldSince(d), time.Now()
	newest := map[string]int{}
	for n, came := 1, 0; came < 100 || !rabbitmq.HeldSince(d).After(first); n++ { // until each of the parts was had anew
		if time.Since(begun) > time.Minute {
			t.Fatalf("some part was not had anew: %s", time.Since(first))
		}
		publish(t, p, c, fmt.Sprint(n%10), fmt.Sprint(n))
		all, err := s.Next()
		if err != nil {
			t.Fatal(err)
		}
		for _, one := range all {
			number, _ := strconv.Atoi(string(one.Event.Data))
			if key := one.Event.OrderingKey; one.Attempt != 1 || number < newest[key] || number > 0 && number == newest[key] {
				t.Fatalf("%d of key %s came after %d, attempt %d", number, key, newest[key], one.Attempt)
			} else {
				newest[key] = number
			}
			if err := s.Ack(one.ID); err != nil {
				t.Fatal(err)
			}
			if err := s.Grant(1, 0); err != nil {
				t.Fatal(err)
			}
			came++
		}
	}
}

// TestAGroupOfBeforeGoesOn: one that was made when sidecars found each other otherwise is where it was.
func TestAGroupOfBeforeGoesOn(t *testing.T) {
	d := open(t, options(t, "RABBITMQ"))
	t.Cleanup(func() { componenttest.Close(t, d) })
	in := pubsub.Subscription{Topic: pubsub.Topic{Namespace: componenttest.Caller().App, Name: "t"}, Group: "g"}
	next := func(text string, outcome pubsub.Outcome) {
		t.Helper()
		s, err := d.Subscribe(t.Context(), in)
		if err != nil {
			t.Fatal(err)
		}
		defer func() {
			if err := s.Close(t.Context()); err != nil {
				t.Error(err)
			}
		}()
		if text == "" {
			return
		}
		ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
		defer cancel()
		all, err := s.Fetch(ctx, pubsub.Room{Messages: 1, Bytes: 1 << 20})
		if err != nil || string(all[0].Event.Data) != text {
			t.Fatalf("%v came, %v; want %q", all, err, text)
		}
		if err := s.Settle(t.Context(), []pubsub.Settlement{{Position: all[0].Position, Outcome: outcome}}); err != nil {
			t.Fatal(err)
		}
	}
	next("", pubsub.Done)
	for _, text := range []string{"1", "2"} {
		if _, err := d.Publish(t.Context(), []pubsub.Publication{{Topic: in.Topic, Event: pubsub.Event{ID: text, Data: []byte(text), OrderingKey: "k"}}}); err != nil {
			t.Fatal(err)
		}
	}
	next("1", pubsub.Done)
	if err := rabbitmq.AsBefore(t.Context(), d, in); err != nil {
		t.Fatal(err)
	}
	next("2", pubsub.Done)
}
