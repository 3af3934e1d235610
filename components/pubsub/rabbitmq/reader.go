package rabbitmq

import (
	"context"
	"errors"
	"strings"
	"time"

	amqp "github.com/rabbitmq/amqp091-go"

	"github.com/outrigger-mesh/outrigger/components/internal/backend"
)

const (
	// A stream that is quiet is read anew, less and less often: one whose leader was lost might say nothing any more.
	quietFirst, quietMost = 5 * time.Second, time.Minute
	// readTime is how long the server may take to begin.
	readTime = 10 * time.Second
	// moveAfter is for how long a node may not have the stream before another is tried: after the loss of a leader it may be about to.
	moveAfter = 5 * time.Second
)

// reader reads the topic's stream, on the connection that is for streams.
type reader struct {
	input  *amqp.Channel
	events <-chan amqp.Delivery
	unread bool      // it is to be read anew
	gained time.Time // when there was a part more
	heard  time.Time // when something came, or it was begun
	quiet  time.Duration
	pause  backend.Backoff
	next   time.Time // of the next try
	failed time.Time // since when tries fail; zero: the last one did not
}

// look has the stream read anew where that is due.
func (w *work) look(listens bool) {
	if listens && time.Since(w.heard) > w.quiet {
		w.unread, w.quiet = true, min(2*w.quiet, quietMost)
	}
	more := len(w.asks) > 0 && time.Since(w.gained) < joinTime // are on their way: what they have in common is read in its order
	if w.unread && !more && !time.Now().Before(w.next) {
		w.read()
	}
}

func (w *work) stopReading() {
	if w.input != nil {
		w.aside(func() error { return w.input.Close() })
	}
	w.input, w.events = nil, nil
}

// aside does what the server may not answer.
func (w *work) aside(do func() error) error {
	ctx, cancel := context.WithTimeout(context.Background(), readTime)
	defer cancel()
	return within(ctx, do)
}

// read reads the stream from where the first of the parts is.
func (w *work) read() {
	w.stopReading()
	w.unread = false
	w.m.mu.Lock()
	from := int64(-1)
	for _, p := range w.m.parts {
		if from < 0 || p.seen < from {
			from = p.seen
		}
		p.read = true
	}
	w.m.mu.Unlock()
	if from < 0 {
		return
	}
	conn, err := w.m.d.streams.get(w.m.stopping)
	if err == nil {
		err = w.begin(conn, from)
	}
	if err == nil {
		w.heard, w.failed = time.Now(), time.Time{}
		w.reader.pause.Reset()
		return
	}
	w.m.d.log.Debug("a topic is not read", "err", err)
	w.unread, w.next = true, time.Now().Add(w.reader.pause.Next())
	if w.failed.IsZero() {
		w.failed = time.Now()
	}
	if stuck := errors.Is(err, context.DeadlineExceeded); conn != nil && (stuck || elsewhere(err) && time.Since(w.failed) > moveAfter) {
		w.failed = time.Time{}
		w.m.d.streams.leave(conn)
	}
}

func (w *work) begin(conn *amqp.Connection, from int64) error {
	type begun struct {
		ch     *amqp.Channel
		events <-chan amqp.Delivery
	}
	made := make(chan begun, 1)
	err := w.aside(func() error {
		ch, err := conn.Channel()
		if err != nil {
			return err
		}
		if err := ch.Qos(prefetch, 0, false); err != nil {
			return err
		}
		events, err := ch.Consume(w.m.stream, "", false, false, false, false, amqp.Table{"x-stream-offset": from})
		made <- begun{ch, events}
		return err
	})
	if err == nil {
		b := <-made
		w.input, w.events = b.ch, b.events
	}
	return err
}

// elsewhere tells whether err is that the node has no copy of a stream, which can be read where there is one.
func elsewhere(err error) bool {
	var e *amqp.Error
	return errors.As(err, &e) && e.Code == amqp.PreconditionFailed && strings.Contains(e.Reason, "replica on the local node")
}

// take looks at an event of the stream.
func (w *work) take(in amqp.Delivery) error {
	w.heard, w.quiet = time.Now(), quietFirst
	offset := offsetOf(&in)
	event := decode(&in)
	number := partOf(event.OrderingKey, offset)
	w.m.mu.Lock()
	for _, p := range w.m.parts {
		if !p.read {
			continue
		}
		if p.number == number && in.ContentType != markType {
			if e := p.add(offset, event); e != nil {
				w.m.pending++
				w.m.offer(e)
			}
		} else {
			p.pass(offset)
		}
	}
	w.m.mu.Unlock()
	return in.Ack(false)
}
