package kafka

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/IBM/sarama"

	"github.com/outrigger-mesh/outrigger/components"
	"github.com/outrigger-mesh/outrigger/components/internal/backend"
	"github.com/outrigger-mesh/outrigger/components/pubsub"
)

// retryEvery is the time between tries of the producer: leaders change in some hundred milliseconds at best.
const retryEvery = 250 * time.Millisecond

// producer sends what many callers publish, in as few requests as they come together in.
type producer struct {
	client sarama.Client
	async  sarama.AsyncProducer
	ended  sync.WaitGroup
}

// produce makes a producer, whose messages and batches have so many bytes at most.
func (c *conn) produce(ctx context.Context, bytes int) (*producer, error) {
	config := c.config()
	config.Net.MaxOpenRequests = 1 // idempotence needs it
	config.Producer.Idempotent, config.Producer.RequiredAcks = true, sarama.WaitForAll
	config.Producer.MaxMessageBytes = bytes
	config.Producer.Timeout = c.opts.Timeout
	config.Producer.Retry.Max, config.Producer.Retry.Backoff = int(2*c.opts.Timeout/retryEvery), retryEvery
	config.Producer.Return.Successes = true
	config.Producer.Partitioner = newPartitioner
	p := &producer{}
	_, err := backend.Within(ctx, func() (_ any, err error) {
		if p.client, err = sarama.NewClient(c.opts.Addresses, config); err != nil {
			return nil, err
		}
		if p.async, err = sarama.NewAsyncProducerFromClient(p.client); err != nil {
			return nil, errors.Join(err, p.client.Close())
		}
		return nil, nil
	}, func(any) error { return errors.Join(p.async.Close(), p.client.Close()) })
	if err != nil {
		return nil, err
	}
	p.ended.Go(func() {
		for m := range p.async.Successes() {
			m.Metadata.(*sending).answer(nil)
		}
	})
	p.ended.Go(func() {
		for e := range p.async.Errors() {
			e.Msg.Metadata.(*sending).answer(e.Err)
		}
	})
	return p, nil
}

// close sends what there is to send, and waits for its answers.
func (p *producer) close() {
	p.async.AsyncClose()
	p.ended.Wait()
	_ = p.client.Close()
}

// sending is what one call sends.
type sending struct {
	mu   sync.Mutex
	open int
	err  error
	done chan struct{}
}

func (s *sending) answer(err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.err == nil {
		s.err = err
	}
	if s.open--; s.open == 0 {
		close(s.done)
	}
}

// send sends messages of topics that are there, and waits until all replicas that are in sync have them.
func (p *producer) send(ctx context.Context, all []*sarama.ProducerMessage) error {
	s := &sending{open: len(all), done: make(chan struct{})}
	for i, m := range all {
		m.Metadata = s
		select {
		case p.async.Input() <- m:
		case <-ctx.Done():
			if i == 0 {
				return errNotSent
			}
			return ctx.Err()
		}
	}
	select {
	case <-s.done:
		return s.err
	case <-ctx.Done():
		return ctx.Err()
	}
}

var errNotSent = errors.New("the brokers do not answer those who came before")

// Publish implements pubsub.Driver.
func (d *driver) Publish(ctx context.Context, events []pubsub.Publication) ([]pubsub.Result, error) {
	limited, cancel := context.WithTimeout(ctx, 3*d.opts.Timeout)
	defer cancel()
	through := d.conn.small
	messages, results := make([]*sarama.ProducerMessage, len(events)), make([]pubsub.Result, len(events))
	for i := range events {
		topic := topicName(d.opts.Prefix, events[i].Topic)
		if _, err := d.conn.partitions(limited, topic); err != nil {
			return nil, d.conn.failed(ctx, err)
		}
		messages[i], results[i].ID = message(topic, &events[i].Event), events[i].Event.ID
		if messages[i].ByteSize(2) >= smallBatch-overhead {
			through = d.conn.big
		}
	}
	if err := through.send(limited, messages); err != nil {
		return nil, d.unpublished(ctx, err)
	}
	return results, nil
}

// overhead is what a batch takes beside its messages.
const overhead = 1 << 10

func (d *driver) unpublished(ctx context.Context, err error) error {
	switch {
	case errors.Is(err, sarama.ErrMessageSizeTooLarge):
		return components.WithReason(fmt.Errorf("%w: %s takes no message of that size for the topic: %w", components.ErrExhausted, d.conn.where, err),
			pubsub.ReasonEventLarge, "limit", "event")
	case denied(err):
		return backend.Refused(d.conn.where, err)
	case errors.Is(err, errNotSent):
		return backend.Unreachable(ctx, d.conn.where, err)
	}
	return backend.Unknown(ctx, d.conn.where, err)
}

// partitioner has messages with a key where other producers have them, too. The others stay with one partition for a while: that makes
// larger batches.
type partitioner struct {
	keyed   sarama.DynamicConsistencyPartitioner
	without sarama.Partitioner
	left    int
	at      int32
}

// stay is how many messages without a key go to one partition before the next one has its turn.
const stay = 32

func newPartitioner(topic string) sarama.Partitioner {
	return &partitioner{keyed: sarama.NewMurmur2Partitioner(topic).(sarama.DynamicConsistencyPartitioner), without: sarama.NewRandomPartitioner(topic), at: -1}
}

// Partition implements sarama.Partitioner.
func (p *partitioner) Partition(m *sarama.ProducerMessage, partitions int32) (int32, error) {
	if m.Key != nil {
		return p.keyed.Partition(m, partitions)
	}
	switch {
	case p.at < 0:
		at, err := p.without.Partition(m, partitions)
		if err != nil {
			return 0, err
		}
		p.at, p.left = at, stay
	case p.left == 0:
		p.at, p.left = p.at+1, stay
	}
	p.left--
	p.at %= partitions
	return p.at, nil
}

// RequiresConsistency implements sarama.Partitioner.
func (p *partitioner) RequiresConsistency() bool { return true }

// MessageRequiresConsistency implements sarama.DynamicConsistencyPartitioner.
func (p *partitioner) MessageRequiresConsistency(m *sarama.ProducerMessage) bool { return m.Key != nil }
