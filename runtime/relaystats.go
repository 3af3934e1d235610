package runtime

import (
	"github.com/prometheus/client_golang/prometheus"

	"github.com/outrigger-mesh/outrigger/runtime/mesh/grpcproxy"
)

// relayStats shows the figures of a relay as metrics. What a relay counts it counts for each connection, so they are gathered
// when they are read and cost nothing until then.
type relayStats struct{ relays map[string]*grpcproxy.Relay } // by the side they serve

var (
	connections = prometheus.NewDesc("outrigger_relay_connections", "Open connections of a relay.", []string{"side", "direction"}, nil)
	streams     = prometheus.NewDesc("outrigger_relay_streams", "Requests that a relay carries now.", []string{"side"}, nil)
	held        = prometheus.NewDesc("outrigger_relay_held_bytes", "Bytes that wait in a relay for their receivers.", []string{"side"}, nil)
	resets      = prometheus.NewDesc("outrigger_relay_resets_total", "RST_STREAM frames received.", []string{"side"}, nil)
	faults      = prometheus.NewDesc("outrigger_relay_faults_total", "Connections that ended for a fault of the peer's.", []string{"side"}, nil)
)

func (r relayStats) Describe(to chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{connections, streams, held, resets, faults} {
		to <- d
	}
}

func (r relayStats) Collect(to chan<- prometheus.Metric) {
	for side, relay := range r.relays {
		s := relay.Stats()
		gauge := func(d *prometheus.Desc, v float64, labels ...string) {
			to <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, v, append([]string{side}, labels...)...)
		}
		gauge(connections, float64(s.Downstream), "downstream")
		gauge(connections, float64(s.Upstream), "upstream")
		gauge(streams, float64(s.Streams))
		gauge(held, float64(s.Held))
		to <- prometheus.MustNewConstMetric(resets, prometheus.CounterValue, float64(s.Resets), side)
		to <- prometheus.MustNewConstMetric(faults, prometheus.CounterValue, float64(s.Faults), side)
	}
}
