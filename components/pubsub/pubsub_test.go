package pubsub_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"

	"github.com/outrigger-mesh/outrigger/components"
	"github.com/outrigger-mesh/outrigger/components/componenttest"
	"github.com/outrigger-mesh/outrigger/components/pubsub"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// fake is a driver of one session that knows nothing of sizes: it answers whatever waits.
type fake struct {
	mu      sync.Mutex
	waiting []pubsub.Message
	news    chan struct{}
	said    []string // settlements
	letters []pubsub.Publication
	fail    error         // of Publish
	stuck   chan struct{} // that Publish waits for, if there is one
	late    bool          // Fetch answers when the stream has ended
	closed  bool
}

func newFake(texts ...string) *fake {
	f := &fake{news: make(chan struct{}, 1)}
	f.add(1, texts...)
	return f
}

func (f *fake) add(attempt int, texts ...string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, text := range texts {
		f.waiting = append(f.waiting, pubsub.Message{Position: text, Attempt: attempt, Event: pubsub.Event{Data: []byte(text)}})
	}
	select {
	case f.news <- struct{}{}:
	default:
	}
}

func (f *fake) Policy() pubsub.Policy {
	return pubsub.Policy{MaxAttempts: 3, MaxDelay: time.Minute, DeadLetterTopic: "dead"}
}

func (f *fake) Publish(_ context.Context, all []pubsub.Publication) ([]pubsub.Result, error) {
	if f.stuck != nil {
		<-f.stuck
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.fail != nil {
		return nil, f.fail
	}
	f.letters = append(f.letters, all...)
	return make([]pubsub.Result, len(all)), nil
}

// keyless has no idempotency keys.
type keyless struct{ *fake }

func (keyless) Offers(f pubsub.Feature) bool { return f != pubsub.Idempotency }

func TestOffers(t *testing.T) {
	for want, d := range map[bool]pubsub.Driver{true: newFake(), false: keyless{newFake()}} {
		if got := pubsub.New(componenttest.Component("pubsub", d), pubsub.Options{}).Offers(t.Context(), pubsub.Idempotency); got != want {
			t.Errorf("%T offers idempotency keys: %v", d, got)
		}
	}
}

func (f *fake) Subscribe(context.Context, pubsub.Subscription) (pubsub.Session, error) { return f, nil }

func (f *fake) Fetch(ctx context.Context, room pubsub.Room) ([]pubsub.Message, error) {
	if f.late {
		<-ctx.Done()
	}
	for {
		f.mu.Lock()
		if n := min(len(f.waiting), room.Messages); n > 0 {
			out := f.waiting[:n]
			f.waiting = f.waiting[n:]
			f.mu.Unlock()
			return out, nil
		}
		f.mu.Unlock()
		select {
		case <-f.news:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
}

func (f *fake) Settle(_ context.Context, all []pubsub.Settlement) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.closed {
		return errors.New("settled after the end")
	}
	for _, s := range all {
		f.said = append(f.said, fmt.Sprintf("%s:%d:%s", s.Position, s.Outcome, s.Delay))
		if s.Outcome == pubsub.Returned {
			f.waiting = append(f.waiting, pubsub.Message{Position: s.Position, Attempt: 1, Event: pubsub.Event{Data: []byte(s.Position)}})
		}
	}
	return nil
}

func (f *fake) Close(context.Context) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.closed = true
	return nil
}

func (f *fake) settled() string {
	f.mu.Lock()
	defer f.mu.Unlock()
	return strings.Join(f.said, " ")
}

// counts are what the front counts.
type counts struct {
	mu  sync.Mutex
	all map[string]int
}

func (c *counts) add(_, outcome string, n int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.all[outcome] += n
}

func open(t *testing.T, f *fake) (*pubsub.Stream, *counts) {
	t.Helper()
	return openWith(t, t.Context(), f)
}

func openWith(t *testing.T, ctx context.Context, f *fake) (*pubsub.Stream, *counts) {
	t.Helper()
	component := components.NewComponent[pubsub.Driver](components.ID{Capability: "pubsub", Name: "default", Driver: "fake"}, components.Limits{}, nil)
	component.Set(f)
	c := &counts{all: map[string]int{}}
	s, err := pubsub.New(component, pubsub.Options{Count: c.add}).Subscribe(ctx, components.Caller{Namespace: "shop", App: "orders"},
		pubsub.SubscribeOptions{Topic: "t", AckDeadline: time.Minute})
	if err != nil {
		t.Fatal(err)
	}
	return s, c
}

func next(t *testing.T, s *pubsub.Stream) pubsub.Delivery {
	t.Helper()
	some, err := s.Next()
	if err != nil || len(some) != 1 {
		t.Fatalf("%d deliveries, %v; want 1", len(some), err)
	}
	return some[0]
}

// TestCreditIsExactWhateverTheDriverAnswers has more bytes come than there is credit for.
func TestCreditIsExactWhateverTheDriverAnswers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFake("12345", "1234567890", "123")
		s, _ := open(t, f)
		defer s.Close()
		grant(t, s, 10, 9)
		if d := next(t, s); string(d.Event.Data) != "12345" {
			t.Fatalf("delivered was %q", d.Event.Data)
		}
		got := make(chan string)
		go func() { got <- string(next(t, s).Event.Data) }()
		synctest.Wait()
		if f.settled() != "1234567890:2:0s 123:2:0s" {
			t.Errorf("settled was %q: what does not fit goes back once, and what is behind it", f.settled())
		}
		grant(t, s, 0, 5)
		synctest.Wait()
		select {
		case d := <-got:
			t.Fatalf("%q was delivered for a byte too few", d)
		default:
		}
		grant(t, s, 0, 1)
		if d := <-got; d != "1234567890" {
			t.Errorf("delivered was %q", d)
		}
	})
}

