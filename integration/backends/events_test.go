package backends_test

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/outrigger-mesh/outrigger/integration/harness"
	commonpb "github.com/outrigger-mesh/outrigger/proto/outrigger/common/v1"
	pubsubpb "github.com/outrigger-mesh/outrigger/proto/outrigger/pubsub/v1"
	client "github.com/outrigger-mesh/outrigger/sdk/go"
)

// events is a load of pub/sub: workers publish numbers, each under its key, and subscribers of one group handle them.
type events struct {
	*load
	topic string
	ended context.Context
	subs  sync.WaitGroup

	mu      sync.Mutex
	acked   map[string]bool // KEY/NUMBER
	handled map[string]int
	newest  map[string]int // by key: the highest number that a handler was given
	faults  []string       // of order
}

func newEvents(t *testing.T, topic string) *events {
	ended, end := context.WithCancel(context.Background())
	e := &events{load: newLoad(t), topic: topic, ended: ended, acked: map[string]bool{}, handled: map[string]int{}, newest: map[string]int{}}
	t.Cleanup(func() { end(); e.subs.Wait() })
	return e
}

// publish has some publish through a sidecar.
func (e *events) publish(s *harness.Sidecar, publishers int) {
	api := s.Client().PubSub("")
	harness.Eventually(e.t, patience, func() error {
		_, err := api.Publish(e.ctx, e.topic, client.Event{Data: []byte("0"), OrderingKey: "first"})
		return err
	})
	for i := range publishers {
		key, n := fmt.Sprintf("%d-%d", s.PID(), i), 0
		e.worker(func(ctx context.Context) error {
			n++
			_, err := api.Publish(ctx, e.topic, client.Event{Data: []byte(strconv.Itoa(n)), OrderingKey: key})
			if err == nil {
				e.mu.Lock()
				e.acked[key+"/"+strconv.Itoa(n)] = true
				e.mu.Unlock()
			}
			return err
		})
	}
}

// subscribe has a subscriber at a sidecar, in the one group of all. Who has it leave waits for its end.
func (e *events) subscribe(s *harness.Sidecar) (leave func()) {
	ctx, cancel := context.WithCancel(e.ended)
	api := s.Client().PubSub("")
	done := make(chan struct{})
	e.subs.Go(func() {
		defer close(done)
		_ = api.Subscribe(ctx, e.topic, client.SubscribeOptions{Group: "load", Earliest: true}, e.handle)
	})
	return func() { cancel(); <-done }
}

func (e *events) handle(_ context.Context, event client.Event) error {
	key, n := event.OrderingKey, string(event.Data)
	number, _ := strconv.Atoi(n)
	e.mu.Lock()
	defer e.mu.Unlock()
	e.handled[key+"/"+n]++
	for missing := e.newest[key] + 1; missing < number; missing++ {
		if at := key + "/" + strconv.Itoa(missing); e.acked[at] && e.handled[at] == 0 {
			e.faults = append(e.faults, fmt.Sprintf("%s came after %s", at, n))
		}
	}
	e.newest[key] = max(e.newest[key], number)
	return nil
}

// more waits until so many more are handled.
func (e *events) more(n int) {
	e.t.Helper()
	count := func() int { e.mu.Lock(); defer e.mu.Unlock(); return len(e.handled) }
	from := count()
	harness.Eventually(e.t, patience, func() error {
		if got := count() - from; got < n {
			return fmt.Errorf("%d of %d were handled", got, n)
		}
		return nil
	})
}

// finish stops the publishers, waits until all that was acknowledged was handled, and answers how many those are, and how many
// came more than once.
func (e *events) finish() (acked, repeated int) {
	e.t.Helper()
	e.end()
	e.delivered()
	e.mu.Lock()
	defer e.mu.Unlock()
	if len(e.faults) > 0 {
		e.t.Errorf("out of order: %d, such as %s", len(e.faults), e.faults[0])
	}
	for _, n := range e.handled {
		if n > 1 {
			repeated++
		}
	}
	return len(e.acked), repeated
}

// delivered waits until all that has been acknowledged is handled, for as long as some of it comes, and answers how much does not: nothing, or the test
// fails.
func (e *events) delivered() (lost int) {
	e.t.Helper()
	e.mu.Lock()
	missing := slices.Collect(maps.Keys(e.acked))
	e.mu.Unlock()
	for before := -1; before != 0; before = len(missing) {
		harness.Eventually(e.t, patience, func() error {
			e.mu.Lock()
			defer e.mu.Unlock()
			missing = slices.DeleteFunc(missing, func(at string) bool { return e.handled[at] > 0 })
			if len(missing) == before {
				slices.Sort(missing)
				return fmt.Errorf("%d are lost: %v ...", len(missing), missing[:min(len(missing), 10)])
			}
			return nil
		})
	}
	return len(missing)
}

