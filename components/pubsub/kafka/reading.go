package kafka

import (
	"context"
	"errors"
	"sync"
	"time"

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

	quiet time.Duration   // after which it is looked whether there is something to be read
	own   sarama.Consumer // nil: it is the group's
}

// A partition that is quiet though there is more in it is read anew: the library may have lost its leader. Where what there is is not for us, such as the
// marks of transactions, that happens less and less often.
const quietFirst, quietMost = 5 * time.Second, time.Minute

var errQuiet = errors.New("nothing comes, though there is more in it")

// read begins to read. It must be stopped. For the group's member alone.
func (g *group) read(p *parts.Part) {
	ctx, cancel := context.WithCancel(context.Background())
	r := &reading{g: g, p: p, cancel: cancel, ended: make(chan struct{}), before: g.readings[p.ID()], quiet: quietFirst}
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
		r.own, r.before = r.before.own, nil
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
	consumer := g.consumer
	if r.own != nil {
		consumer = r.own
	}
	from, err := backend.Within(ctx, func() (sarama.PartitionConsumer, error) { return consumer.ConsumePartition(g.topic, r.p.ID(), next) }, sarama.PartitionConsumer.Close)
	if err != nil {
		return err
	}
	r.use(from)
	defer func() {
		r.use(nil)
		r.close(from)
	}()
	look := time.NewTicker(time.Second)
	defer look.Stop()
	heard, end := time.Now(), int64(-1)
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
			heard, end, r.quiet = time.Now(), -1, quietFirst
		case <-look.C:
			switch {
			case r.isPaused():
				heard, end = time.Now(), -1
			case end > r.p.Next(): // a second ago it was there already
				r.quiet = min(2*r.quiet, quietMost)
				return errQuiet
			case time.Since(heard) > r.quiet:
				heard, end = time.Now(), r.end(ctx)
			default:
				end = -1
			}
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

// close waits until the library has let go of the partition, which it does once a broker that is asked has answered, or is given up. Where it does not, it
// would refuse the partition to whoever reads it next: that has a consumer of its own.
func (r *reading) close(from sarama.PartitionConsumer) {
	from.AsyncClose()
	closed := make(chan struct{})
	go func() {
		defer close(closed)
		for range from.Messages() {
		}
		for range from.Errors() {
		}
	}()
	late := time.NewTimer(10 * r.g.d.opts.Timeout) // it may ask each broker for the leader first
	defer late.Stop()
	select {
	case <-closed:
		return
	case <-late.C:
	}
	r.g.log.Warn("the client of Kafka does not let go of a partition: it is read over connections of its own", "partition", r.p.ID())
	if r.own != nil {
		_ = r.own.Close()
		r.own = nil
	}
	if own, err := r.g.d.conn.newConsumer(); err == nil {
		r.own = own
	}
}

// end is the offset behind the last event that there is; -1: it is not known.
func (r *reading) end(ctx context.Context) int64 {
	end, err := backend.Within(ctx, func() (int64, error) { return r.g.d.conn.client.GetOffset(r.g.topic, r.p.ID(), sarama.OffsetNewest) }, func(int64) error { return nil })
	if err != nil {
		return -1
	}
	return end
}

func (r *reading) isPaused() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.paused
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
