package rabbitmq

import (
	"context"
	"errors"
	"time"

	"github.com/outrigger-mesh/outrigger/components/pubsub"
)

// RenewEvery has what is held given back more often. It is for a driver without sessions.
func RenewEvery(d pubsub.Driver, every time.Duration) { d.(*driver).renew = every }

// ConfirmWithin gives publications less time. It is for a driver that was not used yet.
func ConfirmWithin(d pubsub.Driver, most time.Duration) { d.(*driver).confirm = most }

// Sent is how many events a driver has sent.
func Sent(d pubsub.Driver) uint64 {
	p := &d.(*driver).publish
	p.turn <- struct{}{}
	defer func() { <-p.turn }()
	return p.sent
}

// DeleteTopic is what somebody does by RabbitMQ's own tools.
func DeleteTopic(ctx context.Context, d pubsub.Driver, t pubsub.Topic) error {
	ch, err := d.(*driver).link.channel(ctx)
	if err != nil {
		return err
	}
	defer ch.Close()
	_, err = ch.QueueDelete(d.(*driver).stream(t), false, false, false)
	return err
}

// HeldSince is when the oldest part of a driver's groups came to it.
func HeldSince(d pubsub.Driver) (oldest time.Time) {
	all := d.(*driver)
	all.mu.Lock()
	defer all.mu.Unlock()
	oldest = time.Now()
	for _, m := range all.groups {
		m.mu.Lock()
		for _, p := range m.parts {
			if p.claim.since.Before(oldest) {
				oldest = p.claim.since
			}
		}
		m.mu.Unlock()
	}
	return oldest
}

// AsBefore has a group as it was before its sidecars had seats.
func AsBefore(ctx context.Context, d pubsub.Driver, s pubsub.Subscription) error {
	ch, err := d.(*driver).link.channel(ctx)
	if err != nil {
		return err
	}
	defer ch.Close()
	base := d.(*driver).group(s)
	if _, err := ch.QueueDelete(seatsQueue(base), false, false, false); err != nil {
		return err
	}
	_, err = ch.QueueDeclare(base+".there", true, false, false, false, nil)
	return errors.Join(err, ch.ExchangeDelete(base, false, false))
}
