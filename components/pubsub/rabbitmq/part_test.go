package rabbitmq

import (
	"slices"
	"strings"
	"testing"

	amqp "github.com/rabbitmq/amqp091-go"

	"github.com/outrigger-mesh/outrigger/components/pubsub"
)

// Where a key belongs is stored in all groups: if it changed, its events would be in two parts.
func TestPartsAreFixed(t *testing.T) {
	for key, want := range map[string]int{"k": 2, "l": 3, "order-4711": 5, "ü": 2} {
		if got := partOf(key, 1); got != want {
			t.Errorf("%q is in part %d, want %d", key, got, want)
		}
	}
	for offset := range int64(20) {
		if got := partOf("", offset); got != int(offset%8) {
			t.Errorf("offset %d is in part %d", offset, got)
		}
	}
}

// TestProgress has a part settle some, be kept, and go on elsewhere.
func TestProgress(t *testing.T) {
	p := newPart(1, nil, progress{Low: 10})
	for offset := int64(10); offset < 20; offset++ {
		p.add(offset, pubsub.Event{})
	}
	for _, offset := range []int64{10, 11, 13} {
		p.remove(p.entries[offset])
	}
	p.entries[14].attempt = 3
	kept := p.progress()
	if kept.Low != 12 || !slices.Equal(kept.Done, []int64{13}) || len(kept.Attempts) != 1 || kept.Attempts[14] != 3 {
		t.Fatalf("%+v", kept)
	}
	again := newPart(1, nil, kept)
	if unread := again.progress(); unread.Low != 12 || !slices.Equal(unread.Done, []int64{13}) || unread.Attempts[14] != 3 {
		t.Errorf("kept before anything was read: %+v", unread)
	}
	if again.add(11, pubsub.Event{}) != nil {
		t.Error("what was settled is taken in")
	}
	if e := again.add(12, pubsub.Event{}); e == nil || e.attempt != 0 {
		t.Errorf("%+v", e)
	}
	if again.add(13, pubsub.Event{}) != nil {
		t.Error("what was settled behind others is taken in")
	}
	if e := again.add(14, pubsub.Event{}); e == nil || e.attempt != 3 {
		t.Errorf("%+v", e)
	}
}

func TestOptionsThatCannotBe(t *testing.T) {
	d, _ := pubsub.Drivers.Defaults("rabbitmq")
	good := d.(Options)
	if err := good.Validate(); err != nil {
		t.Error(err)
	}
	for want, change := range map[string]func(o *Options){
		"addresses: ":       func(o *Options) { o.Addresses = []string{"amqp://u:p@h:1"} },
		"user, vhost":       func(o *Options) { o.Vhost = "" },
		"heartbeat: ":       func(o *Options) { o.Heartbeat = 0 },
		"retention: ":       func(o *Options) { o.Retention = 0 },
		"connect_timeout: ": func(o *Options) { o.ConnectTimeout = 0 },
		"tls: ":             func(o *Options) { o.TLS.Cert = "x" },
		"delivery: ":        func(o *Options) { o.Delivery.MaxAttempts = 0 },
	} {
		o := good
		change(&o)
		if err := o.Validate(); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v", want, err)
		}
	}
}

// A queue whose node is away is not taken for one that is not there: its group would be made anew.
func TestWhoseNodeIsAwayIsNotAbsent(t *testing.T) {
	for reason, want := range map[string]bool{
		"NOT_FOUND - home node 'rabbit@one' of durable queue 'q' in vhost '/' is down or inaccessible": true,
		"NOT_FOUND - no queue 'q' in vhost '/'":                                                        false,
	} {
		if got := homeless(&amqp.Error{Code: amqp.NotFound, Reason: reason}); got != want {
			t.Errorf("%s: %v", reason, got)
		}
	}
}
