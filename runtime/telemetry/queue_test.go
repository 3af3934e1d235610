package telemetry

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
)

// exporterFunc exports by a function.
type exporterFunc func(context.Context, []sdktrace.ReadOnlySpan) error

func (f exporterFunc) ExportSpans(ctx context.Context, s []sdktrace.ReadOnlySpan) error {
	return f(ctx, s)
}
func (f exporterFunc) Shutdown(context.Context) error { return nil }

func counters() *prometheus.CounterVec {
	return prometheus.NewCounterVec(prometheus.CounterOpts{Name: "dropped"}, []string{"why"})
}

func TestQueueDropsWhatItCannotHold(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		release, dropped := make(chan struct{}), counters()
		var sent int
		q := newQueue(exporterFunc(func(_ context.Context, s []sdktrace.ReadOnlySpan) error {
			<-release
			sent += len(s)
			return nil
		}), slog.New(slog.DiscardHandler), dropped)
		const n = 3 * maxSpans
		for range batchSpans {
			q.OnEnd(nil)
		}
		synctest.Wait() // a batch hangs in the exporter
		begun := time.Now()
		for range n - batchSpans {
			q.OnEnd(nil)
		}
		if took := time.Since(begun); took != 0 {
			t.Errorf("a full queue held up requests for %s", took)
		}
		lost := int(value(dropped.WithLabelValues("queue-full")))
		if lost != n-batchSpans-maxSpans {
			t.Errorf("%d dropped of %d, one batch is under way and %d may wait", lost, n, maxSpans)
		}
		close(release)
		if err := q.Shutdown(t.Context()); err != nil {
			t.Error(err)
		}
		if sent != n-lost {
			t.Errorf("%d sent, %d dropped of %d", sent, lost, n)
		}
	})
}

func TestQueueLogsAnOutageOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var out buffer
		var away atomic.Bool
		dropped := counters()
		q := newQueue(exporterFunc(func(context.Context, []sdktrace.ReadOnlySpan) error {
			if away.Load() {
				return errors.New("nobody there")
			}
			return nil
		}), slog.New(slog.NewTextHandler(&out, nil)), dropped)
		for _, gone := range []bool{false, true, true, false, false} {
			away.Store(gone)
			q.OnEnd(nil)
			time.Sleep(2 * batchLinger)
		}
		if err := q.Shutdown(t.Context()); err != nil {
			t.Error(err)
		}
		if n := strings.Count(out.String(), "\n"); n != 2 || !strings.Contains(out.String(), "nobody there") {
			t.Errorf("log is %q, expected a line for the outage and one for its end", out.String())
		}
		if lost := value(dropped.WithLabelValues("not-sent")); lost != 2 {
			t.Errorf("%v counted as not sent", lost)
		}
	})
}

func TestShutdownIsBoundedByItsContext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q := newQueue(exporterFunc(func(ctx context.Context, _ []sdktrace.ReadOnlySpan) error {
			<-ctx.Done()
			return ctx.Err()
		}), slog.New(slog.DiscardHandler), counters())
		q.OnEnd(nil)
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		begun := time.Now()
		if err := q.Shutdown(ctx); err != nil {
			t.Error(err)
		}
		if took := time.Since(begun); took != time.Second {
			t.Errorf("took %s", took)
		}
	})
}

func TestUnreachableCollectorCostsNothingButSpans(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	l.Close()
	tel := open(t, traced(l.Addr().String(), 1), Info{})
	for range maxSpans {
		s := tel.Tracer.StartMesh("outbound", Request{Protocol: "grpc", Method: "/a/b"})
		s.End(Result{})
	}
	until(t, "spans counted as not sent", func() bool {
		return value(tel.Metrics.spansDropped.WithLabelValues("not-sent")) > 0
	})
}
