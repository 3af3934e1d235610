package rabbitmq

import (
	"context"
	"errors"
	"time"

	"github.com/outrigger-mesh/outrigger/components/pubsub"
)

// RenewEvery has what is held given back more often. It is for a driver without sessions.
func RenewEvery(d pubsub.Driver, every time.Duration) { d.(*driver).renew = every }

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
