//go:build servers

package nats_test

import (
	"context"
	"crypto/rand"
	"errors"
	"log/slog"
	"os"
	"strings"
	"testing"
	"time"

	library "github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"go.uber.org/goleak"

	"github.com/outrigger-mesh/outrigger/components"
	"github.com/outrigger-mesh/outrigger/components/componenttest"
	"github.com/outrigger-mesh/outrigger/components/internal/backend"
	"github.com/outrigger-mesh/outrigger/components/pubsub"
	"github.com/outrigger-mesh/outrigger/components/pubsub/nats"
	"github.com/outrigger-mesh/outrigger/components/pubsub/pubsubtest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// kinds are the servers that are started for these tests, as in their variables, with the copies that they can keep.
var kinds = map[string]int{"NATS": 1, "NATS_CLUSTER": 3}

// at is what the environment says of a server, as `integration/servers` has it.
func at(t testing.TB, name string) string {
	t.Helper()
	value := os.Getenv("OUTRIGGER_" + name)
	if value == "" {
		t.Fatalf("there is no OUTRIGGER_%s: go run ./integration/servers/cmd nats nats-cluster -- go test -tags servers ./components/pubsub/nats", name)
	}
	return value
}

func options(t testing.TB, kind string) nats.Options {
	options := componenttest.Defaults[nats.Options](t, pubsub.Drivers, "nats")
	options.Addresses = strings.Split(at(t, kind), ",")
	options.User, options.Password = at(t, kind+"_USER"), components.Secret(at(t, kind+"_PASSWORD"))
	options.Replicas, options.Synced = kinds[kind], true
	options.Heartbeat, options.SessionTimeout, options.Timeout = 200*time.Millisecond, 3*time.Second, 5*time.Second
	return options
}

func env(t testing.TB) components.Env {
	return components.Env{ID: components.ID{Capability: "pubsub", Name: "default", Driver: "nats"}, Logger: slog.New(slog.NewTextHandler(t.Output(), nil))}
}

func open(t testing.TB, o nats.Options) pubsub.Driver {
	t.Helper()
	if err := o.Validate(); err != nil {
		t.Fatal(err)
	}
	d, err := nats.Open(context.WithoutCancel(t.Context()), env(t), o)
	if err != nil {
		t.Fatal(err)
	}
	return d
}

func TestConformance(t *testing.T) {
	for kind := range kinds {
		t.Run(kind, func(t *testing.T) {
			pubsubtest.Run(t, func(t *testing.T) pubsubtest.Opener {
				return func(t *testing.T, p pubsub.Policy) pubsub.Driver {
					t.Helper()
					o := options(t, kind)
					o.Delivery = p
					return open(t, o)
				}
			})
		})
	}
}

// parted opens sidecars on topics of so many parts.
func parted(parts int) pubsubtest.Harness {
	return func(t *testing.T) pubsubtest.Opener {
		return func(t *testing.T, p pubsub.Policy) pubsub.Driver {
			o := options(t, "NATS")
			o.Parts, o.Delivery = parts, p
			return open(t, o)
		}
	}
}

func TestAPartGoesWhereThereIsRoom(t *testing.T) { pubsubtest.Room(t, parted(1)) }

func TestSidecarsComeAndGoWithDeliveriesUnderWay(t *testing.T) { pubsubtest.ComeAndGo(t, parted(6)) }

// sidecar is a driver behind its front, in a namespace of its own.
func sidecar(t *testing.T, o nats.Options) (*pubsub.PubSub, components.Caller) {
	t.Helper()
	d := open(t, o)
	t.Cleanup(func() { componenttest.Close(t, d) })
	return pubsub.New(componenttest.Component("pubsub", d), pubsub.Options{}), components.Caller{Namespace: "test-" + strings.ToLower(rand.Text()[:8]), App: "app"}
}

func stream(t *testing.T, p *pubsub.PubSub, c components.Caller) *pubsub.Stream {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
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

func publish(t *testing.T, p *pubsub.PubSub, c components.Caller, texts ...string) {
	t.Helper()
	for _, text := range texts {
		for end := time.Now().Add(20 * time.Second); ; time.Sleep(20 * time.Millisecond) { // what the server has lost is not there at once
			_, err := p.Publish(t.Context(), c, pubsub.NewEvent{Topic: "t", Event: pubsub.Event{Data: []byte(text), OrderingKey: "k"}})
			if err == nil {
				break
			}
			if !errors.Is(err, components.ErrUnavailable) || time.Now().After(end) {
				t.Fatal(err)
			}
		}
	}
}

func want(t *testing.T, s *pubsub.Stream, texts ...string) {
	t.Helper()
	for len(texts) > 0 {
		all, err := s.Next()
		if err != nil {
			t.Fatalf("%q are to come: %v", texts, err)
		}
		for _, d := range all {
			if string(d.Event.Data) != texts[0] || d.Attempt != 1 {
				t.Fatalf("came %q, attempt %d; want %q", d.Event.Data, d.Attempt, texts[0])
			}
			if err := s.Ack(d.ID); err != nil {
				t.Fatal(err)
			}
			texts = texts[1:]
		}
	}
}

// direct is the server as others use it.
func direct(t *testing.T, o nats.Options) jetstream.JetStream {
	t.Helper()
	nc, err := library.Connect("nats://"+o.Addresses[0], library.UserInfo(o.User, o.Password.Reveal()))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(nc.Close)
	js, err := jetstream.New(nc)
	if err != nil {
		t.Fatal(err)
	}
	return js
}

// What the topic does not retain any more is passed over, and the group goes on.
func TestWhatRetentionHasTakenIsPassedOver(t *testing.T) {
	o := options(t, "NATS")
	p, c := sidecar(t, o)
	stream(t, p, c).Close()
	publish(t, p, c, "1", "2", "3", "4")
	s, err := direct(t, o).Stream(t.Context(), "outrigger_"+c.Namespace+"_t")
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Purge(t.Context(), jetstream.WithPurgeSequence(3)); err != nil {
		t.Fatal(err)
	}
	one := stream(t, p, c)
	defer one.Close()
	want(t, one, "3", "4")
}

// A server that has lost a topic, or what groups have kept, is told of it again; the group goes on with what is published then, and keeps how far
// it is.
func TestWhatTheServerHasLostIsMadeAgain(t *testing.T) {
	for name, lost := range map[string]func(jetstream.JetStream, string) error{
		"topic": func(js jetstream.JetStream, topic string) error { return js.DeleteStream(t.Context(), topic) },
		"group": func(js jetstream.JetStream, topic string) error {
			s, err := js.Stream(t.Context(), "lost-group-groups")
			if err == nil {
				err = s.Purge(t.Context())
			}
			return err
		},
		"groups": func(js jetstream.JetStream, _ string) error {
			return js.DeleteStream(t.Context(), "lost-groups-groups")
		},
	} {
		t.Run(name, func(t *testing.T) {
			o := options(t, "NATS")
			o.Prefix = "lost-" + name
			p, c := sidecar(t, o)
			s := stream(t, p, c)
			publish(t, p, c, "before")
			want(t, s, "before")
			js := direct(t, o)
			topic := o.Prefix + "_" + c.Namespace + "_t"
			if err := lost(js, topic); err != nil {
				t.Fatal(err)
			}
			if name != "topic" { // else it begins with the oldest event
				one, err := js.Stream(t.Context(), topic)
				if err == nil {
					err = one.Purge(t.Context())
				}
				if err != nil {
					t.Fatal(err)
				}
			}
			publish(t, p, c, "after")
			want(t, s, "after")
			componenttest.Eventually(t, 20*time.Second, func() error { // which may begin with what was delivered meanwhile
				kept, err := js.Stream(t.Context(), o.Prefix+"-groups")
				if err == nil {
					_, err = kept.GetLastMsgForSubject(t.Context(), o.Prefix+"-groups.*.g")
				}
				return err
			})
			publish(t, p, c, "more")
			for more := false; !more; {
				all, err := s.Next()
				if err != nil {
					t.Fatal(err)
				}
				for _, d := range all {
					more = more || string(d.Event.Data) == "more"
					if err := s.Ack(d.ID); err != nil {
						t.Fatal(err)
					}
				}
			}
			s.Close()
			s = stream(t, p, c)
			defer s.Close()
			publish(t, p, c, "last")
			want(t, s, "last")
		})
	}
}

// Streams that may lose what was acknowledged are refused, and idempotency keys where they are not kept for long enough.
func TestStreamsThatDoNotKeepWhatTheyPromiseAreRefused(t *testing.T) {
	o := options(t, "NATS")
	js := direct(t, o)
	for name, spoil := range map[string]func(*jetstream.StreamConfig){
		"storage":   func(s *jetstream.StreamConfig) { s.Storage = jetstream.MemoryStorage },
		"retention": func(s *jetstream.StreamConfig) { s.Retention = jetstream.InterestPolicy },
		"keeps message ids": func(s *jetstream.StreamConfig) {
			s.Duplicates = time.Minute
		},
		"was not made by a sidecar": func(s *jetstream.StreamConfig) { s.Metadata = nil },
	} {
		p, c := sidecar(t, o)
		config := jetstream.StreamConfig{Name: "outrigger_" + c.Namespace + "_t", Subjects: []string{"outrigger." + c.Namespace + ".t.*"}, Duplicates: o.Idempotency,
			Metadata: map[string]string{"outrigger-parts": "1"}}
		spoil(&config)
		if _, err := js.CreateStream(t.Context(), config); err != nil {
			t.Fatal(err)
		}
		if _, err := p.Publish(t.Context(), c, pubsub.NewEvent{Topic: "t", IdempotencyKey: "k"}); !errors.Is(err, components.ErrPrecondition) || !strings.Contains(err.Error(), name) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// An event that is larger than the server takes is refused, and those beside it are not.
func TestTooLargeForTheServer(t *testing.T) {
	o := options(t, "NATS")
	d := open(t, o)
	defer componenttest.Close(t, d)
	topic := pubsub.Topic{Namespace: "test-" + strings.ToLower(rand.Text()[:8]), Name: "t"}
	results, err := d.Publish(t.Context(), []pubsub.Publication{{Topic: topic, Event: pubsub.Event{ID: "1", Data: make([]byte, 9<<20), OrderingKey: "k"}},
		{Topic: topic, Event: pubsub.Event{ID: "2"}}, {Topic: topic, Event: pubsub.Event{ID: "3", OrderingKey: "k"}}})
	if err != nil {
		t.Fatal(err)
	}
	if !errors.Is(results[0].Err, components.ErrExhausted) || !strings.Contains(results[0].Err.Error(), "max_payload") || results[1].ID != "2" || !errors.Is(results[2].Err, components.ErrPrecondition) {
		t.Errorf("%+v", results)
	}
}

// Who is refused is told why, soon, and the password is nowhere.
func TestRefusals(t *testing.T) {
	const canary = "canary-5c1f"
	hers := at(t, "NATS_LIMITED_PASSWORD")
	for name, c := range map[string]struct {
		change func(*nats.Options)
		want   string // in the error; empty: none
	}{
		"tls":              {func(o *nats.Options) { o.TLS = backend.TLS{Enabled: true, CA: at(t, "NATS_CA")} }, ""},
		"wrong ca":         {func(o *nats.Options) { o.TLS = backend.TLS{Enabled: true} }, "certificate"},
		"wrong password":   {func(o *nats.Options) { o.Password = canary }, "refuses"},
		"wrong token":      {func(o *nats.Options) { o.User, o.Password, o.Token = "", "", canary }, "refuses"},
		"nobody":           {func(o *nats.Options) { o.User, o.Password = "", "" }, "refuses"},
		"no permission":    {func(o *nats.Options) { o.User, o.Password = at(t, "NATS_LIMITED_USER"), components.Secret(hers) }, "refuses"},
		"nobody is there":  {func(o *nats.Options) { o.Addresses = []string{"127.0.0.1:1"} }, "refused"},
		"too many copies":  {func(o *nats.Options) { o.Prefix, o.Replicas = "copies", 3 }, "synced"},
		"one of them is":   {func(o *nats.Options) { o.Addresses = append([]string{"127.0.0.1:1"}, o.Addresses...) }, ""},
		"no file of creds": {func(o *nats.Options) { o.User, o.Password, o.Creds = "", "", "/nowhere" }, "/nowhere"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			o, begin := options(t, "NATS"), time.Now()
			o.Timeout = 3 * time.Second
			c.change(&o)
			d, err := nats.Open(t.Context(), env(t), o)
			if took := time.Since(begin); took > 5*time.Second {
				t.Errorf("it took %s", took)
			}
			if err == nil {
				componenttest.Close(t, d)
			}
			switch {
			case c.want == "" && err != nil:
				t.Error(err)
			case c.want == "":
			case err == nil || !strings.Contains(err.Error(), c.want) || !strings.Contains(err.Error(), o.Addresses[0]):
				t.Errorf("the error is %v; want %q and %s", err, c.want, o.Addresses[0])
			case strings.Contains(err.Error(), canary) || strings.Contains(err.Error(), hers):
				t.Errorf("the error has the password: %v", err)
			}
		})
	}
}
