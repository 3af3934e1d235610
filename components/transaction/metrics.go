package transaction

import "github.com/prometheus/client_golang/prometheus"

// StuckAfter is at how many attempts a call that has to succeed is something that somebody should look at.
const StuckAfter = 10

// Stuck is the metric for that, of every driver.
var Stuck = prometheus.NewDesc("outrigger_transactions_stuck", "Transactions that are being committed or rolled back with a branch that was called ten times in vain.", nil, nil)
