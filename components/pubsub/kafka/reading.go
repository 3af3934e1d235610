package kafka

import (
	"context"
	"errors"
	"sync"

	"github.com/IBM/sarama"

	"github.com/outrigger-mesh/outrigger/components/internal/backend"
)

// reading is the goroutine that reads a partition for a group.
type reading struct {
	p      *part
	cancel context.CancelFunc
	ended  chan struct{}
	before *reading // of the same partition, which must have ended

	mu     sync.Mutex
	from   sarama.PartitionConsumer // nil: none now
	paused bool
}

// read begins to read. It must be stopped. For the group's member alone.
func (g *group) read(p *part) {
	ctx, cancel := context.WithCancel(context.Background())
	p.reading = &reading{p: p, cancel: cancel, ended: make(chan struct{}), before: g.readings[p.id]}
	g.readings[p.id] = p.reading
	go p.reading.run(ctx)
}

// stop ends it soon. Nothing is taken in any more once the partition is not the group's.
func (r *reading) stop() {
	if r != nil {
		r.cancel()
	}
}

// pause has it read no more than what is on its way, or go on.
func (r *reading) pause(paused bool) {
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
	g := r.p.g
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
			g.log.Warn("a partition cannot be read; it is tried again", "partition", r.p.id, "err", err)
		}
		if wait.Wait(ctx) != nil {
			return
		}
	}
}

// removed goes on with the first event that there is.
func (r *reading) removed(ctx context.Context) error {
	g := r.p.g
	first, err := within(ctx, func() (int64, error) { return g.d.conn.client.GetOffset(g.topic, r.p.id, sarama.OffsetOldest) }, func(int64) error { return nil })
	if err != nil {
		return err
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	if first <= r.p.next { // the log has become shorter: what a broker was elected for that did not have all
		r.p.next = first
		return nil
	}
	r.p.skip(first)
	return nil
}

// consume reads until it cannot any more.
func (r *reading) consume(ctx context.Context, wait *backend.Backoff) error {
	g := r.p.g
	g.mu.Lock()
	next := r.p.next
	g.mu.Unlock()
	from, err := within(ctx, func() (sarama.PartitionConsumer, error) { return g.consumer.ConsumePartition(g.topic, r.p.id, next) }, sarama.PartitionConsumer.Close)
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
	g := r.p.g
	g.mu.Lock()
	defer g.mu.Unlock()
	for n := 1; m != nil && g.parts[r.p.id] == r.p; n++ {
		r.p.arrive(m.Offset, event(m))
		if n == together || len(more) == 0 {
			break
		}
		m = <-more // nil at the end
	}
	g.dispatch()
	if g.held > int64(g.d.opts.Ahead) || len(r.p.items) > maxOpen {
		r.pause(true)
	}
}

// maxOpen bounds the events of a partition that are not settled and were read.
const maxOpen = 64 << 10
