package local

import (
	"time"

	"github.com/outrigger-mesh/outrigger/components/internal/store"
	"github.com/outrigger-mesh/outrigger/components/pubsub"
)

// What drivers ask of the machine.
var (
	publishCall     = store.Unary[publishIn, publishOut]{Name: "pubsub/Publish"}
	subscribeStream = store.Bidi[up, down]{Name: "pubsub/Subscribe"}
)

// settings are the options of the component, as the machine needs them. The last ones that came hold for a topic.
type settings struct {
	Durability     string
	Retention      time.Duration
	RetentionBytes int64
	Groups         time.Duration
	Idempotency    time.Duration
}

type publishIn struct {
	Component string
	Settings  settings
	Events    []publication
}

type publication struct {
	Namespace, Topic string
	Event            *event
	Key              string
	Fingerprint      []byte
}

type publishOut struct{ Results []published }

type published struct {
	ID    string
	Fault int

	unreadable error // stays here
}

const (
	faultReused = iota + 1
	faultSkipped
	faultDamaged // the record of the idempotency key cannot be read
)

// up is what a session says; the first is start.
type up struct {
	Start    *start
	Pause    bool // takes back all room, before what follows
	Messages int  // more room
	Bytes    int64
	Settled  []settled
	Last     bool   // nothing will be said any more
	Received uint64 // with the last: up to this serial deliveries have come
}

type start struct {
	Component, Namespace, Topic, Group string
	Settings                           settings
	Earliest                           bool
	Replay                             bool
	ReplayFrom                         int64 // the wall's time in nanoseconds
	AckDeadline                        time.Duration
}

type settled struct {
	Serial  uint64
	Outcome pubsub.Outcome
	Delay   time.Duration
}

// down is what a session is told. The first, without messages, says that it has joined.
type down struct{ Messages []message }

type message struct {
	Serial  uint64
	Attempt int
	Event   *event
}

// event is pubsub.Event as it is stored and sent. Once made it does not change.
type event struct {
	ID          string            `cbor:"1,keyasint,omitempty"`
	Source      string            `cbor:"2,keyasint,omitempty"`
	Type        string            `cbor:"3,keyasint,omitempty"`
	Subject     string            `cbor:"4,keyasint,omitempty"`
	Timed       bool              `cbor:"5,keyasint,omitempty"`
	Seconds     int64             `cbor:"6,keyasint,omitempty"`
	Nanos       int32             `cbor:"7,keyasint,omitempty"`
	ContentType string            `cbor:"8,keyasint,omitempty"`
	Data        []byte            `cbor:"9,keyasint,omitempty"`
	OrderingKey string            `cbor:"10,keyasint,omitempty"`
	Metadata    map[string]string `cbor:"11,keyasint,omitempty"`
}

func toWire(e *pubsub.Event) *event {
	w := &event{ID: e.ID, Source: e.Source, Type: e.Type, Subject: e.Subject, ContentType: e.ContentType, Data: e.Data,
		OrderingKey: e.OrderingKey, Metadata: e.Metadata}
	if !e.Time.IsZero() {
		w.Timed, w.Seconds, w.Nanos = true, e.Time.Unix(), int32(e.Time.Nanosecond())
	}
	return w
}

func (w *event) plain() pubsub.Event {
	e := pubsub.Event{ID: w.ID, Source: w.Source, Type: w.Type, Subject: w.Subject, ContentType: w.ContentType, Data: w.Data,
		OrderingKey: w.OrderingKey, Metadata: w.Metadata}
	if w.Timed {
		e.Time = time.Unix(w.Seconds, int64(w.Nanos)).UTC()
	}
	return e
}

// size is that of the pubsub.Event.
func (w *event) size() int64 {
	e := pubsub.Event{Data: w.Data, Metadata: w.Metadata}
	return e.Size()
}
