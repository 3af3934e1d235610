package client_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	client "github.com/outrigger-mesh/outrigger/sdk/go"
)

// handled collects what a subscription has handled.
type handled struct {
	mu   sync.Mutex
	data []string
}

func (h *handled) add(e client.Event) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.data = append(h.data, fmt.Sprintf("%s/%d", e.Data, e.Attempt))
}

func (h *handled) all() string {
	h.mu.Lock()
	defer h.mu.Unlock()
	return strings.Join(h.data, " ")
}

// subscribe runs a subscription until the function it answers is called, which answers its error.
func subscribe(ctx context.Context, p *client.PubSub, o client.SubscribeOptions, handle func(context.Context, client.Event) error) (end func() error) {
	ctx, cancel := context.WithCancel(ctx)
	ended := make(chan error, 1)
	go func() { ended <- p.Subscribe(ctx, "t", o, handle) }()
	return func() error { cancel(); return <-ended }
}

func becomes(t *testing.T, want string, is func() string) {
	t.Helper()
	for end := time.Now().Add(20 * time.Second); is() != want; time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("it is %q, want %q", is(), want)
		}
	}
}

func TestSubscribeSettles(t *testing.T) {
	w := newWorld()
	f := start(t, w, "127.0.0.1:0")
	p := dial(t, client.WithAddress(f.target)).PubSub("")
	var h handled
	end := subscribe(within(t), p, client.SubscribeOptions{Concurrency: 1}, func(_ context.Context, e client.Event) error {
		h.add(e)
		switch {
		case string(e.Data) == "bad":
			return client.Reject(errors.New("cannot be read"))
		case string(e.Data) == "late" && e.Attempt < 3:
			return errors.New("not yet")
		}
		return nil
	})
	results, err := p.PublishMany(within(t), "t", client.Event{Data: []byte("good")}, client.Event{Data: []byte("x"), OrderingKey: "bad"},
		client.Event{Data: []byte("bad")}, client.Event{Data: []byte("late")})
	if err != nil || results[0].ID == "" || !errors.Is(results[1].Err, client.ErrPrecondition) || results[3].Err != nil {
		t.Fatal(results, err)
	}
	becomes(t, "good/1 bad/1 late/1 late/2 late/3", h.all)
	if err := end(); !errors.Is(err, context.Canceled) {
		t.Error("the subscription ended with", err)
	}
	w.events.mu.Lock()
	defer w.events.mu.Unlock()
	if !slices.Equal(w.events.rejected, []string{"cannot be read"}) || !slices.Equal(w.events.nacks, []time.Duration{100 * time.Millisecond, 200 * time.Millisecond}) {
		t.Error("rejected", w.events.rejected, "nacks", w.events.nacks)
	}
	if left := len(w.events.waiting["t"]); left != 0 {
		t.Errorf("%d events are not settled", left)
	}
}

func TestSubscribeSurvivesARestart(t *testing.T) {
	w := newWorld()
	f := start(t, w, "127.0.0.1:0")
	p := dial(t, client.WithAddress(f.target)).PubSub("")
	var h handled
	lost := make(chan struct{})
	end := subscribe(within(t), p, client.SubscribeOptions{ReplayFrom: time.Unix(1, 0)}, func(ctx context.Context, e client.Event) error {
		h.add(e)
		if string(e.Data) == "long" && e.Attempt == 1 {
			<-ctx.Done() // the event is not ours any more
			close(lost)
		}
		return nil
	})
	publish(t, p, "long")
	becomes(t, "long/1", h.all)
	f.stop()
	<-lost
	start(t, w, f.target)
	becomes(t, "long/1 long/2", h.all)
	publish(t, p, "next")
	becomes(t, "long/1 long/2 next/1", h.all)
	if err := end(); !errors.Is(err, context.Canceled) {
		t.Error("the subscription ended with", err)
	}
	w.events.mu.Lock()
	defer w.events.mu.Unlock()
	if len(w.events.starts) < 2 || w.events.starts[0].GetReplayFrom() == nil || w.events.starts[1].GetReplayFrom() != nil {
		t.Error("the streams began with", w.events.starts)
	}
}

func publish(t *testing.T, p *client.PubSub, data string) {
	t.Helper()
	for end := time.Now().Add(20 * time.Second); ; time.Sleep(10 * time.Millisecond) {
		_, err := p.Publish(within(t), "t", client.Event{Data: []byte(data)})
		if err == nil {
			return
		}
		if time.Now().After(end) {
			t.Fatal(err)
		}
	}
}

