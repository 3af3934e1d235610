package pubsub

import (
	"context"
	"fmt"
	"log/slog"
	"time"

	"github.com/outrigger-mesh/outrigger/components"
)

const (
	defaultDeadline = 30 * time.Second
	longestDeadline = 24 * time.Hour
)

// PubSub is the front that callers use. All its errors wrap one of the kinds of components, or ctx's error, and name the
// component. Safe for concurrent use.
type PubSub struct {
	component *components.Component[Driver]
	opts      Options
}

// Options are what a front tells others by. The zero value tells nobody.
type Options struct {
	Logger *slog.Logger
	// Count is told how deliveries end: see the constants beginning with Count.
	Count func(component, outcome string, n int)
}

// What Count is told.
const (
	CountDelivered = "delivered"     // given to an application
	CountAcked     = "acked"         // handled
	CountNacked    = "nacked"        // given back by the application
	CountExpired   = "expired"       // not settled by its deadline
	CountEnded     = "ended"         // not settled when the stream ended
	CountBuried    = "dead_lettered" // put into the dead-letter topic
	CountDropped   = "dropped"       // rejected or given up, and there is no dead-letter topic
)

// New makes the front of a component.
func New(c *components.Component[Driver], o Options) *PubSub {
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	if o.Count == nil {
		o.Count = func(string, string, int) {}
	}
	return &PubSub{component: c, opts: o}
}

// Named says of an error in a request, found before the call, which component the request was for.
func (p *PubSub) Named(err error) error { return p.component.Named(err) }

// SubscribeOptions are what an application says of a stream. Only Topic is needed.
type SubscribeOptions struct {
	Topic       string
	Group       string        // empty: NAMESPACE/APP of the caller
	Earliest    bool          // a group that is new begins with the oldest event that is retained, else with what comes from now on
	AckDeadline time.Duration // 0: 30 s
	ReplayFrom  time.Time     // zero: go on where the group is
}

// Subscribe joins a group. The stream ends with ctx, when the component is replaced (ErrUnavailable, reason RELOADED) and when
// the back end is lost; it must be closed.
func (p *PubSub) Subscribe(ctx context.Context, caller components.Caller, o SubscribeOptions) (*Stream, error) {
	sub, err := subscription(caller, o)
	if err != nil {
		return nil, p.component.Named(err)
	}
	call, ctx, err := p.component.Stream(ctx, "subscribe")
	if err != nil {
		return nil, err
	}
	session, err := join(ctx, p, call.Driver, sub)
	if err != nil {
		call.End(&err)
		return nil, err
	}
	return newStream(ctx, p, caller, call, session, sub), nil
}

func join(ctx context.Context, p *PubSub, d Driver, sub Subscription) (Session, error) {
	if !sub.ReplayFrom.IsZero() && !offers(d, Replay) {
		return nil, p.unsupported(Replay)
	}
	session, err := d.Subscribe(ctx, sub)
	if cause := context.Cause(ctx); err != nil && cause != nil {
		err = cause
	}
	return session, err
}

func subscription(caller components.Caller, o SubscribeOptions) (Subscription, error) {
	if err := checkCaller(caller); err != nil {
		return Subscription{}, err
	}
	if err := checkName("the topic", o.Topic); err != nil {
		return Subscription{}, err
	}
	if o.Group == "" {
		o.Group = caller.String()
	}
	if err := checkName("the group", o.Group); err != nil {
		return Subscription{}, err
	}
	if o.AckDeadline == 0 {
		o.AckDeadline = defaultDeadline
	}
	if o.AckDeadline < 0 || o.AckDeadline > longestDeadline {
		return Subscription{}, fmt.Errorf("%w: an ack deadline of %s is not above 0 and at most %s", components.ErrInvalid, o.AckDeadline, longestDeadline)
	}
	return Subscription{Topic: Topic{caller.Namespace, o.Topic}, Group: o.Group, Earliest: o.Earliest,
		AckDeadline: o.AckDeadline, ReplayFrom: o.ReplayFrom}, nil
}
