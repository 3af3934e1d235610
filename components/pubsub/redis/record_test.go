package redis

import (
	"reflect"
	"testing"
	"time"

	"github.com/outrigger-mesh/outrigger/components/pubsub"
)

func TestEventsAreReadAsTheyWereWritten(t *testing.T) {
	for _, e := range []pubsub.Event{
		{ID: "1", Source: "/a", Type: "t", Subject: "s", Time: time.Date(1961, 4, 12, 6, 7, 0, 123456789, time.UTC), ContentType: "text/plain",
			Data: []byte("\x00\xff"), OrderingKey: "k", Metadata: map[string]string{"a": "1", "empty": ""}},
		{ID: "2", Time: time.Unix(0, 0).UTC()},
		{ID: "3"},
	} {
		got, err := decode("1-1", map[string]string{"e": string(encode(&e)), "k": e.OrderingKey})
		if err != nil || !reflect.DeepEqual(got, e) {
			t.Errorf("read is %+v, %v\nwritten was %+v", got, err, e)
		}
	}
	if _, err := decode("1-1", map[string]string{"e": "nonsense"}); err == nil {
		t.Error("nonsense is an event")
	}
	if e, err := decode("1-1", map[string]string{"data": "x", "name": "y"}); err != nil || e.ID != "1-1" || string(e.Data) != "x" || e.Metadata["name"] != "y" {
		t.Errorf("what somebody else has added is %+v, %v", e, err)
	}
}

// The first event of a time is the one after the last id before it.
func TestBefore(t *testing.T) {
	for want, at := range map[string]time.Time{
		"0-0":                       time.Unix(-5, 0),
		"999-18446744073709551615":  time.UnixMilli(1000),
		"1000-18446744073709551615": time.UnixMilli(1000).Add(time.Nanosecond),
	} {
		if got := before(at); got != want {
			t.Errorf("before %s is %s, want %s", at, got, want)
		}
	}
}

func TestOptionsAreChecked(t *testing.T) {
	defaults, _ := pubsub.Drivers.Defaults("redis")
	if err := defaults.(Options).Validate(); err != nil {
		t.Error(err)
	}
	for name, change := range map[string]func(*Options){
		"retention": func(o *Options) { o.Retention = 0 }, "max_events": func(o *Options) { o.MaxEvents = 0 },
		"session_timeout": func(o *Options) { o.SessionTimeout = time.Millisecond }, "delivery": func(o *Options) { o.Delivery.MaxAttempts = 0 },
	} {
		o := defaults.(Options)
		if change(&o); o.Validate() == nil {
			t.Errorf("a wrong %s is taken", name)
		}
	}
}
