package transaction

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// StuckAfter is at how many attempts a call that has to succeed is something that somebody should look at.
const StuckAfter = 10

// CountTime is what counting may take when metrics are asked for.
const CountTime = 2 * time.Second

// Counts is what the metrics of a driver tell of an application's transactions.
type Counts struct {
	States map[State]int64
	Oldest time.Time // when the oldest began that has not ended; zero: there is none
	Stuck  int64     // called StuckAfter times in vain
}

var (
	statesDesc = prometheus.NewDesc("outrigger_transactions", "Transactions of the application by state; those that have ended until they are forgotten, where the driver counts them.", []string{"state"}, nil)
	oldestDesc = prometheus.NewDesc("outrigger_transaction_oldest_seconds", "How long ago the oldest transaction began that has not ended; 0: there is none.", nil, nil)
	stuckDesc  = prometheus.NewDesc("outrigger_transactions_stuck", "Transactions that are being committed or rolled back with a branch that was called ten times in vain.", nil, nil)
)

// Describe is for collectors of counts.
func Describe(out chan<- *prometheus.Desc) {
	out <- statesDesc
	out <- oldestDesc
	out <- stuckDesc
}

// Collect shows how many there are of some states, and how old the oldest is.
func (c *Counts) Collect(out chan<- prometheus.Metric, states []State) {
	for _, s := range states {
		out <- prometheus.MustNewConstMetric(statesDesc, prometheus.GaugeValue, float64(c.States[s]), string(s))
	}
	age := time.Duration(0)
	if !c.Oldest.IsZero() {
		age = time.Since(c.Oldest)
	}
	out <- prometheus.MustNewConstMetric(oldestDesc, prometheus.GaugeValue, max(age, 0).Seconds())
}

// CollectStuck shows how many are stuck.
func (c *Counts) CollectStuck(out chan<- prometheus.Metric) {
	out <- prometheus.MustNewConstMetric(stuckDesc, prometheus.GaugeValue, float64(c.Stuck))
}

// Count takes in one that has not ended.
func (c *Counts) Count(s State, began time.Time) {
	if c.States == nil {
		c.States = map[State]int64{}
	}
	c.States[s]++
	c.Older(began)
}

// Older takes in when one began that has not ended.
func (c *Counts) Older(began time.Time) {
	if c.Oldest.IsZero() || began.Before(c.Oldest) {
		c.Oldest = began
	}
}
