//go:build servers

package redis_test

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"time"

	library "github.com/redis/go-redis/v9"
	"go.uber.org/goleak"

	"github.com/outrigger-mesh/outrigger/components"
	"github.com/outrigger-mesh/outrigger/components/componenttest"
	"github.com/outrigger-mesh/outrigger/components/internal/backend/wiretest"
	"github.com/outrigger-mesh/outrigger/components/internal/redisconn/redistest"
	"github.com/outrigger-mesh/outrigger/components/pubsub"
	"github.com/outrigger-mesh/outrigger/components/pubsub/pubsubtest"
	"github.com/outrigger-mesh/outrigger/components/pubsub/redis"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func options(t testing.TB, kind string) redis.Options {
	o, _ := pubsub.Drivers.Defaults("redis")
	options := o.(redis.Options)
	options.Redis = redistest.Options(t, kind)
	return options
}

func open(t testing.TB, env components.Env, o redis.Options) pubsub.Driver {
	t.Helper()
	if err := o.Validate(); err != nil {
		t.Fatal(err)
	}
	d, err := redis.Open(context.WithoutCancel(t.Context()), env, o)
	if err != nil {
		t.Fatal(err)
	}
	return d
}

func TestConformance(t *testing.T) {
	for _, kind := range redistest.All {
		t.Run(kind, func(t *testing.T) {
			env := redistest.Env(t)
			pubsubtest.Run(t, func(t *testing.T) pubsubtest.Opener {
				return func(t *testing.T, p pubsub.Policy) pubsub.Driver {
					o := options(t, kind)
					o.Delivery = p
					return open(t, env, o)
				}
			})
		})
	}
}

// one is a driver behind its front, in a namespace of its own.
func one(t *testing.T, env components.Env, o redis.Options) (*pubsub.PubSub, components.Caller) {
	t.Helper()
	d := open(t, env, o)
	t.Cleanup(func() { componenttest.Close(t, d) })
	return pubsub.New(componenttest.Component("pubsub", d), pubsub.Options{}), components.Caller{Namespace: "test-" + strings.ToLower(rand.Text()[:8]), App: "app"}
}

func subscribe(t *testing.T, p *pubsub.PubSub, c components.Caller) *pubsub.Stream {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	t.Cleanup(cancel)
	s, err := p.Subscribe(ctx, c, pubsub.SubscribeOptions{Topic: "t"})
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Grant(1000, 0); err != nil {
		t.Fatal(err)
	}
	return s
}

func publish(t *testing.T, p *pubsub.PubSub, c components.Caller, text string) {
	t.Helper()
	if _, err := p.Publish(t.Context(), c, pubsub.NewEvent{Topic: "t", Event: pubsub.Event{Data: []byte(text), OrderingKey: "k"}}); err != nil {
		t.Fatal(err)
	}
}

// next is the one delivery that comes.
func next(t *testing.T, s *pubsub.Stream, text string, attempt int) pubsub.Delivery {
	t.Helper()
	all, err := s.Next()
	if err != nil {
		t.Fatal(err)
	}
	if len(all) != 1 || string(all[0].Event.Data) != text || all[0].Attempt != attempt {
		t.Fatalf("came %d, the first %q, attempt %d; want %q, attempt %d", len(all), all[0].Event.Data, all[0].Attempt, text, attempt)
	}
	return all[0]
}

func want(t *testing.T, s *pubsub.Stream, text string, attempt int) {
	t.Helper()
	if err := s.Ack(next(t, s, text, attempt).ID); err != nil {
		t.Fatal(err)
	}
}

// A server that has lost its data is told of the group again, which is said once, and goes on with what is published then.
func TestAGroupThatTheServerHasLostIsMadeAgain(t *testing.T) {
	o, env := options(t, "redis"), redistest.Env(t)
	var log lines
	env.Logger = slog.New(slog.NewTextHandler(&log, nil))
	o.SessionTimeout = 300 * time.Millisecond
	p, c := one(t, env, o)
	s := subscribe(t, p, c)
	publish(t, p, c, "before")
	want(t, s, "before", 1)
	client := redistest.Open(t, o.Redis).Redis()
	for _, key := range client.Keys(t.Context(), o.Redis.Keys("pubsub", env.ID.Name)+"*").Val() {
		if err := client.Del(t.Context(), key).Err(); err != nil {
			t.Fatal(err)
		}
	}
	time.Sleep(3 * o.SessionTimeout) // some tries
	publish(t, p, c, "after")
	want(t, s, "after", 1)
	s.Close()
	if n := strings.Count(log.String(), "lost a group"); n != 1 {
		t.Errorf("it is said %d times:\n%s", n, log.String())
	}
}

