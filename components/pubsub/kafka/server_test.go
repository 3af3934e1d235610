//go:build servers

package kafka_test

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/IBM/sarama"
	"go.uber.org/goleak"

	"github.com/outrigger-mesh/outrigger/components"
	"github.com/outrigger-mesh/outrigger/components/componenttest"
	"github.com/outrigger-mesh/outrigger/components/internal/backend"
	"github.com/outrigger-mesh/outrigger/components/pubsub"
	"github.com/outrigger-mesh/outrigger/components/pubsub/kafka"
	"github.com/outrigger-mesh/outrigger/components/pubsub/pubsubtest"
)

func TestMain(m *testing.M) {
	goleak.VerifyTestMain(m, goleak.IgnoreTopFunction("github.com/rcrowley/go-metrics.(*meterArbiter).tick"))
}

// at is where a server is that was started for these tests: one of those names, as `integration/servers` has them.
func at(t testing.TB, names ...string) []string {
	t.Helper()
	for _, name := range names {
		if value := os.Getenv("OUTRIGGER_" + name); value != "" {
			return strings.Split(value, ",")
		}
	}
	t.Fatalf("there is no OUTRIGGER_%s: go run ./integration/servers/cmd kafka -- go test -tags servers ./components/pubsub/kafka", names[0])
	return nil
}

func options(t testing.TB) kafka.Options {
	options := componenttest.Defaults[kafka.Options](t, pubsub.Drivers, "kafka")
	options.Addresses = at(t, "KAFKA", "KAFKA_CLUSTER")
	options.Heartbeat, options.SessionTimeout, options.Timeout = 100*time.Millisecond, 3*time.Second, 5*time.Second
	return options
}

func env(t testing.TB) components.Env {
	return components.Env{ID: components.ID{Capability: "pubsub", Name: "default", Driver: "kafka"}, Logger: slog.New(slog.NewTextHandler(t.Output(), nil))}
}

func open(t testing.TB, o kafka.Options) pubsub.Driver {
	t.Helper()
	d, err := kafka.Open(context.WithoutCancel(t.Context()), env(t), o)
	if err != nil {
		t.Fatal(err)
	}
	return d
}

func TestConformance(t *testing.T) {
	pubsubtest.Run(t, func(t *testing.T) pubsubtest.Opener {
		return func(t *testing.T, p pubsub.Policy) pubsub.Driver {
			t.Helper()
			o := options(t)
			o.Delivery = p
			return open(t, o)
		}
	})
}

// deaf is a client that hears nothing of a partition, and does not let go of it either.
type deaf struct {
	sarama.Consumer
	once chan sarama.PartitionConsumer // what it hears nothing by
}

func (d deaf) ConsumePartition(topic string, partition int32, offset int64) (sarama.PartitionConsumer, error) {
	select {
	case p := <-d.once:
		return p, nil
	default:
		return d.Consumer.ConsumePartition(topic, partition, offset)
	}
}

type stuck struct {
	sarama.PartitionConsumer
	messages chan *sarama.ConsumerMessage
	errors   chan *sarama.ConsumerError
}

func (s stuck) Messages() <-chan *sarama.ConsumerMessage { return s.messages }
func (s stuck) Errors() <-chan *sarama.ConsumerError     { return s.errors }
func (stuck) AsyncClose()                                {}
func (stuck) Pause()                                     {}
func (stuck) Resume()                                    {}

// TestAPartitionThatIsNotHeardOf is read anew, over other connections if its client does not let go of it.
func TestAPartitionThatIsNotHeardOf(t *testing.T) {
	o := options(t)
	o.Partitions, o.Timeout = 1, time.Second
	d := open(t, o)
	p := stuck{messages: make(chan *sarama.ConsumerMessage), errors: make(chan *sarama.ConsumerError)}
	once := make(chan sarama.PartitionConsumer, 1)
	once <- p
	kafka.Through(d, func(c sarama.Consumer) sarama.Consumer { return deaf{c, once} })
	topic := pubsub.Topic{Namespace: rand.Text(), Name: "t"}
	s, err := d.Subscribe(t.Context(), pubsub.Subscription{Topic: topic, Group: "g"})
	if err != nil {
		t.Fatal(err)
	}
	for _, id := range []string{"1", "2"} {
		if _, err := d.Publish(t.Context(), []pubsub.Publication{{Topic: topic, Event: pubsub.Event{ID: id}}}); err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithTimeout(t.Context(), 40*time.Second)
		all, err := s.Fetch(ctx, pubsub.Room{Messages: 1, Bytes: 1 << 20})
		if cancel(); err != nil || all[0].Event.ID != id {
			t.Fatalf("%v came, %v", all, err)
		}
		if err := s.Settle(t.Context(), []pubsub.Settlement{{Position: all[0].Position, Outcome: pubsub.Done}}); err != nil {
			t.Fatal(err)
		}
	}
	if err := s.Close(t.Context()); err != nil {
		t.Error(err)
	}
	componenttest.Close(t, d)
	close(p.messages)
	close(p.errors)
}

