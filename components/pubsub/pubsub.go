// Package pubsub delivers events of topics to groups of subscribers, at least once.
//
// Topics belong to the caller's namespace: all applications of a namespace share them, and none sees those of another. Each group
// of a topic gets each event; the streams of one group share them. Of the events with one ordering key a group has one unsettled
// at a time: the next comes when that one was acknowledged or rejected, so that neither a nack nor the end of a stream changes
// their order. Events without a key wait for nothing.
//
// The front counts credit, names deliveries, watches their deadlines and buries what cannot be handled; a driver keeps events, and
// what each group has yet to settle of them.
package pubsub

import (
	"context"
	"time"

	"github.com/outrigger-mesh/outrigger/components"
	"github.com/outrigger-mesh/outrigger/components/internal/delivery"
)

// Drivers are the drivers of this build.
var Drivers = components.NewRegistry[Driver]("pubsub")

// Topic is a topic's full name. A namespace is a DNS label, a name is 1 to 255 bytes of UTF-8 without control characters.
type Topic struct{ Namespace, Name string }

// Event is an event of CloudEvents 1.0, or a foreign producer's message with what could be read of it. Once it has been handed
// over, what Data and Metadata hold must not be changed: several streams may share it.
type Event struct {
	ID, Source, Type, Subject string
	Time                      time.Time // zero: not said
	ContentType               string
	Data                      []byte
	OrderingKey               string            // empty: no order
	Metadata                  map[string]string // further attributes
}

// Size is what the event takes of credit for bytes: its data and metadata.
func (e *Event) Size() int64 {
	size := len(e.Data)
	for name, value := range e.Metadata {
		size += len(name) + len(value)
	}
	return int64(size)
}

// Publication is an event on its way to a topic.
type Publication struct {
	Topic Topic
	Event Event // has an id, and all that CloudEvents requires
	// IdempotencyKey makes a repetition harmless; empty: none. It is APP/KEY, so that applications do not meet. Fingerprint is the
	// same for the same content, ids and times that were made up left aside.
	IdempotencyKey string
	Fingerprint    []byte
}

// Result is what became of a publication.
type Result struct {
	ID  string // the event's; of a repetition that of the first
	Err error
}

// Subscription is what a stream of deliveries is about.
type Subscription struct {
	Topic    Topic
	Group    string
	Earliest bool // a group that is new begins with the oldest event; else with the first that comes after Subscribe has returned
	// ReplayFrom, unless it is zero, moves the group to the first event that was published at that time or later.
	ReplayFrom time.Time
	// AckDeadline is how long a delivery may take. The front watches it; a driver whose back end outlives this process and can do
	// the same does so, a little later, for the case that the process is frozen.
	AckDeadline time.Duration
}

// Driver is what a back end implements. It is safe for concurrent use.
type Driver interface {
	// Publish stores events, those of one topic in their order, and answers a result for each. With the same idempotency key and
	// fingerprint for the same topic as within the component's idempotency time it stores nothing and answers the first id; with
	// another fingerprint the result is Reused(). When one fails, those after it with its topic and ordering key are not stored
	// either: their result is Skipped(). An error instead of results is about all: it is not known whether they are stored.
	Publish(ctx context.Context, events []Publication) ([]Result, error)
	// Subscribe joins a group, and makes it if it is new: its place in the topic is kept from then on, whoever comes and goes, until
	// nobody has come for as long as the driver says.
	// The session ends with Close, not with ctx.
	Subscribe(ctx context.Context, s Subscription) (Session, error)
	// Policy is what the component's options say of deliveries.
	Policy() Policy
}

// Session is one stream's share in a group. Fetch is called by one goroutine, Settle by many, Close once and after both.
//
// Of the messages of a group with the same ordering key, one is unsettled at a time, in whatever session of whatever process.
// Sessions that have room share the messages evenly.
type Session interface {
	// Fetch waits for messages, and answers some: at most room.Messages of at most room.Bytes, first those that come again. (A
	// driver that cannot know sizes beforehand may answer more bytes: the front returns what does not fit.) Room that was
	// offered before and is not any more counts no longer; what was prefetched for it goes back, uncounted. When ctx ends Fetch
	// answers its error, and no message is lost. Another error is the end of the session.
	Fetch(ctx context.Context, room Room) ([]Message, error)
	// Settle says what became of messages, and need not wait until that is kept: one that is lost with a crash comes again.
	// Positions that mean nothing any more are passed over.
	Settle(ctx context.Context, all []Settlement) error
	// Close gives back what is not settled, at once, and keeps what is: after it has returned without error nothing settled comes
	// again.
	Close(ctx context.Context) error
}

// Room is what a session may fetch.
type Room = delivery.Room

// Message is an event with its place in a group.
type Message struct {
	Position string // means nothing outside of its session
	Attempt  int    // counts from 1; those of a message that was returned, or never fetched, are left out where the back end can
	Event    Event
}

// Outcome is what became of a message.
type Outcome int

const (
	// Done needs not come again.
	Done Outcome = iota
	// Again comes again once Delay has passed, to any session. Until then it holds up those with its ordering key.
	Again
	// Returned comes again at once, and is not counted as an attempt: the application has never seen it.
	Returned
	// Extended stays with the session, for the whole ack deadline once more.
	Extended
)

// Settlement is the outcome of one message.
type Settlement struct {
	Position string
	Outcome  Outcome
	Delay    time.Duration // of Again; not negative, and not longer than the policy's longest
}

// Restricted is implemented by drivers that cannot do all that a Driver promises. One that does not implement it can.
type Restricted interface {
	Offers(f Feature) bool
}

// Feature is what a Restricted driver may lack.
type Feature string

const (
	Idempotency Feature = "idempotency keys" // to publish once for a key
	Replay      Feature = "replay"           // to move a group to a time
)
