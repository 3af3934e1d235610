package telemetry

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// maxMeshMeters bounds the services that have metrics of their own. Names of services come from requests too.
const maxMeshMeters = 1000

// other is the service of requests that are not counted by name.
const other = "other"

type meshKey struct{ direction, protocol, service, version string }

// MeshMeter times the requests of one service in one direction.
type MeshMeter struct {
	m     *Metrics
	key   meshKey
	codes table[string, prometheus.Observer]
}

// Mesh finds the meter of a service; the direction is inbound or outbound, the protocol grpc, http, bolt, dubbo or tcp. It is
// cheap enough for each request, and cheaper when kept with the route. When there are very many services, further ones
// share the meter of a service called other; an empty service means that one too, which is for requests that lead nowhere.
func (m *Metrics) Mesh(direction, protocol, service, version string) *MeshMeter {
	if service != "" {
		k := meshKey{direction, protocol, service, version}
		meter, ok := m.mesh.find(k)
		if !ok && !m.meshFull.Load() { // or all but the first thousand services would queue for a lock
			meter = m.mesh.get(k, m.newMesh)
		}
		if meter != nil {
			return meter
		}
	}
	return m.rest.get(meshKey{direction, protocol, other, ""}, m.newRest)
}

func (m *Metrics) newMesh(k meshKey, have int) (*MeshMeter, bool) {
	if have >= maxMeshMeters {
		m.meshFull.Store(true)
		return nil, false // and no entry either: names may come by the million
	}
	return m.newRest(k, have)
}

func (m *Metrics) newRest(k meshKey, _ int) (*MeshMeter, bool) { return &MeshMeter{m: m, key: k}, true }

// Observe counts a request that ended with a status of its protocol; -1 means that it ended without one.
func (m *MeshMeter) Observe(code int, took time.Duration) {
	m.codes.get(codeName(m.key.protocol, code), m.newCode).Observe(took.Seconds())
}

func (m *MeshMeter) newCode(code string, _ int) (prometheus.Observer, bool) {
	k := m.key
	return m.m.requests.WithLabelValues(k.direction, k.protocol, k.service, k.version, code), true
}
