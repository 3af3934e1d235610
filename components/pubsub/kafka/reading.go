package kafka

import (
	"context"
	"errors"
	"sync"

	"github.com/IBM/sarama"

	"github.com/outrigger-mesh/outrigger/components/internal/backend"
	"github.com/outrigger-mesh/outrigger/components/pubsub"
	"github.com/outrigger-mesh/outrigger/components/pubsub/internal/parts"
)

// reading is the goroutine that reads a partition for a group.
type reading struct {
	g      *group
	p      *parts.Part
	cancel context.CancelFunc
	ended  chan struct{}
	before *reading // of the same partition, which must have ended

	mu     sync.Mutex
	from   sarama.PartitionConsumer // nil: none now
	paused bool
}

// read begins to read. It must be stopped. For the group's member alone.
func (g *group) read(p *parts.Part) {
	ctx, cancel := context.WithCancel(context.Background())
	r := &reading{g: g, p: p, cancel: cancel, ended: make(chan struct{}), before: g.readings[p.ID()]}
	g.readings[p.ID()] = r
	p.Read(r)
	go r.run(ctx)
}

// Stop implements parts.Reading.
func (r *reading) Stop() { r.cancel() }

// Pause implements parts.Reading.
func (r *reading) Pause(paused bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.paused == paused {
		return
	}
	r.paused = paused
	r.apply()
}

func (r *reading) apply() {
	switch {
	case r.from == nil:
	case r.paused:
		r.from.Pause()
	default:
		r.from.Resume()
	}
}

func (r *reading) run(ctx context.Context) {
	defer close(r.ended)
	if r.before != nil {
		<-r.before.ended
		r.before = nil
	}
	g := r.g
	var wait backend.Backoff
	for ctx.Err() == nil {
		err := r.consume(ctx, &wait)
		switch {
		case ctx.Err() != nil:
			return
		case errors.Is(err, sarama.ErrOffsetOutOfRange):
			if err = r.removed(ctx); err == nil {
				continue
			}
		}
		if err != nil {
			g.log.Warn("a partition cannot be read; it is tried again", "partition", r.p.ID(), "err", err)
		}
		if wait.Wait(ctx) != nil {
			return
		}
	}
}

// removed goes on with the first event that there is.
func (r *reading) removed(ctx context.Context) error {
	g := r.g
	first, err := backend.Within(ctx, func() (int64, error) { return g.d.conn.client.GetOffset(g.topic, r.p.ID(), sarama.OffsetOldest) }, func(int64) error { return nil })
	if err != nil {
		return err
	}
	if first <= r.p.Next() { // the log has become shorter: what a broker was elected for that did not have all
		r.p.Rewind(first)
		return nil
	}
	r.p.Skip(first)
	return nil
}

// consume reads until it cannot any more.
func (r *reading) consume(ctx context.Context, wait *backend.Backoff) error {
	g, next := r.g, r.p.Next()
	from, err := backend.Within(ctx, func() (sarama.PartitionConsumer, error) { return g.consumer.ConsumePartition(g.topic, r.p.ID(), next) }, sarama.PartitionConsumer.Close)
	if err != nil {
		return err
	}
	r.use(from)
	defer func() {
		r.use(nil)
		from.AsyncClose()
		for range from.Messages() {
		}
		for range from.Errors() {
		}
	}()
	for {
		select {
		case <-ctx.Done():
			return nil
		case m, ok := <-from.Messages():
			if !ok {
				return closing(from)
			}
			wait.Reset()
			r.take(m, from.Messages())
		case e, ok := <-from.Errors():
			if !ok {
				return nil
			}
			if errors.Is(e.Err, sarama.ErrOffsetOutOfRange) {
				return e.Err
			}
		}
	}
}

// closing is the error that an end of messages came with, if there is one.
func closing(from sarama.PartitionConsumer) error {
	for e := range from.Errors() {
		if errors.Is(e.Err, sarama.ErrOffsetOutOfRange) {
			return e.Err
		}
	}
	return nil
}

func (r *reading) use(from sarama.PartitionConsumer) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.from = from
	r.apply()
}

// take takes in a message and those that are there with it.
func (r *reading) take(m *sarama.ConsumerMessage, more <-chan *sarama.ConsumerMessage) {
	const together = 64
	var offsets []int64
	var events []pubsub.Event
	for m != nil {
		offsets, events = append(offsets, m.Offset), append(events, event(m))
		if len(events) == together || len(more) == 0 {
			break
		}
		m = <-more // nil at the end
	}
	r.p.Arrive(offsets, events)
}
