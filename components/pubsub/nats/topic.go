package nats

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"sync/atomic"
	"time"

	library "github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/outrigger-mesh/outrigger/components"
	"github.com/outrigger-mesh/outrigger/components/internal/backend"
	"github.com/outrigger-mesh/outrigger/components/pubsub"
)

// topic is what is known of a topic's stream.
type topic struct {
	stream, subject string
	parts           int32
	window          time.Duration // of message ids
	turn            atomic.Uint32 // of events without a key
	present         atomic.Bool   // the stream has answered a publication
}

const partsEntry = "outrigger-parts" // of the stream's metadata

// topic finds the stream of a topic, and makes it if it is not there.
func (c *conn) topic(ctx context.Context, t pubsub.Topic) (*topic, error) {
	name := streamName(c.opts.Prefix, t)
	c.mu.Lock()
	known := c.topics[name]
	c.mu.Unlock()
	if known != nil {
		return known, nil
	}
	at := subject(c.opts.Prefix, t)
	config := jetstream.StreamConfig{Name: name, Subjects: []string{at, at + ".*"}, Description: "topic " + t.Namespace + "/" + t.Name, Storage: jetstream.FileStorage,
		Replicas: c.opts.Replicas, MaxAge: c.opts.Retention, Duplicates: c.opts.Idempotency, AllowDirect: true, Metadata: map[string]string{partsEntry: strconv.Itoa(c.opts.Parts)}}
	info, err := c.stream(ctx, config)
	if err != nil {
		return nil, err
	}
	parts, err := strconv.Atoi(info.Config.Metadata[partsEntry])
	if err != nil || parts < 1 || parts > maxParts {
		return nil, fmt.Errorf("%w: stream %s of %s has no %s in its metadata: it was not made by a sidecar", components.ErrPrecondition, name, c.where, partsEntry)
	}
	one := &topic{stream: name, subject: at, parts: int32(parts), window: info.Config.Duplicates}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.topics[name] = one
	return one, nil
}

// otherStream is the answer to a publication that is for another stream.
const otherStream jetstream.ErrorCode = 10060

// attend waits until the stream of a topic answers publications: servers of a cluster learn a moment after it was made who leads it, and tell until
// then that nobody is there. What it publishes is for no stream, and kept nowhere.
func (c *conn) attend(ctx context.Context, t *topic) error {
	if t.present.Load() {
		return nil
	}
	err := c.call(ctx, func(ctx context.Context) error {
		for wait := (backend.Backoff{First: 5 * time.Millisecond, Most: 200 * time.Millisecond}); ; {
			_, err := c.js.Publish(ctx, t.subject+".0", nil, jetstream.WithExpectStream(t.stream+"-none"), jetstream.WithRetryAttempts(0))
			var answer *jetstream.APIError
			if err == nil || errors.As(err, &answer) && answer.ErrorCode == otherStream {
				return nil
			}
			if !errors.Is(err, jetstream.ErrNoStreamResponse) && !errors.Is(err, library.ErrNoResponders) || wait.Wait(ctx) != nil {
				return err
			}
		}
	})
	t.present.Store(err == nil)
	return err
}

// forget has a topic be looked for again.
func (c *conn) forget(stream string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.topics, stream)
}

// makeGroups makes the stream of what groups keep.
func (c *conn) makeGroups(ctx context.Context) error {
	name := groupsName(c.opts.Prefix)
	_, err := c.stream(ctx, jetstream.StreamConfig{Name: name, Subjects: []string{name + ".>"}, Description: "what groups keep", Storage: jetstream.FileStorage,
		Replicas: c.opts.Replicas, MaxMsgsPerSubject: 1, AllowDirect: true})
	return err
}

// stream finds a stream, or makes it. One that may lose what it has is refused.
func (c *conn) stream(ctx context.Context, config jetstream.StreamConfig) (info *jetstream.StreamInfo, err error) {
	c.making.Lock()
	defer c.making.Unlock()
	err = c.call(ctx, func(ctx context.Context) error {
		for {
			info, err = c.made(ctx, config)
			if !errors.Is(err, context.DeadlineExceeded) || ctx.Err() != nil {
				return err
			}
		}
	})
	if err != nil {
		return nil, err
	}
	switch have := info.Config; {
	case c.opts.AllowLoss:
	case have.Storage != jetstream.FileStorage, have.Retention != jetstream.LimitsPolicy, have.NoAck:
		return nil, fmt.Errorf("%w: acknowledged events could be lost: stream %s of %s has storage %s, retention %s, no_ack %v, needed are File, Limits, false; allow_loss: true takes that",
			components.ErrPrecondition, config.Name, c.where, have.Storage, have.Retention, have.NoAck)
	}
	return info, nil
}

// made finds a stream, or makes it, in a part of the time that the server has: a cluster that two ask for the same stream at once may answer one of
// them only, and the other has to ask again.
func (c *conn) made(ctx context.Context, config jetstream.StreamConfig) (*jetstream.StreamInfo, error) {
	ctx, cancel := context.WithTimeout(ctx, c.opts.Timeout/4)
	defer cancel()
	s, err := c.js.Stream(ctx, config.Name)
	if errors.Is(err, jetstream.ErrStreamNotFound) {
		s, err = c.js.CreateStream(ctx, config)
	}
	if errors.Is(err, jetstream.ErrStreamNameAlreadyInUse) { // another was faster, with other options
		s, err = c.js.Stream(ctx, config.Name)
	}
	if err != nil {
		return nil, err
	}
	return s.CachedInfo(), nil
}

// look asks how a stream is now.
func (c *conn) look(ctx context.Context, name string) (info *jetstream.StreamInfo, err error) {
	err = c.call(ctx, func(ctx context.Context) error {
		s, err := c.js.Stream(ctx, name)
		if err == nil {
			info = s.CachedInfo()
		}
		return err
	})
	return info, err
}