// sidecar is a driver behind its front, as a process has it.
func sidecar(t *testing.T, o kafka.Options) *pubsub.PubSub {
	t.Helper()
	d := open(t, o)
	t.Cleanup(func() { componenttest.Close(t, d) })
	return pubsub.New(componenttest.Component("pubsub", d), pubsub.Options{})
}

func newCaller() components.Caller {
	return components.Caller{Namespace: "test-" + strings.ToLower(rand.Text()[:8]), App: "app"}
}

// stream subscribes with much credit.
func stream(t *testing.T, p *pubsub.PubSub, c components.Caller, o pubsub.SubscribeOptions) *pubsub.Stream {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	t.Cleanup(cancel)
	s, err := p.Subscribe(ctx, c, o)
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Grant(100_000, 0); err != nil {
		t.Fatal(err)
	}
	return s
}

// next are n deliveries, or as many as come in time.
func next(t *testing.T, s *pubsub.Stream, n int) (all []pubsub.Delivery) {
	t.Helper()
	for len(all) < n {
		some, err := s.Next()
		if err != nil {
			t.Fatalf("after %d of %d: %v", len(all), n, err)
		}
		all = append(all, some...)
	}
	return all
}

func publish(t *testing.T, p *pubsub.PubSub, c components.Caller, topic string, n int) {
	t.Helper()
	for n > 0 {
		all := make([]pubsub.NewEvent, min(n, pubsub.MaxMany))
		for i := range all {
			n--
			all[i] = pubsub.NewEvent{Topic: topic, Event: pubsub.Event{Data: fmt.Append(nil, n)}}
		}
		if _, err := p.PublishMany(t.Context(), c, all); err != nil {
			t.Fatal(err)
		}
	}
}

// What does not fit into the metadata of an offset is kept elsewhere, and found there by the next one who has the partition.
func TestProgressThatIsTooLongIsKeptElsewhere(t *testing.T) {
	o, c := options(t), newCaller()
	o.Partitions, o.Prefix = 1, "long."
	p := sidecar(t, o)
	s := stream(t, p, c, pubsub.SubscribeOptions{Topic: "t"})
	const n = 6000
	publish(t, p, c, "t", n)
	for i, d := range next(t, s, n) {
		switch random := (i*i + i/7) % 13; {
		case random%2 == 0:
			if err := s.Ack(d.ID); err != nil {
				t.Fatal(err)
			}
		default: // the delays make it long
			if err := s.Nack(d.ID, time.Minute+time.Duration(i*random)*time.Millisecond/8); err != nil {
				t.Fatal(err)
			}
		}
	}
	s.Close()
	s = stream(t, sidecar(t, o), c, pubsub.SubscribeOptions{Topic: "t"})
	defer s.Close()
	publish(t, p, c, "t", 1)
	for range 2 { // what is not known to be settled, or to wait, would come before or soon after
		for _, d := range next(t, s, 1) {
			if string(d.Event.Data) != "0" || d.Attempt != 1 {
				t.Fatalf("%s came again, attempt %d", d.Event.Data, d.Attempt)
			}
		}
		publish(t, p, c, "t", 1)
	}
}

// parted opens sidecars on topics of so many partitions.
func parted(partitions int) pubsubtest.Harness {
	return func(t *testing.T) pubsubtest.Opener {
		return func(t *testing.T, p pubsub.Policy) pubsub.Driver {
			o := options(t)
			o.Partitions, o.Delivery = partitions, p
			return open(t, o)
		}
	}
}

func TestAPartitionGoesWhereThereIsRoom(t *testing.T) { pubsubtest.Room(t, parted(1)) }

func TestSidecarsComeAndGoWithDeliveriesUnderWay(t *testing.T) { pubsubtest.ComeAndGo(t, parted(6)) }