// A replica that takes over may not have heard that events were settled: they come again, as does what waits behind them, though their consumer is well.
func TestWhatTheServerHasForgottenIsDeliveredAgain(t *testing.T) {
	o, env := options(t, "redis"), redistest.Env(t)
	var log lines
	env.Logger = slog.New(slog.NewTextHandler(&log, nil))
	o.SessionTimeout = 900 * time.Millisecond
	p, c := one(t, env, o)
	s := subscribe(t, p, c)
	publish(t, p, c, "x")
	publish(t, p, c, "y")
	x := next(t, s, "x", 1)
	client := redistest.Open(t, o.Redis).Redis()
	kept := map[string]string{}
	for _, key := range client.Keys(t.Context(), o.Redis.Keys("pubsub", env.ID.Name)+"*").Val() {
		kept[key] = client.Dump(t.Context(), key).Val()
	}
	if err := s.Ack(x.ID); err != nil {
		t.Fatal(err)
	}
	y := next(t, s, "y", 1) // so it has heard of x
	for key, value := range kept {
		if err := client.RestoreReplace(t.Context(), key, 0, value).Err(); err != nil {
			t.Fatal(err)
		}
	}
	if err := s.Ack(y.ID); err != nil { // of which it knows nothing any more
		t.Fatal(err)
	}
	want(t, s, "x", 2)
	want(t, s, "y", 1)
	quiet(t, p, c, s)
	s.Close()
	if n := strings.Count(log.String(), "has forgotten"); n != 1 {
		t.Errorf("it is said %d times:\n%s", n, log.String())
	}
}

// A comparison that was long on its way, and was made once more meanwhile, knows nothing of what has been delivered since.
func TestAComparisonThatComesLateTakesNothing(t *testing.T) {
	o, env := options(t, "redis"), redistest.Env(t)
	d := open(t, env, o)
	t.Cleanup(func() { componenttest.Close(t, d) })
	p, c := pubsub.New(componenttest.Component("pubsub", d), pubsub.Options{}), components.Caller{Namespace: "test-" + strings.ToLower(rand.Text()[:8]), App: "app"}
	s := subscribe(t, p, c)
	client := redistest.Open(t, o.Redis).Redis()
	asked := client.Time(t.Context()).Val().UnixMilli() - 1 // before all that comes, though the server counts in milliseconds
	publish(t, p, c, "x")
	next(t, s, "x", 1)
	topic := pubsub.Topic{Namespace: c.Namespace, Name: "t"}
	consumer := client.ZRange(t.Context(), o.Redis.Keys("pubsub", env.ID.Name)+"g/{"+c.Namespace+"/t}\x00"+c.String()+"/c", 0, -1).Val()[0]
	if back, err := redis.Compare(t.Context(), d, topic, c.String(), consumer, asked); back != 0 || err != nil {
		t.Errorf("%d were taken back, %v", back, err)
	}
	if back, err := redis.Compare(t.Context(), d, topic, c.String(), consumer, asked+time.Hour.Milliseconds()); back != 1 || err != nil { // there was something to take
		t.Errorf("%d were taken back, %v", back, err)
	}
	want(t, s, "x", 2)
	s.Close()
}

func TestAServerThatForgetsIsRefused(t *testing.T) {
	o, env := options(t, "redis"), redistest.Env(t)
	client := redistest.Open(t, o.Redis).Redis()
	set := func(value string) {
		if err := client.ConfigSet(t.Context(), "appendfsync", value).Err(); err != nil {
			t.Fatal(err)
		}
	}
	set("everysec")
	defer set("always")
	if _, err := redis.Open(t.Context(), env, o); !errors.Is(err, components.ErrPrecondition) || !strings.Contains(err.Error(), "appendfsync") {
		t.Errorf("it is taken: %v", err)
	}
	o.AllowLoss = true
	componenttest.Close(t, open(t, env, o))
}

// lines is a log that many write.
type lines struct {
	mu   sync.Mutex
	text strings.Builder
}

func (l *lines) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.Write(p)
}

func (l *lines) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.String()
}