func grant(t *testing.T, s *pubsub.Stream, messages, bytes int64) {
	t.Helper()
	if err := s.Grant(messages, bytes); err != nil {
		t.Fatal(err)
	}
}

func TestDeadLettersThatCannotBeKeptComeAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFake()
		f.add(3, "x")
		f.fail = components.ErrUnavailable
		s, c := open(t, f)
		defer s.Close()
		grant(t, s, 10, 0)
		if err := s.Nack(next(t, s).ID, 0); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		if f.settled() != "x:1:1s" {
			t.Errorf("settled was %q, want again, later", f.settled())
		}
		f.mu.Lock()
		f.fail = nil
		f.mu.Unlock()
		f.add(4, "x")
		f.add(1, "y")
		if d := next(t, s); string(d.Event.Data) != "y" {
			t.Errorf("delivered was %q, whose attempts are used up", d.Event.Data)
		}
		synctest.Wait()
		if len(f.letters) != 1 || f.letters[0].Topic.Name != "dead" || f.letters[0].Event.Metadata[pubsub.MetaAttempts] != "3" || f.settled() != "x:1:1s x:0:0s" {
			t.Errorf("dead letters %v, settled %q", f.letters, f.settled())
		}
		if c.all[pubsub.CountBuried] != 1 || c.all[pubsub.CountNacked] != 1 || c.all[pubsub.CountDelivered] != 2 {
			t.Errorf("counted was %v", c.all)
		}
	})
}

// TestAFrozenProcessSettlesNothingLate lets time pass of which no timer has told the front yet.
func TestAFrozenProcessSettlesNothingLate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFake("a", "b", "c")
		s, c := open(t, f)
		grant(t, s, 3, 0)
		some, err := s.Next()
		if err != nil || len(some) != 3 {
			t.Fatal(some, err)
		}
		time.Sleep(40 * time.Second)
		for _, err := range []error{s.Extend(some[1].ID), s.Nack(some[2].ID, time.Hour)} {
			if err != nil {
				t.Fatal(err)
			}
		}
		time.Sleep(40 * time.Second)
		if err := s.Ack(some[0].ID, some[1].ID); err != nil {
			t.Fatal(err)
		}
		s.Close()
		if want := "b:3:0s c:1:1m0s a:1:0s b:0:0s"; f.settled() != want {
			t.Errorf("settled was %q, want %q: b was extended, the delay of c is cut, a is too late", f.settled(), want)
		}
		if c.all[pubsub.CountExpired] != 1 || c.all[pubsub.CountAcked] != 1 {
			t.Errorf("counted was %v", c.all)
		}
		if err := s.Ack(some[0].ID); err != nil {
			t.Error("after the end:", err)
		}
	})
}

