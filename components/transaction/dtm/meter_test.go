package dtm_test

import (
	"context"
	"maps"
	"testing"
	"time"

	"github.com/dtm-labs/client/dtmgrpc/dtmgpb"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/outrigger-mesh/outrigger/components/transaction"
)

// metrics are those of a driver: by their names, those of states by the state.
func metrics(t testing.TB, of *prometheus.Registry) map[string]float64 {
	t.Helper()
	all, err := of.Gather()
	if err != nil {
		t.Fatal(err)
	}
	got := map[string]float64{}
	for _, family := range all {
		for _, m := range family.Metric {
			name := family.GetName()
			if len(m.Label) > 0 {
				name = m.Label[0].GetValue()
			}
			got[name] = m.GetGauge().GetValue()
		}
	}
	return got
}

// TestCounts: DTM is asked how many there are of the application in each state, how old the oldest is, and not at each look at the metrics.
func TestCounts(t *testing.T) {
	r := newRig(t, well)
	began := func(kind transaction.Kind, key, state string) {
		t.Helper()
		c := transaction.Content{Kind: kind, Policy: transaction.Policy{Timeout: time.Minute, CallTimeout: time.Second, FirstPause: time.Second, LongPause: time.Second}}
		if kind != transaction.TCC {
			c.Branches = []transaction.Branch{{ID: "1", Do: transaction.Target{Service: "stock", Method: "do"}}}
		}
		if _, err := r.driver.Begin(t.Context(), key, c); err != nil {
			t.Fatal(err)
		}
		r.fake.mu.Lock()
		gid := r.told[len(r.told)-1].Gid
		r.fake.mu.Unlock()
		r.becomes(gid, state)
	}
	began(transaction.Saga, application+"a", "submitted")
	began(transaction.Saga, application+"b", "submitted")
	began(transaction.Saga, application+"c", "aborting")
	began(transaction.Saga, application+"d", "succeed")
	began(transaction.TCC, application+"e", "prepared")
	began(transaction.TCC, application+"f", "submitted")
	began(transaction.Saga, "shop/others/g", "submitted")
	r.fake.mu.Lock()
	r.told = append(r.told, &dtmgpb.DtmRequest{Gid: "not of a sidecar", TransType: "saga"})
	r.kept["not of a sidecar"] = "submitted"
	r.lists = 0
	r.fake.mu.Unlock()

	var got map[string]float64
	for range 3 {
		got = metrics(t, r.meter)
	}
	const oldest = "outrigger_transaction_oldest_seconds"
	if age := got[oldest]; age < 60 || age > 120 {
		t.Errorf("the oldest is %v s old", age)
	}
	delete(got, oldest)
	want := map[string]float64{"PREPARED": 1, "RUNNING": 2, "COMMITTING": 1, "ABORTING": 1, "outrigger_transactions_stuck": 0}
	if !maps.Equal(got, want) {
		t.Errorf("counted are %v, want %v", got, want)
	}
	r.fake.mu.Lock()
	defer r.fake.mu.Unlock()
	if r.lists != 3 {
		t.Errorf("DTM was asked for %d lists, want one of each state", r.lists)
	}
}

// TestNoCounts: a DTM that does not answer is not taken for one without transactions.
func TestNoCounts(t *testing.T) {
	r := newRig(t, func(context.Context, *transaction.Call) error { return nil })
	r.fake.web.Close()
	if got := metrics(t, r.meter); len(got) != 1 {
		t.Errorf("counted are %v, want what is stuck alone", got)
	}
}