func zero(member string) library.Z { return library.Z{Member: member} }

// A consumer that is not heard of loses what it has, which counts as an attempt; what it says then means nothing.
func TestWhoIsNotHeardOfLosesWhatItHas(t *testing.T) {
	o, env := options(t, "redis"), redistest.Env(t)
	o.SessionTimeout = 900 * time.Millisecond
	p, c := one(t, env, o)
	first := subscribe(t, p, c)
	publish(t, p, c, "x")
	all, err := first.Next()
	if err != nil {
		t.Fatal(err)
	}
	client := redistest.Open(t, o.Redis).Redis()
	base := o.Redis.Keys("pubsub", env.ID.Name) + "g/{" + c.Namespace + "/t}\x00" + c.String() + "/c"
	for _, name := range client.ZRange(t.Context(), base, 0, -1).Val() { // as if it was frozen
		if err := client.ZAdd(t.Context(), base, zero(name)).Err(); err != nil {
			t.Fatal(err)
		}
	}
	second := subscribe(t, p, c)
	publish(t, p, c, "y")
	d := next(t, second, "x", 2)
	if err := first.Ack(all[0].ID); err != nil { // too late: it would free y
		t.Fatal(err)
	}
	first.Close()
	quiet(t, p, c, second)
	if err := second.Ack(d.ID); err != nil {
		t.Fatal(err)
	}
	want(t, second, "y", 1)
	second.Close()
}

// quiet fails if anything comes before an event of another key that is published now.
func quiet(t *testing.T, p *pubsub.PubSub, c components.Caller, s *pubsub.Stream) {
	t.Helper()
	if _, err := p.Publish(t.Context(), c, pubsub.NewEvent{Topic: "t", Event: pubsub.Event{Data: []byte("other"), OrderingKey: "other"}}); err != nil {
		t.Fatal(err)
	}
	want(t, s, "other", 1)
}

// What a stream had when the group was moved means nothing any more, also where the same comes to it once more.
func TestWhatWasHeldBeforeAReplayIsOver(t *testing.T) {
	o, env := options(t, "redis"), redistest.Env(t)
	p, c := one(t, env, o)
	s := subscribe(t, p, c)
	publish(t, p, c, "x")
	held := next(t, s, "x", 1)
	again, err := p.Subscribe(t.Context(), c, pubsub.SubscribeOptions{Topic: "t", ReplayFrom: time.Now().Add(-time.Hour)})
	if err != nil {
		t.Fatal(err)
	}
	next(t, s, "x", 1)
	if err := s.Ack(held.ID); err != nil {
		t.Fatal(err)
	}
	s.Close()
	if err := again.Grant(10, 0); err != nil {
		t.Fatal(err)
	}
	want(t, again, "x", 2)
	again.Close()
}

// What was taken by a call whose answer is lost comes with the next one, and is not counted twice.
func TestAnswersThatAreLostLoseNoEvent(t *testing.T) {
	o, env := options(t, "redis"), redistest.Env(t)
	direct := redistest.Open(t, o.Redis).Redis()
	q, c := one(t, env, o)
	wire := wiretest.New(t, o.Redis.Addresses[0])
	o.Redis.Addresses, o.Redis.Timeout, o.SessionTimeout = []string{wire.Addr()}, 300*time.Millisecond, 3*time.Second
	p, _ := one(t, env, o)
	s := subscribe(t, p, c)
	stream := o.Redis.Keys("pubsub", env.ID.Name) + "s/{" + c.Namespace + "/t}"
	pending := func(want int64) bool {
		for end := time.Now().Add(o.SessionTimeout / 2); time.Now().Before(end); time.Sleep(time.Millisecond) {
			if got := direct.XPending(t.Context(), stream, c.String()).Val(); got != nil && got.Count == want {
				return true
			}
		}
		return false
	}
	for round := range 10 {
		text := fmt.Sprint(round)
		var reading sync.WaitGroup
		reading.Go(func() { want(t, s, text, 1) })
		time.Sleep(20 * time.Millisecond) // so that it waits
		wire.Set(wiretest.Deaf)
		publish(t, q, c, text)
		taken := pending(1) // unless the call that was on its way did not find it yet
		wire.Set(wiretest.Whole)
		reading.Wait()
		if pending(0); taken {
			s.Close()
			return
		}
	}
	t.Error("no call has taken an event and lost its answer")
}
