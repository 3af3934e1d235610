package rabbitmq

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/fxamacker/cbor/v2"
	amqp "github.com/rabbitmq/amqp091-go"

	"github.com/outrigger-mesh/outrigger/components/pubsub"
)

// joinTime is how long Subscribe waits for a share of the group: others may be busy.
const joinTime = time.Second

// Subscribe implements pubsub.Driver.
func (d *driver) Subscribe(ctx context.Context, s pubsub.Subscription) (pubsub.Session, error) {
	stream := d.stream(s.Topic)
	if err := d.declareStream(ctx, stream); err != nil {
		return nil, err
	}
	base := d.group(s)
	if err := d.makeGroup(ctx, stream, base, s.Earliest); err != nil {
		return nil, err
	}
	session := d.join(stream, base)
	bounded, cancel := context.WithTimeout(ctx, joinTime)
	defer cancel()
	session.m.share(bounded)
	return session, nil
}

func (d *driver) group(s pubsub.Subscription) string {
	return "outrigger." + d.name + ".group." + hashed(s.Topic.Namespace, s.Topic.Name, s.Group)
}

// join adds a session to the member of the group, which is begun with the first one.
func (d *driver) join(stream, base string) *session {
	d.mu.Lock()
	defer d.mu.Unlock()
	m := d.groups[base]
	if m == nil {
		m = newMember(d, stream, base)
		d.groups[base] = m
	}
	s := &session{m: m, room: true, held: map[string]*entry{}}
	m.mu.Lock()
	m.sessions[s] = true
	m.mu.Unlock()
	m.stir()
	return s
}

// seats is how many sidecars have a share at most. It is stored, so it must not change.
const seats = parts

func seatsQueue(base string) string { return base + ".seats" }

func progressQueue(base string, number int) string { return fmt.Sprintf("%s.%d", base, number) }

// often is how many times a message may go back before the server drops it: newer ones would after 20 times.
const often = int64(1<<31 - 1)

// makeGroup makes a group if it is new. Its exchange is made last: where it is, all is. Nothing goes through it; unlike a queue it is on no node alone.
func (d *driver) makeGroup(ctx context.Context, stream, base string, earliest bool) error {
	if made, err := d.made(ctx, base); made || err != nil {
		return err
	}
	d.making.Lock() // within this connection the queue that locks it would be no lock
	defer d.making.Unlock()
	lock, err := d.lock(ctx, base+".lock")
	if err != nil {
		return err
	}
	defer lock.Close()
	if made, err := d.made(ctx, base); made || err != nil {
		return err
	}
	former, err := d.exists(ctx, base+".there") // which was made last before there were seats
	if err != nil {
		return err
	}
	ch, err := d.link.channel(ctx)
	if err != nil {
		return err
	}
	defer ch.Close()
	return d.link.said(ctx, within(ctx, func() error {
		if err := ch.Confirm(false); err != nil {
			return err
		}
		low := int64(0)
		if former {
			return makeSeats(ch, base)
		}
		if !earliest {
			var err error
			if low, err = d.mark(ctx, stream); err != nil {
				return err
			}
		}
		return make8(ch, base, low)
	}))
}

// make8 makes the queues of a group. What another left of it half made goes first.
func make8(ch *amqp.Channel, base string, low int64) error {
	if _, err := ch.QueueDeclare(base, true, false, false, false, amqp.Table{"x-queue-type": "quorum", "x-delivery-limit": often}); err != nil {
		return err
	}
	if _, err := ch.QueuePurge(base, false); err != nil {
		return err
	}
	body, err := cbor.Marshal(progress{Low: low})
	if err != nil {
		return err
	}
	var all []*amqp.DeferredConfirmation
	put := func(queue string, body []byte) error {
		c, err := ch.PublishWithDeferredConfirm("", queue, false, false, amqp.Publishing{DeliveryMode: amqp.Persistent, Body: body})
		all = append(all, c)
		return err
	}
	for number := range parts {
		args := amqp.Table{"x-queue-type": "quorum", "x-delivery-limit": often, "x-max-length": int64(1), "x-overflow": "drop-head"}
		if _, err := ch.QueueDeclare(progressQueue(base, number), true, false, false, false, args); err != nil {
			return err
		}
		if err := errors.Join(put(progressQueue(base, number), body), put(base, []byte{byte(number)})); err != nil {
			return err
		}
	}
	for _, c := range all {
		if !c.Wait() {
			return errors.New("the server did not confirm a new group")
		}
	}
	return makeSeats(ch, base)
}