// Who is refused is told why, soon, and the password is nowhere.
func TestRefusals(t *testing.T) {
	const canary = "canary-5c1f"
	sasl := func(mechanism, user, password string) func(*kafka.Options) {
		return func(o *kafka.Options) {
			o.Addresses = at(t, "KAFKA_AT_SASL", "KAFKA_CLUSTER_AT_SASL")
			o.SASL = kafka.SASL{Mechanism: mechanism, User: user, Password: components.Secret(password)}
		}
	}
	user, password := at(t, "KAFKA_USER", "KAFKA_CLUSTER_USER")[0], at(t, "KAFKA_PASSWORD", "KAFKA_CLUSTER_PASSWORD")[0]
	limited, hers := at(t, "KAFKA_LIMITED_USER", "KAFKA_CLUSTER_LIMITED_USER")[0], at(t, "KAFKA_LIMITED_PASSWORD", "KAFKA_CLUSTER_LIMITED_PASSWORD")[0]
	ca, tls := at(t, "KAFKA_CA", "KAFKA_CLUSTER_CA")[0], at(t, "KAFKA_AT_TLS", "KAFKA_CLUSTER_AT_TLS")
	for name, c := range map[string]struct {
		change func(*kafka.Options)
		want   string // in the error; empty: none
	}{
		"plain":            {sasl("PLAIN", user, password), ""},
		"scram":            {sasl("SCRAM-SHA-256", user, password), ""},
		"wrong password":   {sasl("PLAIN", user, canary), "refuses"},
		"wrong scram":      {sasl("SCRAM-SHA-256", user, canary), "refuses"},
		"wrong mechanism":  {sasl("SCRAM-SHA-512", user, canary), "refuses"},
		"no permission":    {sasl("PLAIN", limited, hers), "refuses"},
		"tls":              {func(o *kafka.Options) { o.Addresses, o.TLS = tls, backend.TLS{Enabled: true, CA: ca} }, ""},
		"wrong ca":         {func(o *kafka.Options) { o.Addresses, o.TLS = tls, backend.TLS{Enabled: true} }, "certificate"},
		"nobody is there":  {func(o *kafka.Options) { o.Addresses = []string{"127.0.0.1:1"} }, "refused"},
		"plain to a tls":   {func(o *kafka.Options) { o.Addresses = tls }, ""},
		"none to a secret": {func(o *kafka.Options) { o.Addresses = at(t, "KAFKA_AT_SASL", "KAFKA_CLUSTER_AT_SASL") }, ""},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			o, begin := options(t), time.Now()
			c.change(&o)
			d, err := kafka.Open(t.Context(), env(t), o)
			if err == nil {
				defer componenttest.Close(t, d)
				p := pubsub.New(componenttest.Component("pubsub", d), pubsub.Options{})
				_, err = p.Publish(t.Context(), newCaller(), pubsub.NewEvent{Topic: "t"})
			}
			if took := time.Since(begin); took > 5*time.Second {
				t.Errorf("it took %s", took)
			}
			switch plain := strings.HasPrefix(name, "plain to") || strings.HasPrefix(name, "none to"); {
			case c.want == "" && !plain:
				if err != nil {
					t.Error(err)
				}
				return
			case !errors.Is(err, components.ErrUnavailable) || !strings.Contains(err.Error(), c.want) || !strings.Contains(err.Error(), o.Addresses[0]):
				t.Errorf("the error is %v; want %q and %s", err, c.want, o.Addresses[0])
			case strings.Contains(err.Error(), canary) || strings.Contains(err.Error(), hers):
				t.Errorf("the error has the password: %v", err)
			}
			t.Log(err)
		})
	}
}

func client(t *testing.T, o kafka.Options) sarama.Client {
	t.Helper()
	config := sarama.NewConfig()
	config.Version = sarama.V2_8_0_0
	c, err := sarama.NewClient(o.Addresses, config)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c
}

// What the topic does not retain any more is passed over, and the group goes on.
func TestWhatRetentionHasTakenIsPassedOver(t *testing.T) {
	o, c := options(t), newCaller()
	o.Partitions = 1
	p := sidecar(t, o)
	stream(t, p, c, pubsub.SubscribeOptions{Topic: "t"}).Close()
	publish(t, p, c, "t", 10)
	admin, err := sarama.NewClusterAdminFromClient(client(t, o))
	if err != nil {
		t.Fatal(err)
	}
	if err := admin.DeleteRecords(c.Namespace+".t", map[int32]int64{0: 6}); err != nil {
		t.Fatal(err)
	}
	s := stream(t, p, c, pubsub.SubscribeOptions{Topic: "t"})
	defer s.Close()
	for i, d := range next(t, s, 4) {
		if string(d.Event.Data) != fmt.Sprint(3-i) {
			t.Errorf("came %s, want %d", d.Event.Data, 3-i)
		}
	}
}

// A group that other consumers are in is refused at once: they would not understand each other.
func TestAGroupOfOtherConsumersIsRefused(t *testing.T) {
	o, c := options(t), newCaller()
	p := sidecar(t, o)
	publish(t, p, c, "t", 1)
	group, err := sarama.NewConsumerGroupFromClient(c.Namespace+".t:g", client(t, o))
	if err != nil {
		t.Fatal(err)
	}
	defer group.Close()
	ctx, cancel := context.WithCancel(t.Context())
	in := make(chan struct{})
	var consuming sync.WaitGroup
	consuming.Go(func() { _ = group.Consume(ctx, []string{c.Namespace + ".t"}, foreign(in)) })
	defer consuming.Wait()
	defer cancel()
	<-in
	begin := time.Now()
	if _, err := p.Subscribe(t.Context(), c, pubsub.SubscribeOptions{Topic: "t", Group: "g"}); !errors.Is(err, components.ErrPrecondition) || errors.Is(err, components.ErrUnavailable) || time.Since(begin) > 5*time.Second {
		t.Errorf("after %s: %v", time.Since(begin), err)
	}
}

// foreign is a consumer of the library's own kind; it is closed when it is in the group.
type foreign chan struct{}

func (f foreign) Setup(sarama.ConsumerGroupSession) error { close(f); return nil }

func (f foreign) Cleanup(sarama.ConsumerGroupSession) error { return nil }

func (f foreign) ConsumeClaim(s sarama.ConsumerGroupSession, _ sarama.ConsumerGroupClaim) error {
	<-s.Context().Done()
	return nil
}
