package nats

import (
	"maps"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	library "github.com/nats-io/nats.go"

	"github.com/outrigger-mesh/outrigger/components/pubsub"
)

func TestNamesAreApart(t *testing.T) {
	seen := map[string]string{}
	letters := []rune("aA5f._-*>ü ")
	check := func(name string) {
		topic := pubsub.Topic{Namespace: "shop", Name: name}
		stream := streamName("outrigger", topic)
		if len(stream) > maxName || strings.Trim(stream, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_") != "" {
			t.Errorf("%q is no name of a stream", stream)
		}
		if tokens := strings.Split(subject("outrigger", topic), "."); len(tokens) != 3 || tokens[2] == "" {
			t.Errorf("%q is no subject of its own", subject("outrigger", topic))
		}
		if other, ok := seen[stream]; ok && other != name {
			t.Errorf("%q and %q are both %q", name, other, stream)
		}
		seen[stream] = name
	}
	for _, name := range []string{"_5f", "_", strings.Repeat("x", 255), strings.Repeat("x", 254), strings.Repeat("ü", 120)} {
		check(name)
	}
	for range 20_000 {
		name := make([]rune, 1+rand.IntN(8))
		for i := range name {
			name[i] = letters[rand.IntN(len(letters))]
		}
		check(string(name))
	}
	if got := streamName("outrigger", pubsub.Topic{Namespace: "shop", Name: "orders-2"}); got != "outrigger_shop_orders-2" {
		t.Errorf("a plain name is %q", got)
	}
}

// overTheWire is a message as the library writes and reads it.
func overTheWire(t *testing.T, m *library.Msg) *library.Msg {
	t.Helper()
	var raw strings.Builder
	raw.WriteString("NATS/1.0\r\n")
	for name, all := range m.Header {
		if strings.ContainsAny(name+all[0], "\r\n") || strings.ContainsAny(name, ": ") || strings.TrimSpace(all[0]) != all[0] {
			t.Errorf("%q: %q is no header", name, all[0])
		}
		raw.WriteString(name + ": " + all[0] + "\r\n")
	}
	header, err := library.DecodeHeadersMsg([]byte(raw.String() + "\r\n"))
	if err != nil {
		t.Fatal(err)
	}
	return &library.Msg{Subject: m.Subject, Header: header, Data: m.Data}
}

func TestEventsAreReadAsTheyWereWritten(t *testing.T) {
	e := pubsub.Event{ID: " 1%41\r\n", Source: "/a", Type: "t", Subject: "ä:b c", Time: time.Date(2030, 1, 2, 3, 4, 5, 6, time.UTC), ContentType: "text/plain; charset=utf-8",
		OrderingKey: "k\x00 ", Data: []byte{0, 255}, Metadata: map[string]string{"a": "", "A": "1", "Ü: x": "y\ny", "nats-x": " z "}}
	got := event(overTheWire(t, message("s", &e)), 1, time.Now())
	if got.ID != e.ID || got.Source != e.Source || got.Type != e.Type || got.Subject != e.Subject || !got.Time.Equal(e.Time) || got.ContentType != e.ContentType ||
		got.OrderingKey != e.OrderingKey || string(got.Data) != string(e.Data) || !maps.Equal(got.Metadata, e.Metadata) {
		t.Errorf("read is %+v\nwritten was %+v", got, e)
	}
}

func TestForeignMessages(t *testing.T) {
	at := time.Now()
	e := event(&library.Msg{Subject: "s", Data: []byte("x"), Header: library.Header{"Trace": {"1\xff"}, "Ce-Id": {"7"}, "Nats-Msg-Id": {"n"}}}, 2, at)
	if e.ID != "7" || string(e.Data) != "x" || e.Metadata["Trace"] != "1\uFFFD" || len(e.Metadata) != 1 || !e.Time.Equal(at) {
		t.Errorf("it is %+v", e)
	}
	if e := event(&library.Msg{Subject: "s"}, 2, at); e.ID != "s/2" {
		t.Errorf("without an id it is %q", e.ID)
	}
}

func TestOptionsThatMayLoseAreRefused(t *testing.T) {
	defaults, _ := pubsub.Drivers.Defaults("nats")
	o := defaults.(Options)
	o.Replicas = 1
	if err := o.Validate(); err == nil || !strings.Contains(err.Error(), "sync_interval") {
		t.Errorf("one copy, of which it is not known whether it is synced, is taken: %v", err)
	}
	for _, fine := range []func(*Options){func(o *Options) { o.Synced = true }, func(o *Options) { o.AllowLoss = true }, func(o *Options) { o.Replicas = 3 }} {
		o := o
		fine(&o)
		if err := o.Validate(); err != nil {
			t.Error(err)
		}
	}
	o.Synced = true
	for name, bad := range map[string]func(*Options){
		"idempotency": func(o *Options) { o.Retention = time.Hour }, "token": func(o *Options) { o.User, o.Password, o.Token = "a", "b", "c" }, "password": func(o *Options) { o.User = "a" },
		"prefix": func(o *Options) { o.Prefix = "a.b" }, "parts": func(o *Options) { o.Parts = 0 }, "session_timeout": func(o *Options) { o.SessionTimeout = o.Heartbeat },
	} {
		o := o
		bad(&o)
		if err := o.Validate(); err == nil || !strings.Contains(err.Error(), name) {
			t.Errorf("%s: %v", name, err)
		}
	}
}
