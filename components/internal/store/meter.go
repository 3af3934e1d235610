package store

import (
	"log/slog"
	"slices"
	"sync"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/outrigger-mesh/outrigger/components/internal/store/db"
)

// meters show what a process does with a store: once, whichever of its components are on it, beside the one that came first of those
// that are still there.
type meters struct {
	log  *slog.Logger
	what []prometheus.Collector

	mu  sync.Mutex
	all []*prometheus.Registerer // of the links; the first shows it
}

// measure makes those of a node: how many updates are committed together, as long as this process owns the store.
func (n *node) measure() {
	count := func(what func(*db.Stats) uint64) func() float64 {
		return func() float64 {
			if s := n.now(); s != nil && s.machines != nil {
				return float64(what(s.machines.db.Stats()))
			}
			return 0
		}
	}
	n.meters = meters{log: n.log, what: []prometheus.Collector{
		prometheus.NewCounterFunc(prometheus.CounterOpts{
			Name: "outrigger_store_commits_total", Help: "Groups of updates that this process has written together to the local store, while it owned it.",
		}, count((*db.Stats).Commits)),
		prometheus.NewCounterFunc(prometheus.CounterOpts{
			Name: "outrigger_store_updates_total", Help: "Updates in those groups, whichever component and sidecar they came from.",
		}, count((*db.Stats).Updates)),
	}}
}

// join adds a link's meter, which may be nil. leave takes it away.
func (m *meters) join(meter prometheus.Registerer) (leave func()) {
	if meter == nil {
		return func() {}
	}
	one := &meter
	m.mu.Lock()
	defer m.mu.Unlock()
	m.all = append(m.all, one)
	m.show(len(m.all) == 1)
	return func() {
		m.mu.Lock()
		defer m.mu.Unlock()
		first := m.all[0] == one
		m.all = slices.DeleteFunc(m.all, func(o *prometheus.Registerer) bool { return o == one })
		if first {
			for _, c := range m.what {
				meter.Unregister(c)
			}
		}
		m.show(first)
	}
}

// show has the first show it, if that is another one.
func (m *meters) show(other bool) {
	if !other || len(m.all) == 0 {
		return
	}
	for _, c := range m.what {
		if err := (*m.all[0]).Register(c); err != nil {
			m.log.Error("a metric of the store cannot be shown", "err", err)
		}
	}
}

// now is the session there is, if there is one.
func (n *node) now() *session {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.current
}