func TestSubscribeLeavesASidecarThatDrains(t *testing.T) {
	w := newWorld()
	f := start(t, w, "127.0.0.1:0")
	p := dial(t, client.WithAddress(f.target)).PubSub("")
	var h handled
	goOn := make(chan struct{})
	end := subscribe(within(t), p, client.SubscribeOptions{}, func(_ context.Context, e client.Event) error {
		h.add(e)
		<-goOn
		return nil
	})
	publish(t, p, "x")
	becomes(t, "x/1", h.all)
	close(w.events.draining)
	close(goOn)
	becomes(t, "true", func() string {
		w.events.mu.Lock()
		defer w.events.mu.Unlock()
		return fmt.Sprint(len(w.events.starts) > 1)
	})
	if err := end(); !errors.Is(err, context.Canceled) {
		t.Error("the subscription ended with", err)
	}
	if got := h.all(); got != "x/1" {
		t.Errorf("handled was %q: what was settled while draining came again", got)
	}
}

func TestSubscribeKeepsWhatItHandles(t *testing.T) {
	w := newWorld()
	f := start(t, w, "127.0.0.1:0")
	p := dial(t, client.WithAddress(f.target)).PubSub("")
	goOn := make(chan struct{})
	end := subscribe(within(t), p, client.SubscribeOptions{Concurrency: 1, AckDeadline: 30 * time.Millisecond}, func(context.Context, client.Event) error {
		<-goOn
		return nil
	})
	publish(t, p, "handled")
	publish(t, p, "waits")
	becomes(t, "true true", func() string {
		w.events.mu.Lock()
		defer w.events.mu.Unlock()
		n := 0
		for _, times := range w.events.extended {
			if times > 2 {
				n++
			}
		}
		return fmt.Sprint(len(w.events.extended) == 2, n == 2)
	})
	close(goOn)
	if err := end(); !errors.Is(err, context.Canceled) {
		t.Error("the subscription ended with", err)
	}
}

// A subscription that ends has others handle at once what it has not begun with, however long the handlers under way take.
func TestSubscribeGivesBackWhatItHasNotBegun(t *testing.T) {
	w := newWorld()
	f := start(t, w, "127.0.0.1:0")
	p := dial(t, client.WithAddress(f.target)).PubSub("")
	var h, other handled
	goOn := make(chan struct{})
	ctx, cancel := context.WithCancel(within(t))
	ended := make(chan error)
	go func() {
		ended <- p.Subscribe(ctx, "t", client.SubscribeOptions{Concurrency: 1}, func(_ context.Context, e client.Event) error {
			h.add(e)
			<-goOn
			return nil
		})
	}()
	becomes(t, "1", func() string { w.events.mu.Lock(); defer w.events.mu.Unlock(); return fmt.Sprint(len(w.events.starts)) })
	publish(t, p, "begun")
	publish(t, p, "waits")
	becomes(t, "begun/1 0", func() string {
		w.events.mu.Lock()
		defer w.events.mu.Unlock()
		return h.all() + fmt.Sprintf(" %d", len(w.events.waiting["t"]))
	})
	end := subscribe(within(t), p, client.SubscribeOptions{}, func(_ context.Context, e client.Event) error { other.add(e); return nil })
	cancel()
	becomes(t, "waits/2", other.all)
	publish(t, p, "later")
	becomes(t, "waits/2 later/1", other.all)
	close(goOn)
	if err := <-ended; !errors.Is(err, context.Canceled) {
		t.Error("the subscription ended with", err)
	}
	if err := end(); !errors.Is(err, context.Canceled) || h.all() != "begun/1" || other.all() != "waits/2 later/1" {
		t.Errorf("%v; handled was %q, and %q", err, h.all(), other.all())
	}
}

func TestSubscribeEnds(t *testing.T) {
	f := start(t, newWorld(), "127.0.0.1:0")
	c := dial(t, client.WithAddress(f.target))
	nothing := func(context.Context, client.Event) error { return nil }
	if err := c.PubSub("").Subscribe(within(t), "", client.SubscribeOptions{}, nothing); !errors.Is(err, client.ErrInvalid) {
		t.Error("without a topic:", err)
	}
	ended := make(chan error)
	go func() { ended <- c.PubSub("").Subscribe(within(t), "t", client.SubscribeOptions{}, nothing) }()
	time.Sleep(20 * time.Millisecond) // either it has begun by then or it has not: both end
	if err := c.Close(); err != nil {
		t.Fatal(err)
	}
	if err := <-ended; !errors.Is(err, client.ErrClosed) {
		t.Error("of a client that is closed:", err)
	}
}