// TestHeldIsBounded grants more than a stream may hold.
func TestHeldIsBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFake(slices.Repeat([]string{strings.Repeat("x", 1<<20)}, 40)...)
		s, _ := open(t, f)
		defer s.Close()
		grant(t, s, 1<<40, 0)
		var held []pubsub.Delivery
		news := make(chan []pubsub.Delivery, 100)
		go func() {
			for {
				some, err := s.Next()
				if err != nil {
					close(news)
					return
				}
				news <- some
			}
		}()
		for idle := false; !idle; {
			synctest.Wait()
			select {
			case some := <-news:
				held = append(held, some...)
			default:
				idle = true
			}
		}
		if len(held) != 32 {
			t.Fatalf("%d MiB are held, want 32", len(held))
		}
		begun := time.Now()
		if err := s.Ack(held[0].ID); err != nil {
			t.Fatal(err)
		}
		if some := <-news; len(some) != 1 || time.Since(begun) > 0 {
			t.Errorf("%d came for one that was settled, after %s; want 1, at once", len(some), time.Since(begun))
		}
		f.stuck = make(chan struct{})
		if err := s.Reject(held[1].ID, ""); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Minute / 2) // of fake time
		select {
		case some := <-news:
			t.Errorf("%d came while the dead letter of another was being kept", len(some))
		default:
		}
		close(f.stuck)
		if some := <-news; len(some) != 1 {
			t.Errorf("%d came for a dead letter", len(some))
		}
	})
}

// TestWhatDidNotFitIsTriedAgain has another stream take it meanwhile.
func TestWhatDidNotFitIsTriedAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFake("1234567890")
		s, _ := open(t, f)
		defer s.Close()
		grant(t, s, 10, 9)
		got := make(chan string)
		go func() {
			if some, err := s.Next(); err == nil {
				got <- string(some[0].Event.Data)
			}
		}()
		synctest.Wait()
		f.mu.Lock()
		f.waiting = nil
		f.mu.Unlock()
		f.add(1, "123")
		select {
		case d := <-got:
			if d != "123" {
				t.Errorf("delivered was %q", d)
			}
		case <-time.After(time.Minute):
			t.Fatal("nothing was")
		}
	})
}

func TestADeadlineEndsByItself(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFake("x")
		s, c := open(t, f)
		defer s.Close()
		grant(t, s, 2, 0)
		next(t, s)
		time.Sleep(2 * time.Minute)
		synctest.Wait()
		if f.settled() != "x:1:0s" || c.all[pubsub.CountExpired] != 1 {
			t.Errorf("settled was %q, counted %v", f.settled(), c.all)
		}
		f.add(2, "x") // the first after a while
		next(t, s)
		time.Sleep(2 * time.Minute)
		synctest.Wait()
		if f.settled() != "x:1:0s x:1:0s" {
			t.Errorf("settled was %q", f.settled())
		}
	})
}

// TestAStreamThatHasEndedIsGivenNothing has the driver answer just then.
func TestAStreamThatHasEndedIsGivenNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFake("x", "y")
		f.add(4, "z") // its attempts are used up
		f.late = true
		ctx, cancel := context.WithCancel(t.Context())
		s, c := openWith(t, ctx, f)
		grant(t, s, 10, 0)
		ended := make(chan error)
		go func() {
			_, err := s.Next()
			ended <- err
		}()
		synctest.Wait()
		cancel()
		if err := <-ended; !errors.Is(err, context.Canceled) {
			t.Errorf("Next answers %v", err)
		}
		s.Close()
		if want := "x:2:0s y:2:0s z:2:0s"; f.settled() != want || len(f.letters) != 0 {
			t.Errorf("settled was %q, want %q; %d dead letters", f.settled(), want, len(f.letters))
		}
		if len(c.all) != 0 {
			t.Errorf("counted was %v", c.all)
		}
	})
}

// TestDeadlinesHoldWhileTheBackEndIsStuck has nobody look at the clock but the settlement itself.
func TestDeadlinesHoldWhileTheBackEndIsStuck(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFake("a", "b")
		f.stuck = make(chan struct{})
		s, _ := open(t, f)
		grant(t, s, 2, 0)
		some, err := s.Next()
		if err != nil || len(some) != 2 {
			t.Fatal(some, err)
		}
		if err := s.Reject(some[0].ID, ""); err != nil { // its dead letter is stuck
			t.Fatal(err)
		}
		time.Sleep(2 * time.Minute)
		if err := s.Ack(some[1].ID); err != nil {
			t.Fatal(err)
		}
		if f.settled() != "b:1:0s" {
			t.Errorf("settled was %q, want that b comes again", f.settled())
		}
		close(f.stuck)
		s.Close()
	})
}