// makeSeats makes what the sidecars of a group are counted by, and says that the group is made.
func makeSeats(ch *amqp.Channel, base string) error {
	if _, err := ch.QueueDeclare(seatsQueue(base), true, false, false, false, amqp.Table{"x-queue-type": "quorum", "x-delivery-limit": often}); err != nil {
		return err
	}
	if _, err := ch.QueuePurge(seatsQueue(base), false); err != nil {
		return err
	}
	for range seats {
		c, err := ch.PublishWithDeferredConfirm("", seatsQueue(base), false, false, amqp.Publishing{DeliveryMode: amqp.Persistent})
		if err != nil {
			return err
		}
		if !c.Wait() {
			return errors.New("the server did not confirm a new group")
		}
	}
	return ch.ExchangeDeclare(base, amqp.ExchangeFanout, true, false, false, false, nil)
}

// made tells whether a group is there, with all that belongs to it.
func (d *driver) made(ctx context.Context, base string) (bool, error) {
	ch, err := d.link.channel(ctx)
	if err != nil {
		return false, err
	}
	err = within(ctx, func() error {
		return ch.ExchangeDeclarePassive(base, amqp.ExchangeFanout, true, false, false, false, nil)
	})
	if code(err) == amqp.NotFound { // which ends the channel
		return false, nil
	}
	if err == nil {
		err = within(ctx, ch.Close)
	}
	return err == nil, d.link.said(ctx, err)
}

func (d *driver) exists(ctx context.Context, queue string) (bool, error) {
	ch, err := d.link.channel(ctx)
	if err != nil {
		return false, err
	}
	err = within(ctx, func() error {
		_, err := ch.QueueDeclarePassive(queue, true, false, false, false, nil)
		return err
	})
	if code(err) == amqp.NotFound && !homeless(err) { // which ends the channel
		return false, nil
	}
	if err == nil {
		err = within(ctx, ch.Close)
	}
	return err == nil, d.link.said(ctx, err)
}

// homeless tells whether err is of a queue that is there, on a node of a cluster that is away: who took it for absent would make the group anew, which
// forgets how far it is.
func homeless(err error) bool {
	var e *amqp.Error
	return errors.As(err, &e) && e.Code == amqp.NotFound && strings.Contains(e.Reason, "home node")
}

// lock has a queue that only one connection can have. It goes with the channel's consumer, or the connection.
func (d *driver) lock(ctx context.Context, queue string) (*amqp.Channel, error) {
	for {
		ch, err := d.link.channel(ctx)
		if err != nil {
			return nil, err
		}
		err = within(ctx, func() error {
			if _, err := ch.QueueDeclare(queue, false, true, true, false, nil); err != nil {
				return err
			}
			_, err := ch.Consume(queue, "", true, true, false, false, nil)
			return err
		})
		if code(err) != amqp.ResourceLocked {
			return ch, d.link.said(ctx, err)
		}
		select {
		case <-time.After(20 * time.Millisecond):
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
}

// mark puts something without meaning into the stream, and answers the offset behind it: what comes now is what a new group begins with.
func (d *driver) mark(ctx context.Context, stream string) (int64, error) {
	ch, err := d.streams.channel(ctx)
	if err != nil {
		return 0, err
	}
	defer ch.Close()
	if err := ch.Qos(100, 0, false); err != nil {
		return 0, err
	}
	came, err := ch.Consume(stream, "", false, false, false, false, amqp.Table{"x-stream-offset": "next"})
	if err != nil {
		return 0, err
	}
	id := rand.Text()
	for {
		if err := ch.PublishWithContext(ctx, "", stream, false, false, amqp.Publishing{ContentType: markType, MessageId: id, DeliveryMode: amqp.Persistent}); err != nil {
			return 0, err
		}
		again := time.After(time.Second)
		for waiting := true; waiting; {
			select {
			case m, ok := <-came:
				if !ok {
					return 0, errors.New("the stream ended")
				}
				if err := m.Ack(false); err != nil {
					return 0, err
				}
				if m.ContentType == markType && m.MessageId == id {
					return offsetOf(&m) + 1, nil
				}
			case <-again:
				waiting = false
			case <-ctx.Done():
				return 0, ctx.Err()
			}
		}
	}
}

func offsetOf(m *amqp.Delivery) int64 {
	offset, _ := m.Headers["x-stream-offset"].(int64)
	return offset
}