// eventFaults has faults happen under a load that two sidecars publish and handle: what was acknowledged is delivered, in the order of its key.
// Where one of several servers has them, they are outlived. It answers how many came more than once.
func eventFaults(t *testing.T, name string, one, two *harness.Sidecar, happens func(*load, fault) func() string, faults ...fault) (repeated int) {
	t.Helper()
	e := newEvents(t, "load")
	e.subscribe(one)
	e.subscribe(two)
	e.publish(one, 4)
	e.publish(two, 4)
	e.more(300)
	before := running(t, one, two)
	t.Cleanup(func() {
		if t.Failed() {
			fmt.Printf("%s failed; the sidecars said\n%s\n%s\n", name, one.Output(), two.Output())
		}
	})
	for _, f := range faults {
		said := happens(e.load, f)
		whole := time.Now()
		e.more(300)
		handled := time.Since(whole)
		e.came(name+" "+f.name, func() string { return fmt.Sprintf("%s, 300 more handled %.1f s later", said(), handled.Seconds()) }, e.delivered(), before, one, two)
	}
	acked, repeated := e.finish()
	fmt.Printf("%s: acked %d lost 0 | repeated %d\n", strings.TrimSuffix(name, ","), acked, repeated)
	return repeated
}

// consumer is a stream that is spoken by hand.
type consumer struct {
	t      *testing.T
	stream pubsubpb.PubSub_SubscribeClient
	came   chan *pubsubpb.SubscribeResponse_Delivery
}

// consume joins the group g of the topic t, with much time for each delivery.
func consume(t *testing.T, s *harness.Sidecar) *consumer {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	t.Cleanup(cancel)
	stream, err := pubsubpb.NewPubSubClient(s.Client().API()).Subscribe(ctx)
	check(t, err)
	start := &pubsubpb.SubscribeRequest_Start{Topic: "t", Group: "g", AckDeadline: durationpb.New(time.Hour), Credit: &commonpb.Credit{Messages: 1000}}
	check(t, stream.Send(&pubsubpb.SubscribeRequest{Message: &pubsubpb.SubscribeRequest_Start_{Start: start}}))
	_, err = stream.Recv()
	check(t, err)
	c := &consumer{t, stream, make(chan *pubsubpb.SubscribeResponse_Delivery, 1000)}
	go func() {
		defer close(c.came)
		for {
			in, err := stream.Recv()
			if err != nil {
				return
			}
			if d := in.GetDelivery(); d != nil {
				c.came <- d
			}
		}
	}()
	return c
}

func (c *consumer) next() *pubsubpb.SubscribeResponse_Delivery {
	c.t.Helper()
	select {
	case d, ok := <-c.came:
		if !ok {
			c.t.Fatal("the stream has ended")
		}
		return d
	case <-time.After(patience):
		c.t.Fatal("nothing comes")
		return nil
	}
}

// want is next, and checks what it is.
func (c *consumer) want(text string, attempt int32) *pubsubpb.SubscribeResponse_Delivery {
	c.t.Helper()
	d := c.next()
	if got := string(d.GetEvent().GetData()); got != text || d.GetAttempt() != attempt {
		c.t.Fatalf("came %q, attempt %d; want %q, attempt %d", got, d.GetAttempt(), text, attempt)
	}
	return d
}

func (c *consumer) nothing(length time.Duration) {
	c.t.Helper()
	select {
	case d := <-c.came:
		c.t.Errorf("%q came, attempt %d", d.GetEvent().GetData(), d.GetAttempt())
	case <-time.After(length):
	}
}

// ack gives the credit back, too, since a long test would use it up.
func (c *consumer) ack(d *pubsubpb.SubscribeResponse_Delivery) {
	c.t.Helper()
	check(c.t, c.stream.Send(&pubsubpb.SubscribeRequest{Message: &pubsubpb.SubscribeRequest_Credit{Credit: &commonpb.Credit{Messages: 1}}}))
	check(c.t, c.stream.Send(&pubsubpb.SubscribeRequest{Message: &pubsubpb.SubscribeRequest_Ack{Ack: &commonpb.Ack{DeliveryIds: []string{d.GetDeliveryId()}}}}))
}

func (c *consumer) nack(d *pubsubpb.SubscribeResponse_Delivery, delay time.Duration) {
	c.t.Helper()
	check(c.t, c.stream.Send(&pubsubpb.SubscribeRequest{Message: &pubsubpb.SubscribeRequest_Nack{
		Nack: &commonpb.Nack{DeliveryId: d.GetDeliveryId(), Delay: durationpb.New(delay)}}}))
}

