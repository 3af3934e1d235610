package telemetry

import (
	"net/http"
	"sync/atomic"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	dto "github.com/prometheus/client_model/go"
	"google.golang.org/grpc/codes"
)

// buckets, in seconds, reach from a cache in memory to a call that waits for people.
var buckets = []float64{.00005, .0001, .00025, .0005, .001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10}

// Metrics are the sidecar's, in a registry of their own. It gathers, as prometheus.Gatherer says.
type Metrics struct {
	registry  *prometheus.Registry
	instances instances

	code  func(error) codes.Code
	calls *prometheus.HistogramVec
	call  table[callKey, prometheus.Observer]

	requests *prometheus.HistogramVec
	mesh     table[meshKey, *MeshMeter]
	meshFull atomic.Bool                // it takes no more
	rest     table[meshKey, *MeshMeter] // of the service called other

	deliveries    *prometheus.CounterVec
	accessDropped prometheus.Counter
	spansDropped  *prometheus.CounterVec
}

func newMetrics(info Info) *Metrics {
	m := &Metrics{
		registry: prometheus.NewRegistry(),
		code:     info.Code,
		calls: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "outrigger_component_call_seconds", Buckets: buckets,
			Help: "Calls of components, and how long they took.",
		}, []string{"capability", "component", "driver", "op", "code"}),
		requests: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "outrigger_mesh_request_seconds", Buckets: buckets,
			Help: "Requests that were proxied, and how long they took.",
		}, []string{"direction", "protocol", "service", "version", "code"}),
		deliveries: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "outrigger_pubsub_deliveries_total", Help: "What became of events that were given to applications.",
		}, []string{"component", "outcome"}),
		accessDropped: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "outrigger_access_log_dropped_total",
			Help: "Lines of the access log that were lost because its output did not keep up or failed.",
		}),
		spansDropped: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "outrigger_trace_spans_dropped_total",
			Help: "Spans that were lost, because the queue was full or because they could not be sent.",
		}, []string{"why"}),
	}
	about := prometheus.NewGauge(prometheus.GaugeOpts{
		Name: "outrigger_info", Help: "Always 1: its labels say which sidecar this is.",
		ConstLabels: prometheus.Labels{"version": info.Version, "app": info.App, "namespace": info.Namespace},
	})
	about.Set(1)
	m.registry.MustRegister(m.calls, m.requests, m.deliveries, m.accessDropped, m.spansDropped, about,
		collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	return m
}

// Register adds collectors to those of the sidecar, at its start: two of one name panic.
func (m *Metrics) Register(cs ...prometheus.Collector) { m.registry.MustRegister(cs...) }

// CountDeliveries counts what became of n deliveries of a component.
func (m *Metrics) CountDeliveries(component, outcome string, n int) {
	m.deliveries.WithLabelValues(component, outcome).Add(float64(n))
}

// Gather collects the sidecar's metrics and those of its components.
func (m *Metrics) Gather() ([]*dto.MetricFamily, error) {
	return append(prometheus.Gatherers{m.registry}, m.instances.gatherers()...).Gather()
}

// Handler serves them. Metrics of a component that contradict each other are left out; the others are served all the same.
func (m *Metrics) Handler() http.Handler {
	return promhttp.HandlerFor(m, promhttp.HandlerOpts{ErrorHandling: promhttp.ContinueOnError, MaxRequestsInFlight: 4})
}
