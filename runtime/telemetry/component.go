package telemetry

import (
	"context"
	"iter"
	"slices"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"google.golang.org/grpc/codes"

	"github.com/outrigger-mesh/outrigger/components"
)

type callKey struct {
	id   components.ID
	op   string
	code codes.Code
}

// observer is the components.Observer of a Telemetry.
type observer struct {
	metrics *Metrics
	tracer  *Tracer
}

func (o observer) Observe(ctx context.Context, id components.ID, op string, start time.Time, err error) {
	took := time.Since(start)
	code := codes.OK
	if err != nil {
		code = o.metrics.code(err)
	}
	o.metrics.call.get(callKey{id, op, code}, o.metrics.newCall).Observe(took.Seconds())
	if o.tracer != nil {
		o.tracer.component(ctx, id, op, start, took, code)
	}
}

func (m *Metrics) newCall(k callKey, _ int) (prometheus.Observer, bool) {
	return m.calls.WithLabelValues(k.id.Capability, k.id.Name, k.id.Driver, k.op, codeName("grpc", int(k.code))), true
}

// instances are the registries of components' instances, those of one component in the order they came.
type instances struct {
	mu  sync.Mutex
	all map[components.ID][]*prometheus.Registry
}

func (s *instances) add(id components.ID) (prometheus.Registerer, func()) {
	reg := prometheus.NewRegistry()
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.all == nil {
		s.all = map[components.ID][]*prometheus.Registry{}
	}
	key := components.ID{Capability: id.Capability, Name: id.Name} // a reload may bring another driver
	s.all[key] = append(s.all[key], reg)
	labels := prometheus.Labels{"capability": id.Capability, "component": id.Name, "driver": id.Driver}
	return prometheus.WrapRegistererWith(labels, reg), func() { s.remove(key, reg) }
}

func (s *instances) remove(key components.ID, reg *prometheus.Registry) {
	s.mu.Lock()
	defer s.mu.Unlock()
	rest := slices.DeleteFunc(s.all[key], func(r *prometheus.Registry) bool { return r == reg })
	if s.all[key] = rest; len(rest) == 0 {
		delete(s.all, key)
	}
}

func (s *instances) gatherers() []prometheus.Gatherer {
	s.mu.Lock()
	defer s.mu.Unlock()
	newest := make([]prometheus.Gatherer, 0, len(s.all))
	for _, regs := range s.all {
		newest = append(newest, regs[len(regs)-1])
	}
	return newest
}

var upDesc = prometheus.NewDesc("outrigger_component_up", "1 if the component can be called, 0 if it is starting or failing.",
	[]string{"capability", "component"}, nil)

// upCollector asks for the states when they are wanted, so that a component which was removed leaves none behind.
type upCollector struct {
	states func() iter.Seq2[components.ID, bool]
}

func (c *upCollector) Describe(to chan<- *prometheus.Desc) { to <- upDesc }

func (c *upCollector) Collect(to chan<- prometheus.Metric) {
	for id, up := range c.states() {
		value := 0.0
		if up {
			value = 1
		}
		to <- prometheus.MustNewConstMetric(upDesc, prometheus.GaugeValue, value, id.Capability, id.Name)
	}
}
