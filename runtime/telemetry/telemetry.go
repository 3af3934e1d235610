// Package telemetry is what the sidecar tells of its work: its log, metrics, traces and access log. It is built once and handed
// down; there is nothing global in it. What it promises to those who call it on their hot path: it does not block, it does
// not fail, its memory is bounded, and what it cannot keep up with is dropped and counted.
package telemetry

import (
	"context"
	"errors"
	"io"
	"iter"
	"log/slog"
	"os"

	"github.com/prometheus/client_golang/prometheus"
	"google.golang.org/grpc/codes"

	"github.com/outrigger-mesh/outrigger/components"
	"github.com/outrigger-mesh/outrigger/runtime/config"
)

// Info says whose telemetry it is.
type Info struct {
	Version, App, Namespace string

	// Code answers what the caller of a component is told of err, which is not nil. Without it each error is UNKNOWN.
	Code func(err error) codes.Code
	// Output takes the log. Nil means stderr.
	Output io.Writer
}

// Telemetry holds the parts. All of them may be used from any number of goroutines.
type Telemetry struct {
	Logger  *slog.Logger
	Metrics *Metrics
	Tracer  *Tracer    // nil when no endpoint is configured: its methods then pass on what came in
	Access  *AccessLog // nil when off: its methods then do nothing

	level *slog.LevelVar
	tail  *tail
}

// New makes what conf asks for. It does not wait for the receiver of spans, which may be away.
func New(ctx context.Context, conf config.Telemetry, info Info) (*Telemetry, error) {
	if info.Output == nil {
		info.Output = os.Stderr
	}
	if info.Code == nil {
		info.Code = func(error) codes.Code { return codes.Unknown }
	}
	t := &Telemetry{level: new(slog.LevelVar), tail: &tail{out: info.Output}}
	info.Output = t.tail
	if err := t.SetLevel(conf.Log.Level); err != nil {
		return nil, err
	}
	t.Logger = newLogger(info, conf.Log.Format, t.level)
	t.Metrics = newMetrics(info)
	if conf.AccessLog != "" && conf.AccessLog != "off" {
		var err error
		if t.Access, err = openAccessLog(conf.AccessLog, conf.Log.Format == "json", t.Logger, t.Metrics.accessDropped); err != nil {
			return nil, err
		}
	}
	if conf.Tracing.Endpoint != "" {
		var err error
		if t.Tracer, err = newTracer(ctx, conf.Tracing, info, t.Logger, t.Metrics.spansDropped); err != nil {
			return nil, errors.Join(err, t.Access.Close(ctx))
		}
	}
	return t, nil
}

// Close sends and writes what is held, and waits for it as long as ctx lasts.
func (t *Telemetry) Close(ctx context.Context) error {
	return errors.Join(t.Tracer.close(ctx), t.Access.Close(ctx))
}

// LastLog are the last lines of the log, 128 KiB at most.
func (t *Telemetry) LastLog() []byte { return t.tail.last() }

// Observer is told of the calls of components: it counts and times them, and adds a span to the trace of a sampled call.
func (t *Telemetry) Observer() components.Observer { return observer{t.Metrics, t.Tracer} }

// ComponentRegisterer answers where an instance of a component registers metrics of its own, and what unregisters them
// all. While two instances of one component overlap, as at a reload, the newer one's metrics are shown.
func (t *Telemetry) ComponentRegisterer(id components.ID) (r prometheus.Registerer, unregister func()) {
	return t.Metrics.instances.add(id)
}

// ShowComponents lets outrigger_component_up tell what states answers when metrics are read. To be called at most once.
func (t *Telemetry) ShowComponents(states func() iter.Seq2[components.ID, bool]) {
	t.Metrics.registry.MustRegister(&upCollector{states: states})
}
