package rabbitmq

import (
	"context"
	"crypto/rand"
	"errors"

	amqp "github.com/rabbitmq/amqp091-go"
)

// Each stream has a birth, by which one that was deleted and made anew is told from the one before: its offsets begin anew, and how far groups are
// says nothing of it. A queue keeps it. One that a version without births has made has none.

func birthQueue(stream string) string { return stream + ".birth" }

// lastAlone are the arguments of a queue that keeps the last message.
func lastAlone() amqp.Table {
	return amqp.Table{"x-queue-type": "quorum", "x-delivery-limit": often, "x-max-length": int64(1), "x-overflow": "drop-head"}
}

// bear keeps the birth of a stream that is about to be made.
func bear(ch *amqp.Channel, stream string) error {
	if err := ch.Confirm(false); err != nil {
		return err
	}
	if _, err := ch.QueueDeclare(birthQueue(stream), true, false, false, false, lastAlone()); err != nil {
		return err
	}
	c, err := ch.PublishWithDeferredConfirm("", birthQueue(stream), false, false, amqp.Publishing{DeliveryMode: amqp.Persistent, Body: []byte(rand.Text())})
	if err == nil && !c.Wait() {
		err = errors.New("the server did not confirm a new topic")
	}
	return err
}

// birth answers "" for a stream that has none.
func (d *driver) birth(ctx context.Context, stream string) (birth string, err error) {
	ch, err := d.link.channel(ctx)
	if err != nil {
		return "", err
	}
	err = within(ctx, func() error {
		m, ok, err := ch.Get(birthQueue(stream), false)
		if err != nil || !ok {
			return err
		}
		birth = string(m.Body)
		return m.Nack(false, true)
	})
	if code(err) == amqp.NotFound && !homeless(err) { // which ends the channel
		return "", nil
	}
	if err != nil {
		return "", d.link.said(ctx, err)
	}
	return birth, d.link.said(ctx, within(ctx, ch.Close))
}

// renew has those parts begin anew that are of another stream than that of a birth, or further than its end: a server that has lost power may have
// forgotten the last events, whose offsets come again. It tells whether there are such.
func (m *member) renew(birth string, end int64) (any bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for number, p := range m.parts {
		if (birth == "" || p.birth == birth) && p.seen <= end {
			continue
		}
		any = true
		m.drop(number)
		fresh := newPart(number, p.claim, progress{Birth: birth})
		fresh.leaving, fresh.dirty = p.leaving, true
		m.parts[number] = fresh
	}
	if any {
		m.generation++ // the same offsets come again
		m.d.log.Warn("a topic was made anew, or has lost events that it had delivered: it is read from the first one on", "stream", m.stream)
	}
	return any
}

// furthest is the first offset that was not looked at in any part.
func (m *member) furthest() (offset int64) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, p := range m.parts {
		offset = max(offset, p.seen)
	}
	return offset
}
