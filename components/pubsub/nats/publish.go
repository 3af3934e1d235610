package nats

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"time"

	library "github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/outrigger-mesh/outrigger/components"
	"github.com/outrigger-mesh/outrigger/components/internal/backend"
	"github.com/outrigger-mesh/outrigger/components/pubsub"
)

// lane is that of events whose order is kept.
type lane struct {
	topic pubsub.Topic
	key   string
}

// publishing is a call of Publish.
type publishing struct {
	d       *driver
	events  []pubsub.Publication
	results []pubsub.Result
	sent    []flight
	some    bool          // were sent, answered or not
	open    map[lane]bool // an answer decides on what comes after it
	failed  map[lane]bool
}

// flight is a publication that is not answered.
type flight struct {
	at     int // in events
	topic  *topic
	answer jetstream.PubAckFuture
}

// Publish implements pubsub.Driver. Publications go out one after the other and are answered together, but for those behind one whose
// idempotency key may be refused.
func (d *driver) Publish(ctx context.Context, events []pubsub.Publication) ([]pubsub.Result, error) {
	limited, cancel := context.WithTimeout(ctx, 3*d.opts.Timeout)
	defer cancel()
	p := &publishing{d: d, events: events, results: make([]pubsub.Result, len(events)), open: map[lane]bool{}, failed: map[lane]bool{}}
	began := time.Now()
	for i := range events {
		l := lane{events[i].Topic, events[i].Event.OrderingKey}
		if p.open[l] {
			if err := p.collect(limited); err != nil {
				return nil, d.unpublished(ctx, began, err)
			}
		}
		if l.key != "" && p.failed[l] {
			p.results[i].Err = pubsub.Skipped()
			continue
		}
		if err := p.send(limited, i, l); err != nil && p.some {
			return nil, backend.Unknown(ctx, d.conn.where, err)
		} else if err != nil {
			return nil, d.unpublished(ctx, began, err)
		}
	}
	if err := p.collect(limited); err != nil {
		return nil, d.unpublished(ctx, began, err)
	}
	return p.results, nil
}

// send sends one, or says in its result why not.
func (p *publishing) send(ctx context.Context, i int, l lane) error {
	e := &p.events[i]
	t, err := p.d.conn.topic(ctx, e.Topic)
	if err == nil {
		err = p.d.conn.attend(ctx, t)
	}
	if err != nil {
		return err
	}
	m := message(fmt.Sprintf("%s.%d", t.subject, t.part(e.Event.OrderingKey)), &e.Event)
	if e.IdempotencyKey != "" {
		if t.window < p.d.opts.Idempotency {
			return fmt.Errorf("%w: stream %s of %s keeps message ids for %s, less than idempotency, %s", components.ErrPrecondition, t.stream, p.d.conn.where, t.window, p.d.opts.Idempotency)
		}
		sum := sha256.Sum256([]byte(e.IdempotencyKey))
		m.Header[library.MsgIdHdr] = []string{hex.EncodeToString(sum[:])}
		m.Header[printHeader] = []string{hex.EncodeToString(e.Fingerprint)}
		p.open[l] = l.key != ""
	}
	answer, err := p.d.conn.js.PublishMsgAsync(m, jetstream.WithRetryAttempts(0))
	if errors.Is(err, library.ErrMaxPayload) {
		p.fail(i, components.WithReason(fmt.Errorf("%w: %s takes no message of that size: max_payload is %d bytes", components.ErrExhausted, p.d.conn.where, p.d.conn.out.MaxPayload()),
			pubsub.ReasonEventLarge, "limit", "event"))
		return nil
	}
	if err == nil {
		p.sent, p.some = append(p.sent, flight{i, t, answer}), true
	}
	return err
}

func (p *publishing) fail(i int, err error) {
	p.results[i].Err = err
	p.failed[lane{p.events[i].Topic, p.events[i].Event.OrderingKey}] = true
}

// collect waits for the answers.
func (p *publishing) collect(ctx context.Context) error {
	for _, f := range p.sent {
		select {
		case ack := <-f.answer.Ok():
			p.results[f.at].ID = p.events[f.at].Event.ID
			if ack.Duplicate {
				if err := p.repeated(ctx, f, ack.Sequence); err != nil {
					return err
				}
			}
		case err := <-f.answer.Err():
			if errors.Is(err, jetstream.ErrNoStreamResponse) || errors.Is(err, library.ErrNoResponders) {
				p.d.conn.forget(f.topic.stream)
			}
			return err
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	p.sent = p.sent[:0]
	clear(p.open)
	return nil
}

// repeated answers as the first publication with the same idempotency key was answered.
func (p *publishing) repeated(ctx context.Context, f flight, sequence uint64) error {
	var first *jetstream.RawStreamMsg
	err := p.d.conn.call(ctx, func(ctx context.Context) error {
		s, err := p.d.conn.js.Stream(ctx, f.topic.stream)
		if err == nil {
			first, err = s.GetMsg(ctx, sequence)
		}
		return err
	})
	switch {
	case err != nil:
		return err
	case first.Header.Get(printHeader) != hex.EncodeToString(p.events[f.at].Fingerprint):
		p.fail(f.at, pubsub.Reused())
	default:
		p.results[f.at].ID = decode(first.Header.Get(attribute + "id"))
	}
	return nil
}

// stay is how many events without a key go to one part before the next one has its turn.
const stay = 32

func (t *topic) part(key string) int32 {
	if key != "" {
		return partOf(key, t.parts)
	}
	return int32((t.turn.Add(1) - 1) / stay % uint32(t.parts))
}

// unpublished says of what was not answered whether it may be there.
func (d *driver) unpublished(ctx context.Context, began time.Time, err error) error {
	var answer *jetstream.APIError
	switch {
	case errors.Is(err, components.ErrUnavailable), errors.Is(err, components.ErrPrecondition): // of what comes before it
		return err
	case errors.Is(err, library.ErrReconnectBufExceeded), errors.Is(err, jetstream.ErrNoStreamResponse), errors.Is(err, library.ErrNoResponders),
		errors.Is(err, jetstream.ErrTooManyStalledMsgs), errors.As(err, &answer):
		return d.conn.failed(ctx, began, err)
	}
	if d.conn.denied(began) != nil {
		return d.conn.failed(ctx, began, err)
	}
	return backend.Unknown(ctx, d.conn.where, err)
}
