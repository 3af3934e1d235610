package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"google.golang.org/grpc"
)

// bus is an API whose publications are measured up to their delivery.
type bus interface {
	// subscribe returns once everything that is published from then on arrives. got is called with each event's data, one
	// after the other, and ended once, should the stream end.
	subscribe(ctx context.Context, got func([]byte), ended func(error)) error
	// publish publishes the events in one call of the i-th publisher.
	publish(ctx context.Context, i int, events [][]byte) error
}

const (
	deliverPrefix = "deliver:"
	batched       = 100              // events of one call that publishes many
	mostAhead     = 80 * batched     // events that the publishers may be ahead of the subscriber
	drainTime     = 30 * time.Second // until all of them must have arrived
)

// deliver publishes in a closed loop while one stream receives, and prints how many events arrived in which time, until the
// last. The call is deliver:COMPONENT:BATCH.
func deliver(conns []*grpc.ClientConn, call string, c int, length time.Duration) error {
	at := strings.LastIndexByte(call, ':')
	component := strings.TrimPrefix(call[:at], deliverPrefix)
	batch, err := strconv.Atoi(call[at+1:])
	if err != nil {
		return err
	}
	topic := "bench-" + strconv.Itoa(os.Getpid())
	var b bus = &ownBus{conns: conns, component: component, topic: topic}
	switch {
	case component == "daprd":
		b = &daprBus{conns: conns, topic: topic}
	case strings.HasPrefix(component, directKafka):
		b = &kafkaBus{addresses: strings.Split(strings.TrimPrefix(component, directKafka), ","), topic: topic}
	case strings.HasPrefix(component, directRedis):
		b = &redisBus{client: redisClient(strings.TrimPrefix(component, directRedis)), topic: topic}
	}
	t := &tally{began: time.Now(), batch: batch}
	t.moved.L = &t.mu
	ctx, cancel := context.WithTimeout(context.Background(), length+2*drainTime)
	defer cancel()
	if err := b.subscribe(ctx, t.got, t.fail); err != nil {
		return err
	}
	t.run(ctx, b, c, 300*time.Millisecond)
	fmt.Fprintln(os.Stderr, "warm")
	return json.NewEncoder(os.Stdout).Encode(t.run(ctx, b, c, length))
}

// tally counts what was published and what of it has arrived.
type tally struct {
	began                time.Time
	batch                int // events that are published at once
	mu                   sync.Mutex
	moved                sync.Cond // by a batch that has arrived: room for one publisher
	published, delivered int
	took                 []float64 // microseconds, from before the publication
	last                 time.Time
	err                  error
}

func (t *tally) run(ctx context.Context, b bus, c int, length time.Duration) measured {
	t.mu.Lock()
	t.took = nil
	t.mu.Unlock()
	began := time.Now()
	late := time.AfterFunc(length+drainTime, func() { t.fail(errors.New("not all events were delivered in time")) })
	defer late.Stop()
	var wg sync.WaitGroup
	for i := range c {
		wg.Go(func() {
			for time.Since(began) < length && t.ahead() {
				if err := b.publish(ctx, i, t.events()); err != nil {
					t.fail(err)
				}
			}
		})
	}
	wg.Wait()
	t.mu.Lock()
	defer t.mu.Unlock()
	for t.err == nil && t.delivered < t.published {
		t.moved.Wait()
	}
	m := measured{Calls: len(t.took), Seconds: t.last.Sub(began).Seconds()}
	if t.err != nil {
		m.Failed, m.Last = t.published-t.delivered+1, t.err.Error()
	}
	if slices.Sort(t.took); len(t.took) > 0 {
		m.P50, m.P99 = t.took[len(t.took)/2], t.took[len(t.took)*99/100]
	}
	return m
}

// ahead waits until a batch more may be published, and counts it.
func (t *tally) ahead() bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	for t.err == nil && t.published-t.delivered+t.batch > mostAhead {
		t.moved.Wait()
	}
	t.published += t.batch
	return t.err == nil
}

const stampSize = 20 // digits

// events makes a batch of events that tell when they were made. They are text, which daprd carries as it is within its JSON.
func (t *tally) events() [][]byte {
	now := time.Since(t.began).Nanoseconds()
	all := make([][]byte, t.batch)
	for i := range all {
		all[i] = bytes.Repeat([]byte{'.'}, payload)
		copy(all[i], fmt.Sprintf("%0*d", stampSize, now))
	}
	return all
}

func (t *tally) got(data []byte) {
	t.mu.Lock()
	defer t.mu.Unlock()
	made, err := int64(0), error(nil)
	if len(data) == payload {
		made, err = strconv.ParseInt(string(data[:stampSize]), 10, 64)
	} else {
		err = fmt.Errorf("an event of %d bytes", len(data))
	}
	t.last = time.Now()
	t.took = append(t.took, float64(t.last.Sub(t.began).Nanoseconds()-made)/1e3)
	if t.delivered++; t.delivered > t.published {
		err = errors.New("more events were delivered than published")
	}
	if err != nil {
		t.failed(err)
	}
	if t.delivered%t.batch == 0 {
		t.moved.Signal() // not all publishers for each event: that would be most of the work
	}
}

func (t *tally) fail(err error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.failed(err)
}

func (t *tally) failed(err error) {
	if t.err == nil {
		t.err = err
	}
	t.moved.Broadcast()
}