func publish(t *testing.T, s *harness.Sidecar, key string, texts ...string) {
	t.Helper()
	for _, text := range texts {
		_, err := s.Client().PubSub("").Publish(t.Context(), "t", client.Event{Data: []byte(text), OrderingKey: key})
		check(t, err)
	}
}

func check(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// keptBy is when a busy machine, too, has kept what drivers keep ten times a second, in two rounds at most.
const keptBy = 1500 * time.Millisecond

// killedSidecar has a sidecar killed, and another go on with its events: those that were given back keep their attempts and their
// delay, and hold up their key; what was acknowledged does not come again. gone is how long the back end takes to miss it.
func killedSidecar(t *testing.T, name string, gone time.Duration, one, two *harness.Sidecar) {
	t.Helper()
	c := consume(t, one)
	publish(t, two, "k", "slow")
	c.nack(c.want("slow", 1), 0)
	delay := gone + 3*time.Second
	slow := c.want("slow", 2)
	begin := time.Now()
	c.nack(slow, delay)
	publish(t, two, "l", "held")
	c.want("held", 1)
	publish(t, two, "k", "behind")
	publish(t, two, "m", "1", "2", "3")
	for _, text := range []string{"1", "2", "3"} {
		c.ack(c.want(text, 1))
	}
	time.Sleep(keptBy) // what is settled
	one.Kill()
	killed := time.Now()
	other := consume(t, two)
	var took, passed time.Duration
	for attempts := map[string]int32{"held": 2, "slow": 3}; len(attempts) > 0; { // a busy machine may not be done with the first before the second is due
		d := other.next()
		text := string(d.GetEvent().GetData())
		if want, waits := attempts[text]; !waits || d.GetAttempt() != want {
			t.Fatalf("came %q, attempt %d; want of %v", text, d.GetAttempt(), attempts)
		}
		if delete(attempts, text); text == "held" {
			took = time.Since(killed)
		} else {
			passed = time.Since(begin)
		}
		other.ack(d)
	}
	if passed < delay {
		t.Errorf("it came again after %s, before its delay of %s", passed, delay)
	}
	other.ack(other.want("behind", 1))
	other.nothing(500 * time.Millisecond)
	fmt.Printf("%s kill -9 of a sidecar: another has its events after %.1f s (of %s) | a delay of %s was %.1f s\n", name, took.Seconds(), gone, delay, passed.Seconds())
}

// frozenSidecar has a sidecar frozen: another goes on with its events, and what the first one says of them afterwards means nothing.
func frozenSidecar(t *testing.T, name string, gone time.Duration, one, two *harness.Sidecar) {
	t.Helper()
	c := consume(t, one)
	publish(t, two, "l", "held")
	stale := c.want("held", 1)
	time.Sleep(keptBy) // that it was tried
	one.Freeze()
	began := time.Now()
	other := consume(t, two)
	held := other.want("held", 2)
	took := time.Since(began)
	one.Signal(syscall.SIGCONT)
	c.ack(stale)
	publish(t, two, "l", "behind")
	other.nothing(time.Second)
	c.nothing(time.Second)
	other.ack(held)
	select { // whoever has it now
	case d := <-c.came:
		c.ack(d)
	case d := <-other.came:
		other.ack(d)
	case <-time.After(patience):
		t.Fatal("what is behind it does not come")
	}
	other.nothing(500 * time.Millisecond)
	c.nothing(500 * time.Millisecond)
	fmt.Printf("%s frozen sidecar: another has its events after %.1f s (of %s), and what it says of them then means nothing\n", name, took.Seconds(), gone)
}

// comeAndGo has the subscribers of two sidecars come and go under load, in an orderly way: nothing is lost, and nothing comes twice but
// what was under way.
func comeAndGo(t *testing.T, name string, one, two *harness.Sidecar) {
	t.Helper()
	e := newEvents(t, "load")
	leave := e.subscribe(one)
	e.publish(one, 4)
	e.more(200)
	for range 3 {
		other := e.subscribe(two)
		e.more(200)
		leave()
		leave = e.subscribe(one)
		e.more(200)
		other()
		e.more(200)
	}
	acked, repeated := e.finish()
	fmt.Printf("%s, sidecars come and go: acked %d lost 0 | repeated %d\n", name, acked, repeated)
	if repeated > 0 {
		t.Errorf("%d came more than once, and none was under way when its stream ended; the sidecars said\n%s\n%s", repeated, one.Output(), two.Output())
	}
}
