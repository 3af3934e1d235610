package dtm

import (
	"context"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/outrigger-mesh/outrigger/components/transaction"
)

// meter shows how many transactions DTM has of the application that the driver drives which have not ended, and what hangs of those that
// this process knows.
type meter struct {
	d *driver

	mu    sync.Mutex          // one count at a time
	of    string              // the application
	count *transaction.Counts // nil: DTM did not answer
	next  time.Time           // not counted again before this
}

// DTM has no counts: its list of each state is read. Its store in a file reads all that it has for that, so this part of the time at most
// goes into it.
const (
	countPause = time.Second
	countPart  = 20
)

// unfinished are those that are counted.
var unfinished = []transaction.State{transaction.Prepared, transaction.Running, transaction.Committing, transaction.Aborting}

// Describe implements prometheus.Collector.
func (m *meter) Describe(out chan<- *prometheus.Desc) { transaction.Describe(out) }

// Collect implements prometheus.Collector. Where DTM does not answer it shows only what hangs.
func (m *meter) Collect(out chan<- prometheus.Metric) {
	var hanging transaction.Counts
	for _, k := range m.d.knownNow() {
		if k.stuck() {
			hanging.Stuck++
		}
	}
	hanging.CollectStuck(out)
	if s := m.d.driving.Load(); s != nil {
		if count := m.counted(s.application); count != nil {
			count.Collect(out, unfinished)
		}
	}
}

// counted is how many there were within these seconds, or nil.
func (m *meter) counted(app string) *transaction.Counts {
	m.mu.Lock()
	defer m.mu.Unlock()
	began := time.Now()
	if m.of == app && began.Before(m.next) {
		return m.count
	}
	ctx, cancel := context.WithTimeout(context.Background(), transaction.CountTime)
	defer cancel()
	count, err := m.d.countAll(ctx, app)
	if err != nil {
		m.d.log.Debug("transactions are not counted", "op", "drive", "err", err)
		count = nil
	}
	m.of, m.count, m.next = app, count, time.Now().Add(max(countPause, countPart*time.Since(began)))
	return count
}

func (d *driver) countAll(ctx context.Context, app string) (*transaction.Counts, error) {
	count := &transaction.Counts{}
	for _, status := range []string{statusPrepared, statusSubmitted, statusAborting} {
		if err := d.web.scan(ctx, status, time.Time{}, func(r *row) {
			if key, ours := d.keyOf(r.Gid); ours && application(key) == app && r.Status == status {
				i := head(key, r)
				count.Count(i.State, i.Began)
			}
		}); err != nil {
			return nil, err
		}
	}
	return count, nil
}
