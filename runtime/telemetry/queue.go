package telemetry

import (
	"context"
	"log/slog"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
)

const (
	maxSpans      = 2048 // that wait to be sent
	batchSpans    = 512
	batchLinger   = time.Second // how long a span waits for others to be sent with
	exportTimeout = 5 * time.Second
)

// queue hands spans that have ended to the exporter, in batches and from a goroutine of its own. It never waits for it: what
// finds the queue full is dropped and counted, and so is what could not be sent.
type queue struct {
	exporter     sdktrace.SpanExporter
	log          *slog.Logger
	full, failed prometheus.Counter
	spans        chan sdktrace.ReadOnlySpan

	ctx    context.Context // of exports: ends when Shutdown may wait no longer
	cancel context.CancelFunc
	once   sync.Once
	stop   chan struct{}
	done   chan struct{}
	err    error // of the last export; read by the goroutine alone
}

func newQueue(exporter sdktrace.SpanExporter, log *slog.Logger, dropped *prometheus.CounterVec) *queue {
	q := &queue{
		exporter: exporter, log: log, spans: make(chan sdktrace.ReadOnlySpan, maxSpans),
		full: dropped.WithLabelValues("queue-full"), failed: dropped.WithLabelValues("not-sent"),
		stop: make(chan struct{}), done: make(chan struct{}),
	}
	q.ctx, q.cancel = context.WithCancel(context.Background())
	go q.run()
	return q
}

// OnStart has nothing to do: a span is of interest when it ends.
func (q *queue) OnStart(context.Context, sdktrace.ReadWriteSpan) {}

func (q *queue) OnEnd(s sdktrace.ReadOnlySpan) {
	select {
	case q.spans <- s:
	default:
		q.full.Inc()
	}
}

// ForceFlush does not wait: Shutdown does.
func (q *queue) ForceFlush(context.Context) error { return nil }

func (q *queue) Shutdown(ctx context.Context) error {
	q.once.Do(func() { close(q.stop) })
	defer q.cancel()
	select {
	case <-q.done:
	case <-ctx.Done():
		q.cancel()
		<-q.done
	}
	return q.exporter.Shutdown(ctx)
}

func (q *queue) run() {
	defer close(q.done)
	batch := make([]sdktrace.ReadOnlySpan, 0, batchSpans)
	for {
		select {
		case s := <-q.spans:
			batch = q.fill(append(batch, s))
			q.export(batch)
			clear(batch)
			batch = batch[:0]
		case <-q.stop:
			for len(q.spans) > 0 {
				q.export(q.fill(nil))
			}
			return
		}
	}
}

// fill adds what comes until the batch is full or has waited long enough.
func (q *queue) fill(batch []sdktrace.ReadOnlySpan) []sdktrace.ReadOnlySpan {
	linger := time.NewTimer(batchLinger)
	defer linger.Stop()
	stop := q.stop
	for len(batch) < batchSpans {
		select {
		case s := <-q.spans:
			batch = append(batch, s)
			continue
		default:
		}
		select {
		case s := <-q.spans:
			batch = append(batch, s)
		case <-linger.C:
			return batch
		case <-stop:
			return batch
		}
	}
	return batch
}

func (q *queue) export(batch []sdktrace.ReadOnlySpan) {
	ctx, cancel := context.WithTimeout(q.ctx, exportTimeout)
	defer cancel()
	err := q.exporter.ExportSpans(ctx, batch)
	switch {
	case err != nil && q.err == nil: // once, not for each batch of an outage
		q.log.Warn("spans cannot be sent", "err", err)
	case err == nil && q.err != nil:
		q.log.Info("spans are sent again")
	}
	if q.err = err; err != nil {
		q.failed.Add(float64(len(batch)))
	}
}
