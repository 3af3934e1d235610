package nats

import (
	"context"
	"errors"
	"testing"
	"time"

	library "github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/outrigger-mesh/outrigger/components"
	"github.com/outrigger-mesh/outrigger/components/internal/backend"
	"github.com/outrigger-mesh/outrigger/components/pubsub"
)

func TestWhatCannotBeReadIsNotThere(t *testing.T) {
	v, complaints := view{records: map[string]record{}}, 0
	for _, body := range [][]byte{{0xff}, pack(&holding{Owner: "o", Offset: 1, State: []byte{0xff}})} {
		v.take("base", []entry{{Msg: &library.Msg{Subject: "base.p.0", Data: body}, sequence: 1}}, func(string, error) { complaints++ })
		if all, _, _ := v.look(); all["p.0"].value != nil {
			t.Errorf("it is %+v", all["p.0"].value)
		}
	}
	if complaints != 2 {
		t.Errorf("%d complaints", complaints)
	}
}

// half takes what is published, and knows no stream.
type half struct{ jetstream.JetStream }

func (half) PublishMsgAsync(*library.Msg, ...jetstream.PublishOpt) (jetstream.PubAckFuture, error) {
	return nil, nil
}

func (half) Stream(context.Context, string) (jetstream.Stream, error) {
	return nil, library.ErrConnectionClosed
}

// What was sent before the topic of another event could not be found may be there.
func TestPublishingBrokenOff(t *testing.T) {
	known := pubsub.Topic{Namespace: "n", Name: "known"}
	o := Options{Timeout: time.Second}
	there := &topic{subject: "s", parts: 1}
	there.present.Store(true)
	d := &driver{opts: o, conn: &conn{opts: o, where: "nats x", js: half{}, topics: map[string]*topic{streamName("", known): there}}}
	away := pubsub.Publication{Topic: pubsub.Topic{Namespace: "n", Name: "away"}}
	for _, c := range []struct {
		name    string
		events  []pubsub.Publication
		unknown bool
	}{{"first", []pubsub.Publication{away}, false}, {"second", []pubsub.Publication{{Topic: known}, away}, true}} {
		_, err := d.Publish(t.Context(), c.events)
		var detail *components.Detail
		if unknown := errors.As(err, &detail) && detail.Reason == backend.ReasonOutcomeUnknown; !errors.Is(err, components.ErrUnavailable) || unknown != c.unknown {
			t.Errorf("%s: %v", c.name, err)
		}
	}
}

func TestConnectionsAreSharedByEqualOptionsOnly(t *testing.T) {
	a, b := Options{Heartbeat: time.Second}, Options{Heartbeat: time.Minute}
	if a.key() == b.key() {
		t.Error("another heartbeat is another connection")
	}
}
