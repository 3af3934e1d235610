package store

import (
	"errors"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/outrigger-mesh/outrigger/components/internal/store/db"
)

// Measure shows how many updates the store commits together, as long as this process owns it.
func (l *Link) Measure(meter prometheus.Registerer) error {
	if meter == nil {
		return nil
	}
	count := func(what func(*db.Stats) uint64) func() float64 {
		return func() float64 {
			if s := l.node.now(); s != nil && s.machines != nil {
				return float64(what(s.machines.db.Stats()))
			}
			return 0
		}
	}
	return errors.Join(
		meter.Register(prometheus.NewCounterFunc(prometheus.CounterOpts{
			Name: "outrigger_store_commits_total", Help: "Groups of updates that this process has written together to the local store, while it owned it.",
		}, count((*db.Stats).Commits))),
		meter.Register(prometheus.NewCounterFunc(prometheus.CounterOpts{
			Name: "outrigger_store_updates_total", Help: "Updates in those groups, whichever component and sidecar they came from.",
		}, count((*db.Stats).Updates))),
	)
}

// now is the session there is, if there is one.
func (n *node) now() *session {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.current
}
