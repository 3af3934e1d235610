package runtime

import (
	"github.com/prometheus/client_golang/prometheus"

	"github.com/outrigger-mesh/outrigger/runtime/mesh"
	"github.com/outrigger-mesh/outrigger/runtime/mesh/rpcproxy"
	"github.com/outrigger-mesh/outrigger/runtime/policy"
)

// meshStats shows how the mesh's policies and services are, gathered when they are read.
type meshStats struct {
	rules     *policy.Keeper
	directory *mesh.Directory
}

var (
	policyChanges = prometheus.NewDesc("outrigger_mesh_policies_changes_total", "Policies that a configuration component brought since the start.", []string{"outcome"}, nil)
	policyRefused = prometheus.NewDesc("outrigger_mesh_policies_refused", "1 while the newest policies of the component are not in force, since they have faults.", nil, nil)
	policyStale   = prometheus.NewDesc("outrigger_mesh_policies_stale", "1 while the policies are those from before the start, and the component has not been asked.", nil, nil)
	heldInstances = prometheus.NewDesc("outrigger_mesh_instances_held", "Instances that the registry has dropped, too many at once to be believed.", nil, nil)
)

func (meshStats) Describe(to chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{policyChanges, policyRefused, policyStale, heldInstances} {
		to <- d
	}
}

func (m meshStats) Collect(to chan<- prometheus.Metric) {
	gauge := func(d *prometheus.Desc, v float64) {
		to <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, v)
	}
	flag := func(d *prometheus.Desc, on bool) {
		if on {
			gauge(d, 1)
		} else {
			gauge(d, 0)
		}
	}
	now := m.rules.State()
	to <- prometheus.MustNewConstMetric(policyChanges, prometheus.CounterValue, float64(now.Changes.Applied), "applied")
	to <- prometheus.MustNewConstMetric(policyChanges, prometheus.CounterValue, float64(now.Changes.Refused), "refused")
	flag(policyRefused, now.Refused != "")
	flag(policyStale, now.Stale)
	n := 0
	for _, s := range m.directory.Services() {
		n += s.Held
	}
	gauge(heldInstances, float64(n))
}

// rpcStats shows the figures of the relays of Bolt and Dubbo, as relayStats does those of gRPC.
type rpcStats struct{ relays map[string]*rpcproxy.Relay } // by the side they serve

var (
	rpcConnections = prometheus.NewDesc("outrigger_relay_rpc_connections", "Open connections of a relay of Bolt and Dubbo.", []string{"side", "direction"}, nil)
	rpcCalls       = prometheus.NewDesc("outrigger_relay_rpc_calls", "Calls that it carries now.", []string{"side"}, nil)
	rpcHeld        = prometheus.NewDesc("outrigger_relay_rpc_held_bytes", "Bytes that wait in it for their receivers.", []string{"side"}, nil)
	rpcLate        = prometheus.NewDesc("outrigger_relay_rpc_late_total", "Answers for which nobody waited any more.", []string{"side"}, nil)
	rpcFaults      = prometheus.NewDesc("outrigger_relay_rpc_faults_total", "Connections that ended for a fault of the peer's.", []string{"side"}, nil)
)

func (rpcStats) Describe(to chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{rpcConnections, rpcCalls, rpcHeld, rpcLate, rpcFaults} {
		to <- d
	}
}

func (r rpcStats) Collect(to chan<- prometheus.Metric) {
	for side, relay := range r.relays {
		s := relay.Stats()
		show := func(d *prometheus.Desc, kind prometheus.ValueType, v int64, labels ...string) {
			to <- prometheus.MustNewConstMetric(d, kind, float64(v), append([]string{side}, labels...)...)
		}
		show(rpcConnections, prometheus.GaugeValue, int64(s.Downstream), "downstream")
		show(rpcConnections, prometheus.GaugeValue, int64(s.Upstream), "upstream")
		show(rpcCalls, prometheus.GaugeValue, int64(s.Calls))
		show(rpcHeld, prometheus.GaugeValue, s.Held)
		show(rpcLate, prometheus.CounterValue, s.Late)
		show(rpcFaults, prometheus.CounterValue, s.Faults)
	}
}
